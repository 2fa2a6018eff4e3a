"""Class activation maps: what the last features that have a place add to a score, by the gradient of the head alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from captum.attr import LayerGradCam, LayerGradientXActivation
from torch import nn

from xray_models.architectures import FusedParts, Parts
from xray_models.images import InputSpec


def grad_cam(parts: Parts | FusedParts, inputs: torch.Tensor, target: int, spec: InputSpec) -> torch.Tensor:
    """Grad-CAM (Selvaraju et al., 2017) at the last features that have a place; needs the head's gradient alone.

    It weighs each channel by its mean gradient: meant for networks that pool their last map by the mean. Where a class
    token gathers what it wants from each place, prefer HiResCAM.
    """
    return _cam(parts, inputs, target, _cam_of_head)


def hires_cam(parts: Parts | FusedParts, inputs: torch.Tensor, target: int, spec: InputSpec) -> torch.Tensor:
    """HiResCAM (Draelos & Carin, 2020): the same features, each weighed by its own gradient at its own place."""
    return _cam(parts, inputs, target, _hires_cam_of_head)


def _cam(
    parts: Parts | FusedParts,
    inputs: torch.Tensor,
    target: int,
    of_head: Callable[[Parts, Any, int], torch.Tensor],
) -> torch.Tensor:
    """A map from the last features; a fusion's is the sum of its members', each for the fusion's own score."""
    with torch.no_grad():
        features = parts.body(inputs)
    if isinstance(parts, Parts):
        return of_head(parts, features, target)
    maps = [of_head(parts.seen_through(i, features), own, target) for i, own in enumerate(features)]
    rows, columns = (max(m.shape[axis] for m in maps) for axis in (0, 1))
    total = torch.zeros(rows, columns)
    for own in maps:
        fine = nn.functional.interpolate(own[None, None], (rows, columns), mode="bilinear")[0, 0].cpu()
        total += fine * own.numel() / fine.numel()  # what a member adds to the score is spread over its cells
    return total


def _cam_of_head(parts: Parts, features: Any, target: int) -> torch.Tensor:
    head, grid, prefix = _enter(parts, features)
    maps = LayerGradCam(head, head.entry).attribute(
        grid, target=target, additional_forward_args=(prefix,), relu_attributions=True
    )
    return maps[0, 0].detach()


def _hires_cam_of_head(parts: Parts, features: Any, target: int) -> torch.Tensor:
    head, grid, prefix = _enter(parts, features)
    products = LayerGradientXActivation(head, head.entry).attribute(
        grid, target=target, additional_forward_args=(prefix,)
    )
    return products[0].sum(dim=0).relu().detach()


def _enter(parts: Parts, features: Any) -> tuple[_Head, torch.Tensor, torch.Tensor | None]:
    grid, prefix = parts.to_map(features)
    return _Head(parts), grid.detach().requires_grad_(), prefix


class _Head(nn.Module):
    """Map (B, D, h, w) and tokens without a place to logits; `entry` is the layer that Captum hooks."""

    def __init__(self, parts: Parts):
        super().__init__()
        self.entry = nn.Identity()
        self.parts = parts

    def forward(self, grid: torch.Tensor, prefix: torch.Tensor | None) -> torch.Tensor:
        return self.parts.head(self.parts.from_map(self.entry(grid), prefix))
