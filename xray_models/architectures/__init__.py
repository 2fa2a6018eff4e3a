"""Every architecture: how it is built, what its input looks like, and where it splits into body and head.

A new architecture is one entry of `ARCHITECTURES`. The split is what attribution, calibration and the
out-of-distribution reference work on:

    body:       (B, C, H, W) input -> map (B, D, h, w), or tokens (B, prefix + h*w, D)
    pool:       map or tokens -> embedding (B, D')
    classifier: embedding -> logits (B, labels); the last linear layer, into which the temperature is folded
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from torch import nn
from transformers import PreTrainedModel

from xray_models.architectures import simple_cnn, timm_cnn, vit
from xray_models.architectures.parts import Parts
from xray_models.images import InputSpec
from xray_models.tasks import Recipe, TaskError, choose

__all__ = ["ARCHITECTURES", "Architecture", "Parts", "build_model", "split_model"]


@dataclasses.dataclass(frozen=True)
class Architecture:
    """One entry of `ARCHITECTURES`.

    Attributes:
        title: what people read.
        build: `(labels, recipe, weights) -> model`; `weights` is an ImageNet safetensors file or None.
        split: `model -> Parts`.
        weights: file name of the ImageNet weights that start a fine-tune, or "" where there are none.
    """

    title: str
    build: Callable[[Sequence[str], Recipe, Path | None], PreTrainedModel]
    split: Callable[[PreTrainedModel], Parts]
    weights: str = ""


def _build_simple_cnn(labels: Sequence[str], recipe: Recipe, weights: Path | None) -> PreTrainedModel:
    channels = [round(recipe.width * filters) for filters in (32, 64, 128)]
    config = simple_cnn.SimpleCnnConfig(
        channels=channels, image_size=recipe.image_size, id2label=dict(enumerate(labels))
    )
    return simple_cnn.SimpleCnnForImageClassification(config)


def _split_simple_cnn(model: Any) -> Parts:
    return Parts(model.features, nn.Sequential(model.pool, model.dropout), model.classifier)


ARCHITECTURES: dict[str, Architecture] = {
    "simple_cnn": Architecture("Small CNN (32-64-128)", _build_simple_cnn, _split_simple_cnn),
    "mobilenet_v2": Architecture(
        "MobileNetV2",
        timm_cnn.builder("mobilenetv2_100", pad_type="same"),
        timm_cnn.split,
        weights="mobilenetv2_100.safetensors",
    ),
    "resnet18": Architecture("ResNet-18", timm_cnn.builder("resnet18"), timm_cnn.split, weights="resnet18.safetensors"),
    "densenet121": Architecture(
        "DenseNet-121", timm_cnn.builder("densenet121"), timm_cnn.split, weights="densenet121.safetensors"
    ),
    "vit_tiny": Architecture("ViT-Ti/16", vit.build_tiny, vit.split, weights="vit_tiny_patch16_224.safetensors"),
}


def build_model(
    name: str, labels: Sequence[str], recipe: Recipe, weights: Path | None = None
) -> tuple[PreTrainedModel, InputSpec]:
    """Builds an untrained (or ImageNet-started) model whose config carries the labels and the architecture.

    Args:
        name: a key of `ARCHITECTURES`.
        labels: the task's labels, in the order of the logits.
        recipe: its `width` and `image_size` shape the model.
        weights: safetensors file with ImageNet weights, or None for random weights.

    Returns:
        The model, and the input that it takes.

    Raises:
        TaskError: for an unknown architecture, or a width or size that it cannot have.
    """
    architecture = ARCHITECTURES[choose("architecture", name, ARCHITECTURES)]
    model = architecture.build(labels, recipe, weights)
    model.config.id2label = dict(enumerate(labels))
    model.config.label2id = {label: index for index, label in enumerate(labels)}
    model.config.second_read = {"architecture": name}
    return model, InputSpec(recipe.image_size, recipe.image_size)


def split_model(model: PreTrainedModel) -> Parts:
    """Splits a loaded model into body, pool and classifier; they share the model's weights.

    Raises:
        TaskError: when the model's config does not say which architecture it is.
    """
    info = getattr(model.config, "second_read", None) or {}
    name = info.get("architecture")
    if name is None:
        raise TaskError(
            "the checkpoint's config.json has no `second_read.architecture`, so where its heatmaps come from is "
            f"not known. Add it; valid: {', '.join(ARCHITECTURES)}."
        )
    return ARCHITECTURES[choose("architecture", name, ARCHITECTURES)].split(model)
