import dataclasses

import pytest
import torch
from safetensors.torch import save_file
from transformers import AutoModelForImageClassification

from xray_models.architectures import build_model, find_architecture, split_model
from xray_models.attribution import METHODS
from xray_models.recipes import Recipe
from xray_models.tasks import TaskError

LABELS = ["a", "b", "c d"]
RECIPE = Recipe(image_size=64)
PREFIXES = {  # a network of each kind: the number of its tokens that have no place, None where its features are a map
    "test_resnet": None,
    "test_mambaout": None,
    "test_vit": 2,
    "eva02_tiny_patch14_224": 1,
}


@pytest.mark.parametrize("name", PREFIXES)
def test_any_network_of_timm_splits_saves_and_loads(name, tmp_path):
    torch.manual_seed(0)
    side = 56 if "patch14" in name else 64
    model, spec = build_model(f"timm:{name}", LABELS, dataclasses.replace(RECIPE, image_size=side))
    model.save_pretrained(tmp_path)
    again = AutoModelForImageClassification.from_pretrained(tmp_path).eval()
    assert again.config.second_read == {"architecture": f"timm:{name}"}
    parts = split_model(again)
    assert parts.prefix == PREFIXES[name]
    inputs = torch.randn(2, 3, side, side)
    with torch.inference_mode():
        logits = model.eval()(pixel_values=inputs).logits
        torch.testing.assert_close(parts.head(parts.body(inputs)), logits, atol=1e-5, rtol=1e-5)
    plane = METHODS["grad_cam"](parts, inputs[:1], 0, spec)
    assert plane.shape[0] == plane.shape[1] >= 2
    assert torch.isfinite(plane).all()


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("mixer_s32_224", "neither a map"),
        ("convit_tiny", "does not depend on the places"),
        ("deit_tiny_distilled_patch16_224", "not in one linear layer"),
        ("resnetv2_50", "not in one linear layer"),
    ],
)
def test_a_network_without_such_places_is_refused(name, reason):
    with pytest.raises(TaskError, match=reason):
        build_model(f"timm:{name}", LABELS, RECIPE)


def test_a_size_that_a_network_cannot_have_is_refused():
    with pytest.raises(TaskError, match="100"):
        build_model("timm:test_vit", LABELS, dataclasses.replace(RECIPE, image_size=100))


def test_an_unknown_name_gets_the_near_ones():
    with pytest.raises(TaskError, match="Near: .*regnety_002"):
        build_model("timm:regnety_02", LABELS, RECIPE)


def test_a_name_says_its_size_and_its_weights(tmp_path):
    found = find_architecture("timm:test_vit")
    assert (found.title, found.image_size, found.weights) == ("test_vit", 160, "test_vit.safetensors")
    _, spec = build_model("timm:test_vit", LABELS, Recipe())
    assert (spec.height, spec.width) == (160, 160)
    model, _ = build_model("timm:test_resnet", LABELS, RECIPE)
    path = tmp_path / "test_resnet.safetensors"
    save_file({name: tensor.contiguous() for name, tensor in model.timm_model.state_dict().items()}, path)
    again, _ = build_model("timm:test_resnet", LABELS, RECIPE, path)
    assert torch.equal(again.timm_model.conv1[0].weight, model.timm_model.conv1[0].weight)
