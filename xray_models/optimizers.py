"""Optimizers by name, and which rate and decay each parameter gets."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from transformers import TrainingArguments

OPTIMIZERS: dict[str, Callable[[float], tuple[type[torch.optim.Optimizer], dict[str, Any]]]] = {
    "adamw": lambda rate: (torch.optim.AdamW, {"lr": rate, "fused": True}),
    "adam": lambda rate: (torch.optim.Adam, {"lr": rate, "fused": True}),
    "sgd": lambda rate: (torch.optim.SGD, {"lr": rate, "momentum": 0.9, "nesterov": True}),
    "rmsprop": lambda rate: (torch.optim.RMSprop, {"lr": rate, "momentum": 0.9}),
}


def group_parameters(
    model: nn.Module, decaying: set[str], args: TrainingArguments, layer_decay: float
) -> list[dict[str, Any]]:
    """Groups parameters by weight decay and by depth.

    Each layer's rate is `layer_decay` times that of the layer above it (Clark et al., 2020, ELECTRA); embeddings
    count as layer 0, what is not in a numbered layer as the top.
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
    if "embeddings." in name or "patch_embed." in name or "stem" in name:
        return 0
    found = re.search(r"(?:layers?|blocks?|stages?)\.(\d+)\.", name)
    return int(found[1]) + 1 if found else None
