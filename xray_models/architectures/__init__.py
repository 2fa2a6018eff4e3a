"""Every architecture: how it is built, what its input looks like, and where it splits into body and head.

A new architecture is one entry of `ARCHITECTURES`. Beside the entries, `timm:<name>` is any network of timm, and
`hub:<folder or owner/name>` any image model of transformers, to be fine-tuned. The split is what attribution,
calibration and the out-of-distribution reference work on:

    body:       (B, C, H, W) input -> map (B, D, h, w), or tokens (B, prefix + h*w, D)
    pool:       map or tokens -> embedding (B, D')
    classifier: embedding -> logits (B, labels); the last linear layer, into which the temperature is folded
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from xray_models.architectures import heads, own_cnn, pretrained, timm_cnn, vit
from xray_models.architectures.headed import HeadedConfig
from xray_models.architectures.parts import FusedParts, Parts
from xray_models.architectures.split_check import check_split
from xray_models.images import InputSpec
from xray_models.tasks import Recipe, TaskError, choose

__all__ = [
    "ARCHITECTURES",
    "Architecture",
    "FusedParts",
    "Parts",
    "build_model",
    "find_architecture",
    "split_model",
]

_TIMM, _HUB = "timm:", "hub:"


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


def _timm(title: str, name: str, image_size: int = 224, **model_args: Any) -> Architecture:
    build = timm_cnn.builder(name, **model_args)
    return Architecture(title, build, timm_cnn.split, f"{name}.safetensors", image_size)


def _vit(title: str, name: str, width: int, heads: int) -> Architecture:
    return Architecture(title, vit.builder(width, heads), vit.split, f"{name}.safetensors")


def _own(title: str, build: Callable[[Sequence[str], Recipe, Path | None], PreTrainedModel]) -> Architecture:
    return Architecture(title, build, own_cnn.split, own_head=True)


def _build_fusion(labels: Sequence[str], recipe: Recipe, weights: Path | None) -> PreTrainedModel:
    raise TaskError("a fusion is built from trained members: name them under `members:` in hub_configs.")


def _split_fusion(model: Any) -> FusedParts:
    members: list[Any] = [split_model(own) for own in model.members.values()]
    return FusedParts(tuple(members), model.fuse, model.classifier)


_V1 = (32, 32, 32, 32), (3, 3, 3, 3)
_V2 = (32, 64, 128, 256), (7, 5, 3, 3)

ARCHITECTURES: dict[str, Architecture] = {
    "simple_cnn": _own("Small CNN (32-64-128)", own_cnn.build_simple_cnn),
    "bone_cnn_v1": _own("Bone CNN v1", own_cnn.bone_builder(*_V1)),
    "bone_cnn_v2": _own("Bone CNN v2", own_cnn.bone_builder(*_V2, units=512)),
    "bone_cnn_v2_slim": _own("Bone CNN v2, slim", own_cnn.bone_builder(*_V2, units=128)),
    "bone_cnn_v2_grey": _own("Bone CNN v2, one channel", own_cnn.bone_builder(*_V2, units=512, grey=True)),
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
    "fusion": Architecture("Feature fusion", _build_fusion, _split_fusion, own_head=True),
}


def find_architecture(name: str) -> Architecture:
    """Finds an architecture by its name.

    Args:
        name: a key of `ARCHITECTURES`, `timm:<name>`, or `hub:<folder or owner/name>`, optionally `@<revision>`.

    Raises:
        TaskError: for a name that neither the registry nor timm knows.
    """
    if name.startswith(_TIMM):
        network = timm_cnn.check_name(name.removeprefix(_TIMM))
        side = timm_cnn.input_side(network)
        return dataclasses.replace(_timm(network, network, side), checked=False)
    if name.startswith(_HUB):
        source = pretrained.find_source(name.removeprefix(_HUB))
        return Architecture(
            source.name.rpartition("/")[2],
            pretrained.builder(source),
            pretrained.split,
            image_size=0,
            prepare=functools.partial(pretrained.read_spec, source),
            checked=False,
        )
    return ARCHITECTURES[choose("architecture", name, [*ARCHITECTURES, "timm:<name>", "hub:<owner/name>"])]


def build_model(
    name: str, labels: Sequence[str], recipe: Recipe, weights: Path | None = None
) -> tuple[PreTrainedModel, InputSpec]:
    """Builds an untrained (or ImageNet-started) model whose config carries the labels and the architecture.

    Args:
        name: as in `find_architecture`.
        labels: the task's labels, in the order of the logits.
        recipe: its `head`, `dropout`, `width` and `image_size` shape the model. An `image_size` of 0 leaves it to
            the architecture.
        weights: safetensors file with ImageNet weights, or None for random weights.

    Returns:
        The model, and the input that it takes.

    Raises:
        TaskError: for an unknown architecture, a width or size that it cannot have, or a network that cannot be
            split for heatmaps.
    """
    architecture = find_architecture(name)
    said = recipe.image_size != Recipe.image_size
    spec = architecture.prepare(recipe.image_size if said else architecture.image_size)
    if spec.height != spec.width:
        raise TaskError(f"{name} takes {spec.height} x {spec.width} pixels; only squares are built. Set image_size.")
    recipe = dataclasses.replace(recipe, image_size=spec.height)
    model = architecture.build(labels, recipe, weights)
    model.config.second_read = {"architecture": _published(name)}
    if not architecture.own_head:
        parts: Any = split_model(model)
        if not architecture.checked:
            check_split(model, parts, spec, name)
        model = heads.attach_head(model, parts, labels, recipe)
    model.config.id2label = dict(enumerate(labels))
    model.config.label2id = {label: index for index, label in enumerate(labels)}
    model.config.second_read = {"architecture": _published(name)}
    return model, spec


def _published(name: str) -> str:
    """The name as it is stored with the weights: without the path of a local folder."""
    return _HUB + pretrained.find_source(name.removeprefix(_HUB)).name if name.startswith(_HUB) else name


def split_model(model: PreTrainedModel) -> Parts | FusedParts:
    """Splits a loaded model into body, pool and classifier; they share the model's weights.

    Raises:
        TaskError: when the model's config does not say which architecture it is, or that is unknown.
    """
    info = getattr(model.config, "second_read", None) or {}
    name = info.get("architecture")
    if name is None:
        raise TaskError(
            "the checkpoint's config.json has no `second_read.architecture`, so where its heatmaps come from is "
            f"not known. Add it; valid: {', '.join(ARCHITECTURES)}."
        )
    split = find_architecture(name).split
    if isinstance(model.config, HeadedConfig):
        headed: Any = model
        body: Any = split(headed.body)
        return heads.split_headed(headed, body)
    return split(model)
