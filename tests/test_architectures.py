import ast
import dataclasses
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file
from transformers import AutoModelForImageClassification, PreTrainedModel

from xray_models import architectures
from xray_models.architectures import ARCHITECTURES, build_model, split_model
from xray_models.attribution import METHODS
from xray_models.calibration import Scaling, fold_scaling
from xray_models.images import InputSpec, from_input
from xray_models.recipes import Recipe
from xray_models.tasks import TaskError

LABELS = ["a", "b", "c d"]
RECIPE = Recipe()
SMALL = dataclasses.replace(RECIPE, image_size=128)
BUILT = [name for name in ARCHITECTURES if name != "fusion"]  # a fusion is built from trained members

PARAMETERS = {  # with ImageNet's 1000 labels, as their authors, torchvision or timm count them
    "mobilenet_v1": 4_231_976,
    "mobilenet_v2": 3_504_872,
    "mobilenet_v3_small": 2_542_856,
    "resnet18": 11_689_512,
    "resnet50": 25_557_032,
    "densenet121": 7_978_856,
    "xception": 22_855_952,
    "inception_v3": 23_834_568,
    "efficientnet_b0": 5_288_548,
    "efficientnet_b4": 19_341_616,
    "convnext_tiny": 28_589_128,
    "vit_tiny": 5_717_416,
    "vit_small": 22_050_664,
    "vit_base": 86_567_656,
}
SIDES = {"xception": 299, "inception_v3": 299, "efficientnet_b4": 380}


class Built(NamedTuple):
    name: str
    model: PreTrainedModel
    spec: InputSpec
    inputs: torch.Tensor
    logits: torch.Tensor


@pytest.fixture(scope="module", params=BUILT)
def built(request):
    torch.manual_seed(0)
    model, spec = build_model(request.param, LABELS, SMALL)
    inputs = torch.randn(2, 3, 128, 128)
    with torch.inference_mode():
        logits = model.eval()(pixel_values=inputs).logits
    return Built(request.param, model, spec, inputs, logits)


@torch.inference_mode()
def test_the_parts_compute_what_the_model_computes(built):
    assert built.logits.shape == (2, 3)
    parts = split_model(built.model)
    features = parts.body(built.inputs)
    torch.testing.assert_close(parts.head(features), built.logits, atol=1e-5, rtol=1e-5)
    assert parts.pool(features).shape == (2, parts.classifier.in_features)
    assert torch.equal(parts.fuse(parts.gather(features)), parts.pool(features))
    grid, prefix = parts.to_map(features)
    assert grid.ndim == 4
    assert grid.shape[2] == grid.shape[3] >= 2
    assert torch.equal(parts.from_map(grid, prefix), features)


def test_grad_cam_gives_a_map_of_the_images_shape(built):
    plane = METHODS["grad_cam"](split_model(built.model), built.inputs[:1], 1, built.spec).numpy()
    heatmap = from_input(plane, (150, 200), built.spec)
    assert heatmap.shape == (150, 200)
    assert np.isfinite(heatmap).all()
    assert heatmap.min() >= 0


def test_auto_classes_load_what_was_saved_and_a_calibration_folds_in(built, tmp_path):
    built.model.save_pretrained(tmp_path)
    again = AutoModelForImageClassification.from_pretrained(tmp_path, use_safetensors=True).eval()
    assert type(again) is type(built.model)
    assert again.config.id2label == dict(enumerate(LABELS))
    assert again.config.second_read == {"architecture": built.name}
    assert not list(tmp_path.glob("*.bin"))
    biases = tuple(float(k) for k in range(len(LABELS)))
    fold_scaling(split_model(again).classifier, Scaling(2.0, biases))
    with torch.inference_mode():
        expected = built.logits / 2 + torch.tensor(biases)
        torch.testing.assert_close(again(pixel_values=built.inputs).logits, expected)


@pytest.mark.parametrize("name", PARAMETERS)
def test_each_is_the_published_network(name):
    with torch.device("meta"):
        model, _ = build_model(name, [str(number) for number in range(1000)], RECIPE)
    assert sum(parameter.numel() for parameter in model.parameters()) == PARAMETERS[name]


@pytest.mark.parametrize("name", BUILT)
def test_each_takes_its_own_size_unless_the_recipe_says_another(name):
    with torch.device("meta"):
        _, spec = build_model(name, LABELS, RECIPE)
    assert spec == InputSpec(SIDES.get(name, 224), SIDES.get(name, 224))


@pytest.mark.parametrize("name", ["mobilenet_v2", "inception_v3", "vit_tiny"])
def test_imagenet_weights_arrive_without_their_classifier(name, tmp_path):
    torch.manual_seed(1)
    timm_name = Path(ARCHITECTURES[name].weights).stem
    options = {"mobilenet_v2": {"pad_type": "same"}, "inception_v3": {"aux_logits": True}}.get(name, {})
    source = timm.create_model(timm_name, num_classes=1000, **options).eval()
    path = tmp_path / ARCHITECTURES[name].weights
    save_file({key: tensor.contiguous() for key, tensor in source.state_dict().items()}, path)
    side = {"vit_tiny": 224, "inception_v3": 299}.get(name, 128)
    model, _ = build_model(name, LABELS, dataclasses.replace(RECIPE, image_size=side), path)
    parts = split_model(model.eval())
    inputs = torch.randn(1, 3, side, side)
    with torch.inference_mode():
        features = source.forward_features(inputs)
        features = features[0] if isinstance(features, tuple) else features  # beside Inception's second classifier
        expected = source.forward_head(features, pre_logits=True)
        torch.testing.assert_close(parts.pool(parts.body(inputs)), expected, atol=1e-4, rtol=1e-4)


def test_a_vits_positions_are_resampled_for_another_size(tmp_path):
    path = tmp_path / "vit_tiny_patch16_224.safetensors"
    source = timm.create_model("vit_tiny_patch16_224")
    save_file({key: tensor.contiguous() for key, tensor in source.state_dict().items()}, path)
    model, _ = build_model("vit_tiny", LABELS, dataclasses.replace(RECIPE, image_size=112), path)
    positions = model.vit.embeddings.position_embeddings
    assert positions.shape == (1, 1 + 7 * 7, 192)
    torch.testing.assert_close(positions[:, 0], source.pos_embed[:, 0])
    with pytest.raises(TaskError, match="multiple of 16"):
        build_model("vit_tiny", LABELS, dataclasses.replace(RECIPE, image_size=100))


def test_weights_of_another_network_are_refused(tmp_path):
    path = tmp_path / "resnet18.safetensors"
    save_file({"conv1.weight": torch.zeros(64, 3, 7, 7)}, path)
    with pytest.raises(TaskError, match="first key that differs"):
        build_model("resnet18", LABELS, RECIPE, path)
    save_file({"conv1.weight": torch.zeros(64, 3, 3, 3)}, path)
    with pytest.raises(TaskError, match="does not fit"):
        build_model("resnet18", LABELS, RECIPE, path)


def test_width_shapes_the_model():
    def count(name, width):
        model, _ = build_model(name, LABELS, dataclasses.replace(SMALL, width=width))
        return sum(parameter.numel() for parameter in model.parameters())

    with torch.device("meta"):
        assert count("resnet18", 0.25) < count("resnet18", 1.0) / 12
        assert count("bone_cnn_v2", 0.5) < count("bone_cnn_v2", 1.0)
        for name in ("vit_tiny", "mobilenet_v2"):
            with pytest.raises(TaskError, match="width"):
                count(name, 0.5)


def test_the_bone_cnns_differ_as_their_names_say():
    v1, v2, slim, grey = (
        build_model(name, LABELS, SMALL)[0].eval()
        for name in ("bone_cnn_v1", "bone_cnn_v2", "bone_cnn_v2_slim", "bone_cnn_v2_grey")
    )
    assert {conv.weight.shape[0] for conv in _convolutions(v1)} == {32}
    assert [conv.kernel_size[0] for conv in _convolutions(v2)] == [7, 5, 3, 3]
    assert slim.classifier.in_features < v2.classifier.in_features
    assert _convolutions(grey)[0].weight.shape == (32, 1, 7, 7)
    inputs = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        mixed = grey(pixel_values=inputs.mean(dim=1, keepdim=True).expand(-1, 3, -1, -1)).logits
        torch.testing.assert_close(grey(pixel_values=inputs).logits, mixed)


def _convolutions(model):
    return [module for module in model.modules() if isinstance(module, torch.nn.Conv2d)]


def test_a_checkpoint_that_does_not_say_its_architecture_splits_by_its_type():
    model, _ = build_model("simple_cnn", LABELS, SMALL)
    model.config.second_read = None
    assert split_model(model).classifier is model.classifier
    model.config.model_type = "perceiver"
    with pytest.raises(TaskError, match="where a model of type 'perceiver' splits is not known"):
        split_model(model)
    with pytest.raises(TaskError, match="Did you mean 'resnet18'"):
        build_model("resnet_18", LABELS, SMALL)


@pytest.mark.parametrize("name", ["simple_cnn", "bone_cnn", "headed"])
def test_files_that_go_to_the_hub_need_torch_and_transformers_alone(name):
    path = Path(architectures.__file__).with_name(f"{name}.py")
    nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    found = {str(node.module).split(".")[0] for node in nodes if isinstance(node, ast.ImportFrom)}
    found |= {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    assert found <= {"__future__", "typing", "torch", "transformers"}


def test_a_vits_last_block_computes_the_class_token_alone_and_the_same():
    torch.manual_seed(0)
    parts = split_model(build_model("vit_tiny", LABELS, Recipe(image_size=64))[0].eval())
    layer, norm = parts.pool.layer, parts.pool.norm
    tokens = torch.randn(3, 17, 192)
    found = []
    for whole in (False, True):
        normed = layer.layernorm_before(tokens).detach().requires_grad_()
        if whole:
            hook = layer.layernorm_before.register_forward_hook(lambda *_, normed=normed: normed)
            out = norm(layer(tokens))[:, 0]
            hook.remove()
        else:
            out = parts.pool(torch.cat([tokens[:, :1], normed], dim=1))
        out.square().sum().backward()
        found.append((out.detach(), normed.grad))
    for quick, full in zip(*found, strict=True):
        torch.testing.assert_close(quick, full, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["simple_cnn", "resnet18", "vit_tiny", "timm:test_vit", "timm:test_convnext"])
def test_gradient_times_activation_is_more_than_rounding(name):
    """Behind a norm, the sum over a place's channels is 0 in theory: what is left of it is no map of anything."""
    torch.manual_seed(0)
    model, spec = build_model(name, LABELS, Recipe(image_size=64))
    parts = split_model(model.eval())
    inputs = torch.randn(2, len(spec.mean), 64, 64)
    grid, prefix = parts.to_map(parts.body(inputs))
    grid = grid.detach().requires_grad_()
    parts.pool(parts.from_map(grid, prefix))[:, :4].sum().backward()
    products = grid * grid.grad
    assert products.sum(dim=1).abs().max() > 1e-3 * products.abs().sum(dim=1).max()


@pytest.mark.parametrize(
    ("name", "change", "says"),
    [
        ("densenet121", {"image_size": 16}, "densenet121 does not run on 16 x 16 pixels"),
        ("inception_v3", {"image_size": 40}, "inception_v3 does not run on 40 x 40 pixels"),
        ("simple_cnn", {"width": 0.01}, "width is 0.01, which leaves none of a block's 32 filters"),
        ("bone_cnn_v1", {"width": 0.01}, "Raise it"),
        ("timm:vit_tiny_patch16_224", {"image_size": 100}, "image_size is 100; .* multiple of its patches' 16 pixels"),
    ],
)
def test_a_size_that_a_network_cannot_have_is_said_before_it_trains(name, change, says):
    with pytest.raises(TaskError, match=says):
        build_model(name, ["a", "b"], Recipe(**change))
