"""Optimizers by name, and which rate and decay each parameter gets."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from transformers import TrainingArguments

from xray_models.tasks import TaskError

OPTIMIZERS: dict[str, Callable[[float], tuple[type[torch.optim.Optimizer], dict[str, Any]]]] = {
    "adamw": lambda rate: (torch.optim.AdamW, {"lr": rate, "fused": True}),
    "adam": lambda rate: (torch.optim.Adam, {"lr": rate, "fused": True}),
    "sgd": lambda rate: (torch.optim.SGD, {"lr": rate, "momentum": 0.9, "nesterov": True}),
    "rmsprop": lambda rate: (torch.optim.RMSprop, {"lr": rate, "momentum": 0.9}),
}
_LAYER = re.compile(r"(?:layers?|blocks?|stages?|transition)(?:\.(\d+)|(\d+))\.")  # from 0 after a point, else from 1
_TOKEN = re.compile(r"(?:^|\.)(?:cls_token|dist_token|reg_token|pos_embed)(?:\.|$)")
_FIRST = re.compile(r"(?:^|\.)(?:conv1|bn1|conv0|norm0)\.")  # the stem's, where they are in no layer


def check_layers(model: nn.Module, layer_decay: float) -> None:
    """Raises `TaskError` where rates were to fall from layer to layer, and the model's layers have no numbers."""
    trained = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    if layer_decay != 1 and not any(map(_depth, trained)):
        raise TaskError(
            f"layer_decay is {layer_decay:g}, but nothing that is trained in this model is in a numbered layer. "
            "Leave it at 1."
        )


def group_parameters(
    model: nn.Module, decaying: set[str], args: TrainingArguments, layer_decay: float
) -> list[dict[str, Any]]:
    """Groups parameters by weight decay and by depth.

    Each layer's rate is `layer_decay` times that of the layer above it (Clark et al., 2020, ELECTRA); embeddings
    and the stem count as layer 0, what is not in a numbered layer as the top.
    """
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    number = {name: _depth(name) for name, _ in named}
    top = max((n for n in number.values() if n is not None), default=0) + 1
    groups: dict[tuple[int, bool], dict[str, Any]] = {}
    for name, parameter in named:
        depth = number[name]
        depth = top if depth is None or layer_decay == 1 else depth
        group = groups.setdefault(
            (depth, name in decaying),
            {
                "params": [],
                "weight_decay": args.weight_decay if name in decaying else 0.0,
                "lr": args.learning_rate * layer_decay ** (top - depth),
            },
        )
        group["params"].append(parameter)
    return list(groups.values())


def _depth(name: str) -> int | None:
    if "embeddings." in name or "patch_embed." in name or "stem" in name or _TOKEN.search(name):
        return 0
    if found := _LAYER.search(name):
        return int(found[1]) + 1 if found[1] else int(found[2])
    return 0 if _FIRST.search(name) else None
