"""Builds the architectures of the registry, and splits what was loaded."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from xray_models.architectures import HUB, find_architecture, heads, pretrained
from xray_models.architectures.headed import HeadedConfig
from xray_models.architectures.parts import FusedParts, Parts
from xray_models.architectures.split_check import check_split
from xray_models.images import InputSpec
from xray_models.recipes import Recipe
from xray_models.tasks import TaskError


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
    parts: Any = split_model(model)
    reshaped = said or recipe.width != Recipe.width  # the tests have seen none but its own size
    if not architecture.checked or (reshaped and model.device.type != "meta"):
        check_split(model, parts, spec, name)
    if not architecture.own_head:
        model = heads.attach_head(model, parts, labels, recipe)
    model.config.id2label = dict(enumerate(labels))
    model.config.label2id = {label: index for index, label in enumerate(labels)}
    model.config.second_read = {"architecture": _published(name)}
    return model, spec


def _published(name: str) -> str:
    """The name as it is stored with the weights: without the path of a local folder."""
    return HUB + pretrained.find_source(name.removeprefix(HUB)).name if name.startswith(HUB) else name


def name_architecture(model: PreTrainedModel) -> str | None:
    """The architecture that a model's config says; None for a model that was trained elsewhere."""
    info = getattr(model.config, "second_read", None) or {}
    name: str | None = info.get("architecture")
    return name


def split_model(model: PreTrainedModel) -> Parts | FusedParts:
    """Splits a loaded model into body, pool and classifier; they share the model's weights.

    A model that was trained elsewhere does not say its architecture; it splits by its `model_type`.

    Raises:
        TaskError: when the architecture that the model's config says is unknown, or the parts of its type are.
    """
    name = name_architecture(model)
    if name is None:
        return pretrained.split(model)
    split = find_architecture(name).split
    if isinstance(model.config, HeadedConfig):
        headed: Any = model
        body: Any = split(headed.body)
        return heads.split_headed(headed, body)
    return split(model)


def split_fusion(model: Any) -> FusedParts:
    """Splits a fusion whose members can be split."""
    members: list[Any] = [split_model(own) for own in model.members.values()]
    return FusedParts(tuple(members), model.fuse, model.classifier)
