import dataclasses

import pytest
import torch
from safetensors.torch import save_file
from transformers import AutoModelForImageClassification

from xray_models.architectures import ARCHITECTURES, build_model, split_model
from xray_models.tasks import Recipe, TaskError

LABELS = ["a", "b", "c d"]
RECIPE = Recipe()


@pytest.fixture(scope="module", params=ARCHITECTURES)
def model(request):
    torch.manual_seed(0)
    built, spec = build_model(request.param, LABELS, RECIPE)
    assert (spec.height, spec.width) == (224, 224)
    return built.eval()


@torch.inference_mode()
def test_the_parts_compute_what_the_model_computes(model):
    inputs = torch.randn(2, 3, 224, 224)
    parts = split_model(model)
    features = parts.body(inputs)
    torch.testing.assert_close(parts.head(features), model(pixel_values=inputs).logits)
    assert parts.pool(features).shape == (2, parts.classifier.in_features)


@torch.inference_mode()
def test_features_become_a_map_and_back(model):
    parts = split_model(model)
    features = parts.body(torch.randn(2, 3, 224, 224))
    grid, prefix = parts.to_map(features)
    assert grid.ndim == 4
    assert grid.shape[2] == grid.shape[3] >= 7
    assert torch.equal(parts.from_map(grid, prefix), features)


@torch.inference_mode()
def test_auto_classes_load_what_was_saved(model, tmp_path):
    model.save_pretrained(tmp_path)
    again = AutoModelForImageClassification.from_pretrained(tmp_path).eval()
    inputs = torch.randn(1, 3, 224, 224)
    torch.testing.assert_close(again(pixel_values=inputs).logits, model(pixel_values=inputs).logits)
    assert again.config.id2label == dict(enumerate(LABELS))
    assert again.config.second_read == model.config.second_read
    assert not list(tmp_path.glob("*.bin"))


@pytest.mark.parametrize("name", ["mobilenet_v2", "vit_tiny"])
def test_imagenet_weights_arrive_without_their_classifier(name, tmp_path):
    torch.manual_seed(1)
    import timm

    timm_name = {"mobilenet_v2": "mobilenetv2_100", "vit_tiny": "vit_tiny_patch16_224"}[name]
    options = {"pad_type": "same"} if name == "mobilenet_v2" else {}
    source = timm.create_model(timm_name, num_classes=1000, **options).eval()
    path = tmp_path / ARCHITECTURES[name].weights
    save_file({key: tensor.contiguous() for key, tensor in source.state_dict().items()}, path)
    model, _ = build_model(name, LABELS, RECIPE, path)
    parts = split_model(model.eval())
    inputs = torch.randn(2, 3, 224, 224)
    with torch.inference_mode():
        expected = source.forward_head(source.forward_features(inputs), pre_logits=True)
        torch.testing.assert_close(parts.pool(parts.body(inputs)), expected, atol=1e-4, rtol=1e-4)


def test_weights_of_another_network_are_refused(tmp_path):
    path = tmp_path / "resnet18.safetensors"
    save_file({"conv1.weight": torch.zeros(64, 3, 7, 7)}, path)
    with pytest.raises(TaskError, match="first key that differs"):
        build_model("resnet18", LABELS, RECIPE, path)


def test_width_and_size_shape_the_model():
    narrow, spec = build_model("resnet18", LABELS, dataclasses.replace(RECIPE, width=0.25, image_size=96))
    full, _ = build_model("resnet18", LABELS, RECIPE)
    assert spec.height == 96
    assert sum(p.numel() for p in narrow.parameters()) < sum(p.numel() for p in full.parameters()) / 12
    for name in ("vit_tiny", "mobilenet_v2"):
        with pytest.raises(TaskError, match="width"):
            build_model(name, LABELS, dataclasses.replace(RECIPE, width=0.5))


def test_a_checkpoint_that_does_not_say_its_architecture_is_refused():
    model, _ = build_model("simple_cnn", LABELS, RECIPE)
    model.config.second_read = None
    with pytest.raises(TaskError, match="second_read.architecture"):
        split_model(model)
