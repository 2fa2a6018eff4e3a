"""The project's own CNNs: how a recipe shapes them, and how they split."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from torch import nn
from transformers import PreTrainedModel

from xray_models.architectures.bone_cnn import BoneCnnConfig, BoneCnnForImageClassification
from xray_models.architectures.heads import DROPOUT, UNITS
from xray_models.architectures.parts import Parts
from xray_models.architectures.simple_cnn import SimpleCnnConfig, SimpleCnnForImageClassification
from xray_models.recipes import Recipe
from xray_models.tasks import TaskError

_DROPOUT = 0.2  # without dense units, where the recipe says nothing


def build_simple_cnn(labels: Sequence[str], recipe: Recipe, weights: Path | None) -> PreTrainedModel:
    """Builds the small CNN of the COVID project."""
    config = SimpleCnnConfig(
        channels=_widen((32, 64, 128), recipe.width),
        image_size=recipe.image_size,
        id2label=dict(enumerate(labels)),
        **_head_of(recipe, 0),
    )
    return SimpleCnnForImageClassification(config)


def bone_builder(
    filters: Sequence[int], kernels: Sequence[int], units: int = 0, grey: bool = False
) -> Callable[[Sequence[str], Recipe, Path | None], PreTrainedModel]:
    """Returns a builder of one of the bone project's CNNs.

    Args:
        filters: of each block, at width 1.
        kernels: side of each block's filters.
        units: dense units that it always has; 0 leaves them to the recipe.
        grey: whether the first filters see one channel.
    """

    def build(labels: Sequence[str], recipe: Recipe, weights: Path | None) -> PreTrainedModel:
        config = BoneCnnConfig(
            filters=_widen(filters, recipe.width),
            kernels=list(kernels),
            grey=grey,
            image_size=recipe.image_size,
            id2label=dict(enumerate(labels)),
            **_head_of(recipe, units),
        )
        return BoneCnnForImageClassification(config)

    return build


def split(model: Any) -> Parts:
    """Splits an own CNN at its last feature map."""
    return Parts(model.features, nn.Sequential(model.pool, model.head, model.dropout), model.classifier)


def _widen(filters: Sequence[int], width: float) -> list[int]:
    """Filters of each block at a width; raises `TaskError` where it leaves a block none."""
    widened = [round(width * number) for number in filters]
    if not all(widened):
        raise TaskError(f"width is {width}, which leaves none of a block's {min(filters)} filters. Raise it.")
    return widened


def _head_of(recipe: Recipe, units: int) -> dict[str, Any]:
    units = units or (UNITS if recipe.head == "dense" else 0)
    own = DROPOUT if units else _DROPOUT
    return {"units": units, "dropout": own if recipe.dropout is None else recipe.dropout}
