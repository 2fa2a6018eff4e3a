import dataclasses
import errno
import re

import pytest
import torch
import transformers
from huggingface_hub.utils import httpx
from safetensors.torch import load_file, save_file
from transformers import AutoModelForImageClassification, ViTImageProcessorPil

from xray_models.architectures import build_model, split_model
from xray_models.architectures.pretrained import find_source, read_spec
from xray_models.architectures.split_check import check_split
from xray_models.attribution import METHODS
from xray_models.checkpoints import weigh_checkpoint
from xray_models.images import InputSpec
from xray_models.recipes import Recipe
from xray_models.tasks import ModelRef, TaskError

LABELS = ["a", "b", "c d"]
RECIPE = Recipe()
TOKENS = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "image_size": 56, "patch_size": 14}
STAGES = {"hidden_sizes": [8, 16], "depths": [1, 1]}
KINDS = {  # one small model of each kind whose split is known, and its tokens without a place, normed ones included
    "ViT": (TOKENS | {"intermediate_size": 64}, 2),
    "DeiT": (TOKENS | {"intermediate_size": 64}, 3),
    "Dinov2": (TOKENS, 1),
    "Dinov2WithRegisters": (TOKENS | {"num_register_tokens": 3}, 4),
    "Swin": ({"embed_dim": 16, "depths": [1, 1], "num_heads": [2, 2], "window_size": 7, "image_size": 56}, 0),
    "Swinv2": ({"embed_dim": 16, "depths": [1, 1], "num_heads": [2, 2], "window_size": 7, "image_size": 56}, 0),
    "ConvNext": (STAGES | {"num_stages": 2}, None),
    "ConvNextV2": (STAGES | {"num_stages": 2}, None),
    "ResNet": (STAGES | {"embedding_size": 8}, None),
}


def save_source(folder, kind="Dinov2", suffix="ForImageClassification", **processing):
    """Saves a small untrained model of one kind, with five labels of its own, as it lies on the Hub."""
    torch.manual_seed(0)
    config = getattr(transformers, f"{kind}Config")(**KINDS[kind][0], num_labels=5)
    model = getattr(transformers, f"{kind}{suffix}")(config)
    model.save_pretrained(folder)
    settings = {"size": {"height": 56, "width": 56}, "image_mean": [0.25] * 3, "image_std": [0.5] * 3, "resample": 3}
    ViTImageProcessorPil(**(settings | processing)).save_pretrained(folder)
    return model


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_of_each_kind_splits_saves_and_loads(kind, tmp_path):
    save_source(tmp_path / "source", kind)
    model, spec = build_model(f"hub:{tmp_path / 'source'}", LABELS, RECIPE)
    assert spec == InputSpec(56, 56, (0.25,) * 3, (0.5,) * 3, "bicubic")
    model.save_pretrained(tmp_path / "tuned")
    again = AutoModelForImageClassification.from_pretrained(tmp_path / "tuned").eval()
    assert again.config.id2label == dict(enumerate(LABELS))
    assert weigh_checkpoint(None, ModelRef("tuned", checkpoint=str(tmp_path / "tuned"))) == again.get_memory_footprint()
    parts = split_model(again)
    assert parts.prefix == KINDS[kind][1]
    inputs = torch.randn(2, 3, 56, 56)
    with torch.inference_mode():
        logits = model.eval()(pixel_values=inputs).logits
        torch.testing.assert_close(parts.head(parts.body(inputs)), logits, atol=1e-5, rtol=1e-5)
    plane = METHODS["grad_cam"](parts, inputs[:1], 0, spec)
    assert plane.shape[0] == plane.shape[1] >= 2
    assert torch.isfinite(plane).all()


@pytest.mark.parametrize("head", ["linear", "dense"])
def test_a_body_without_a_classifier_gets_one(head, tmp_path):
    source = save_source(tmp_path / "body", suffix="Model")
    model, _ = build_model(f"hub:{tmp_path / 'body'}", LABELS, dataclasses.replace(RECIPE, head=head))
    body = model.body if head == "dense" else model
    expected, found = source.state_dict(), body.dinov2.state_dict()
    assert set(found) == set(expected)
    assert all(torch.equal(found[name], expected[name]) for name in found)
    model.save_pretrained(tmp_path / "tuned")
    again = AutoModelForImageClassification.from_pretrained(tmp_path / "tuned").eval()
    inputs = torch.randn(2, 3, 56, 56)
    with torch.inference_mode():
        torch.testing.assert_close(again(pixel_values=inputs).logits, model.eval()(pixel_values=inputs).logits)
        parts = split_model(again)
        torch.testing.assert_close(parts.head(parts.body(inputs)), again(pixel_values=inputs).logits)


def test_the_path_of_a_folder_is_not_published(tmp_path):
    save_source(tmp_path / "body")
    model, _ = build_model(f"hub:{tmp_path / 'body'}", LABELS, RECIPE)
    assert model.config.second_read == {"architecture": "hub:body"}
    assert str(tmp_path) not in model.config.to_json_string()


def test_a_repository_can_be_pinned():
    assert find_source("owner/name@0123abc") == ("owner/name", "0123abc")
    assert find_source("owner/name").name == "owner/name"
    assert find_source("owner/name@0123abc").name == "owner/name@0123abc"


def test_the_input_is_what_the_image_processor_says(tmp_path):
    save_source(tmp_path)
    transformers.BitImageProcessorPil(
        size={"shortest_edge": 64}, crop_size={"height": 56, "width": 56}, image_mean=[0.4] * 3, resample=2
    ).save_pretrained(tmp_path)
    _, spec = build_model(f"hub:{tmp_path}", LABELS, RECIPE)
    assert (spec.height, spec.width, spec.mean, spec.resample, spec.fit) == (56, 56, (0.4,) * 3, "bilinear", "squash")


def test_the_recipe_sets_the_size_where_the_network_allows(tmp_path):
    larger = dataclasses.replace(RECIPE, image_size=84)
    save_source(tmp_path / "dinov2")
    model, spec = build_model(f"hub:{tmp_path / 'dinov2'}", LABELS, larger)
    assert spec.height == 84
    assert split_model(model).body(torch.randn(1, 3, 84, 84)).shape == (1, 1 + 6 * 6, 32)
    save_source(tmp_path / "vit", "ViT")
    with pytest.raises(TaskError, match="does not run on 84 x 84"):
        build_model(f"hub:{tmp_path / 'vit'}", LABELS, larger)


@pytest.mark.parametrize("name", ["resnet18", "vit_tiny", "simple_cnn"])
@pytest.mark.parametrize("labels", [["x", "y"], ["x", "y", "z"], LABELS])
def test_the_labels_are_the_new_ones_and_so_is_a_classifier_for_others(name, labels, tmp_path):
    """Also where there are as many: the classifier of other labels knows nothing of these."""
    first, _ = build_model(name, labels, dataclasses.replace(RECIPE, image_size=64 if name != "vit_tiny" else 224))
    first.save_pretrained(tmp_path / "first")
    side = {"height": 224, "width": 224}
    ViTImageProcessorPil(size=side, image_mean=[0.5] * 3, image_std=[0.5] * 3).save_pretrained(tmp_path / "first")
    model, _ = build_model(f"hub:{tmp_path / 'first'}", LABELS, RECIPE)
    model.save_pretrained(tmp_path / "tuned")
    again = AutoModelForImageClassification.from_pretrained(tmp_path / "tuned")
    assert again.config.id2label == dict(enumerate(LABELS))
    kept, known = split_model(model).classifier.weight, split_model(first).classifier.weight
    assert (kept.shape == known.shape and torch.equal(kept, known)) == (labels == LABELS)


def test_an_own_model_can_be_tuned_for_another_task(tmp_path):
    small = dataclasses.replace(RECIPE, image_size=64, width=0.25)
    first, _ = build_model("resnet18", ["x", "y"], small)
    first.save_pretrained(tmp_path)
    model, spec = build_model(f"hub:{tmp_path}", LABELS, RECIPE)
    assert spec == InputSpec(64, 64)
    assert model.config.pretrained_cfg["crop_mode"] == "squash"
    assert torch.equal(model.timm_model.conv1.weight, first.timm_model.conv1.weight)
    assert split_model(model).classifier.out_features == 3


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("nothing", "cannot be read"),
        ("pickle", "safetensors"),
        ("width", "comes as it is"),
        ("pixels", "scales pixels"),
    ],
)
def test_what_cannot_be_tuned_is_refused(fault, reason, tmp_path):
    recipe = RECIPE
    if fault != "nothing":
        model = save_source(tmp_path, do_rescale=fault != "pixels")
    if fault == "pickle":
        (tmp_path / "model.safetensors").unlink()
        torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    if fault == "width":
        recipe = dataclasses.replace(RECIPE, width=0.5)
    with pytest.raises(TaskError, match=reason):
        build_model(f"hub:{tmp_path}", LABELS, recipe)


def make_refusal():
    refused = httpx.ConnectError("refused")
    refused.__cause__ = PermissionError(errno.EPERM, "Operation not permitted")
    return refused


@pytest.mark.parametrize(
    ("cause", "place", "says"),
    [
        (
            OSError(errno.ENOSPC, "No space left on device"),
            "ward/source",
            "ward/source cannot be pulled, since nothing can be written to the Hub's cache: No space left on device. ",
        ),
        (make_refusal(), "ward/source", "as transformers puts it"),
        (PermissionError(errno.EACCES, "Permission denied"), "tests", "as transformers puts it"),  # a folder's own
    ],
)
def test_a_repository_that_finds_no_room_here_is_not_called_unfit(cause, place, says, monkeypatch):
    def fail(*_, **__):
        raise OSError("as transformers puts it") from cause

    for loader in (transformers.AutoConfig, AutoModelForImageClassification):
        monkeypatch.setattr(loader, "from_pretrained", fail)
    with pytest.raises(TaskError, match=re.escape(says)):
        build_model(f"hub:{place}", LABELS, RECIPE)
    with pytest.raises(TaskError, match=re.escape(says)):
        read_spec(find_source(place))


def test_a_kind_whose_split_is_not_known_is_refused(tmp_path):
    config = transformers.MobileNetV1Config(depth_multiplier=0.25, image_size=56)
    transformers.MobileNetV1ForImageClassification(config).save_pretrained(tmp_path)
    ViTImageProcessorPil(size={"height": 56, "width": 56}).save_pretrained(tmp_path)
    with pytest.raises(TaskError, match="'mobilenet_v1' splits is not known"):
        build_model(f"hub:{tmp_path}", LABELS, RECIPE)


def test_tokens_whose_places_are_no_square_are_refused():
    config = transformers.ViTConfig(**TOKENS | {"intermediate_size": 64, "image_size": (224, 56)}, num_labels=5)
    model = transformers.ViTForImageClassification(config)  # 16 x 4 places, as many as 8 x 8
    with pytest.raises(TaskError, match="a strip takes tokens of an input of 224 x 56 pixels"):
        check_split(model, split_model(model), InputSpec(224, 56), "a strip")


def test_weights_that_lack_a_part_are_refused(tmp_path):
    save_source(tmp_path)
    state = load_file(tmp_path / "model.safetensors")
    del state["dinov2.layernorm.weight"]
    save_file(state, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(TaskError, match="would be random"):
        build_model(f"hub:{tmp_path}", LABELS, RECIPE)


@pytest.mark.parametrize("text", ["/no/such/model", "./model", "runs/of/mine"])
def test_a_folder_that_is_not_there_is_not_taken_for_a_repository(text):
    with pytest.raises(TaskError, match=f"There is no folder {text}"):
        find_source(text)
