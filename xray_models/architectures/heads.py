"""What a recipe puts on top of a network that has no head of its own: dropout, or dense units."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from xray_models.architectures.headed import HeadedConfig, HeadedForImageClassification
from xray_models.architectures.parts import Parts
from xray_models.recipes import Recipe

UNITS = 256  # of the dense head
DROPOUT = 0.5  # of the dense head, where the recipe says 0
_NOT_BODY = (
    "id2label",
    "label2id",
    "num_classes",
    "label_names",
    "dtype",
    "architectures",
    "second_read",
    "transformers_version",
)


def attach_head(model: PreTrainedModel, parts: Parts, labels: Sequence[str], recipe: Recipe) -> PreTrainedModel:
    """Gives a network the head that a recipe asks for.

    Args:
        model: a network with one linear layer as its head.
        parts: its parts.
        labels: the task's labels.
        recipe: its `head` and `dropout`.

    Returns:
        The same model for a linear head; a `HeadedForImageClassification` around its weights for a dense one.
    """
    if recipe.head == "dense":
        dropout = DROPOUT if recipe.dropout is None else recipe.dropout
        return _wrap(model, find_name(model, parts.classifier), labels, dropout)
    if recipe.dropout:
        _drop_before(parts.classifier, recipe.dropout)
    return model


def split_headed(model: Any, body: Parts) -> Parts:
    """Splits a `HeadedForImageClassification`, given the parts of its body."""
    return Parts(body.body, nn.Sequential(body.pool, model.head), model.classifier, body.prefix)


def find_name(model: nn.Module, wanted: nn.Module) -> str:
    """Dotted name of a module of a model."""
    return next(name for name, module in model.named_modules() if module is wanted)


def _wrap(model: PreTrainedModel, classifier: str, labels: Sequence[str], dropout: float) -> PreTrainedModel:
    raw = model.config.to_dict()
    config = HeadedConfig(
        body={key: value for key, value in raw.items() if key not in _NOT_BODY},
        classifier=classifier,
        units=UNITS,
        dropout=dropout,
        id2label=dict(enumerate(labels)),
    )
    headed = HeadedForImageClassification(config)
    state = {name: value for name, value in model.state_dict().items() if not name.startswith(f"{classifier}.")}
    headed.body.load_state_dict(state)
    return headed


def _drop_before(classifier: nn.Module, probability: float) -> None:
    """Drops inputs of the last layer in training; nothing is added to the weights or to the saved model."""

    def drop(module: nn.Module, inputs: tuple[torch.Tensor]) -> torch.Tensor:
        return nn.functional.dropout(inputs[0], probability, module.training)

    classifier.register_forward_pre_hook(drop)
