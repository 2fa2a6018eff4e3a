"""Every architecture: how it is built, what its input looks like, and where it splits into body and head.

A new architecture is one entry of `ARCHITECTURES`. Beside the entries, `timm:<name>` is any network of timm, and
`hub:<folder or owner/name>` any image model of transformers, to be fine-tuned. The split is what attribution,
calibration and the out-of-distribution reference work on:

    body:       (B, C, H, W) input -> map (B, D, h, w), or tokens (B, prefix + h*w, D)
    pool:       map or tokens -> embedding (B, D')
    classifier: embedding -> logits (B, labels); the last linear layer, into which the temperature is folded

The registry itself does not import torch: what builds and splits a model is imported when it is first called.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xray_models.inputs import InputSpec
from xray_models.recipes import Recipe
from xray_models.tasks import TaskError, choose

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from xray_models.architectures.building import build_model, split_model
    from xray_models.architectures.parts import FusedParts, Parts

__all__ = [
    "ARCHITECTURES",
    "Architecture",
    "FusedParts",
    "Parts",
    "build_model",
    "find_architecture",
    "split_model",
]

_TIMM, HUB = "timm:", "hub:"
_LATER = {"build_model": "building", "split_model": "building", "FusedParts": "parts", "Parts": "parts"}


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_LATER[name]}"), name)


def _square(side: int) -> InputSpec:
    return InputSpec(side, side)


@dataclasses.dataclass(frozen=True)
class Architecture:
    """One entry of `ARCHITECTURES`.

    Attributes:
        title: what people read.
        build: `(labels, recipe, weights) -> model`; `weights` is an ImageNet safetensors file or None.
        split: `model -> Parts`.
        weights: file name of the ImageNet weights that start a fine-tune, or "" where there are none.
        image_size: side of the input in pixels where the recipe does not say; 0 leaves it to `prepare`.
        prepare: side of the input to all that is done to an image.
        own_head: whether `build` itself follows the recipe's `head` and `dropout`.
        checked: whether the tests have proved its split; else `build_model` does.
    """

    title: str
    build: Callable[[Sequence[str], Recipe, Path | None], PreTrainedModel]
    split: Callable[[PreTrainedModel], Parts | FusedParts]
    weights: str = ""
    image_size: int = 224
    prepare: Callable[[int], InputSpec] = _square
    own_head: bool = False
    checked: bool = True


def _later(module: str, find: Callable[[Any], Callable]) -> Callable:
    """What `find` takes from a module of this folder, imported when it is first called."""

    def call(*args: Any) -> Any:
        return find(importlib.import_module(f"{__name__}.{module}"))(*args)

    return call


def _timm(title: str, name: str, image_size: int = 224, **model_args: Any) -> Architecture:
    build = _later("timm_cnn", lambda module: module.builder(name, **model_args))
    return Architecture(
        title, build, _later("timm_cnn", lambda module: module.split), f"{name}.safetensors", image_size
    )


def _vit(title: str, name: str, width: int, heads: int) -> Architecture:
    build = _later("vit", lambda module: module.builder(width, heads))
    return Architecture(title, build, _later("vit", lambda module: module.split), f"{name}.safetensors")


def _own(title: str, find: Callable[[Any], Callable]) -> Architecture:
    split = _later("own_cnn", lambda module: module.split)
    return Architecture(title, _later("own_cnn", find), split, own_head=True)


def _build_fusion(labels: Sequence[str], recipe: Recipe, weights: Path | None) -> PreTrainedModel:
    raise TaskError("a fusion is built from trained members: name them under `members:` in hub_configs.")


_V1 = (32, 32, 32, 32), (3, 3, 3, 3)
_V2 = (32, 64, 128, 256), (7, 5, 3, 3)

ARCHITECTURES: dict[str, Architecture] = {
    "simple_cnn": _own("Small CNN", lambda own: own.build_simple_cnn),
    "bone_cnn_v1": _own("Bone CNN v1", lambda own: own.bone_builder(*_V1)),
    "bone_cnn_v2": _own("Bone CNN v2", lambda own: own.bone_builder(*_V2, units=512)),
    "bone_cnn_v2_slim": _own("Bone CNN v2, slim", lambda own: own.bone_builder(*_V2, units=128)),
    "bone_cnn_v2_grey": _own("Bone CNN v2, one channel", lambda own: own.bone_builder(*_V2, units=512, grey=True)),
    "mobilenet_v1": _timm("MobileNetV1", "mobilenetv1_100"),
    "mobilenet_v2": _timm("MobileNetV2", "mobilenetv2_100", pad_type="same"),
    "mobilenet_v3_small": _timm("MobileNetV3-Small", "mobilenetv3_small_100"),
    "resnet18": _timm("ResNet-18", "resnet18"),
    "resnet50": _timm("ResNet-50", "resnet50"),
    "densenet121": _timm("DenseNet-121", "densenet121"),
    "xception": _timm("Xception", "legacy_xception", image_size=299),
    "inception_v3": _timm("Inception-v3", "inception_v3", image_size=299),
    "efficientnet_b0": _timm("EfficientNet-B0", "efficientnet_b0"),
    "efficientnet_b4": _timm("EfficientNet-B4", "efficientnet_b4", image_size=380),
    "convnext_tiny": _timm("ConvNeXt-T", "convnext_tiny"),
    "vit_tiny": _vit("ViT-Ti/16", "vit_tiny_patch16_224", width=192, heads=3),
    "vit_small": _vit("ViT-S/16", "vit_small_patch16_224", width=384, heads=6),
    "vit_base": _vit("ViT-B/16", "vit_base_patch16_224", width=768, heads=12),
    "fusion": Architecture(
        "Feature fusion", _build_fusion, _later("building", lambda module: module.split_fusion), own_head=True
    ),
}


def find_architecture(name: str) -> Architecture:
    """Finds an architecture by its name.

    Args:
        name: a key of `ARCHITECTURES`, `timm:<name>`, or `hub:<folder or owner/name>`, optionally `@<revision>`.

    Raises:
        TaskError: for a name that neither the registry nor timm knows.
    """
    if name.startswith(_TIMM):
        from xray_models.architectures import timm_cnn

        network = timm_cnn.check_name(name.removeprefix(_TIMM))
        side = timm_cnn.input_side(network)
        return dataclasses.replace(_timm(network, network, side), checked=False)
    if name.startswith(HUB):
        from xray_models.architectures import pretrained

        source = pretrained.find_source(name.removeprefix(HUB))
        return Architecture(
            source.name.rpartition("/")[2],
            pretrained.builder(source),
            pretrained.split,
            image_size=0,
            prepare=functools.partial(pretrained.read_spec, source),
            checked=False,
        )
    return ARCHITECTURES[choose("architecture", name, [*ARCHITECTURES, "timm:<name>", "hub:<owner/name>"])]
