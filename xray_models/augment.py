"""Augmentation policies by name, on torchvision's transforms v2. A new policy is one entry of `POLICIES`."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torchvision.transforms import v2

Policy = Callable[[torch.Tensor], torch.Tensor]

_BILINEAR = v2.InterpolationMode.BILINEAR


def _none() -> Policy:
    return v2.Identity()


def _radiograph() -> Policy:
    """Small changes of position and exposure, as between two visits, and cut-out.

    No flips: a mirrored chest is another finding (situs inversus), and side markers would read backwards.
    """
    return v2.Compose(
        [
            v2.RandomAffine(degrees=8, translate=(0.06, 0.06), scale=(0.9, 1.1), shear=4, interpolation=_BILINEAR),
            v2.ColorJitter(brightness=0.2, contrast=0.25),
            v2.RandomErasing(p=0.25, scale=(0.02, 0.1), value=0),
        ]
    )


POLICIES: dict[str, Callable[[], Policy]] = {"none": _none, "radiograph": _radiograph}
"""Name to a maker of a policy, which takes and returns one (1, H, W) uint8 image."""
