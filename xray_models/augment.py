"""Augmentation policies by name, on torchvision's transforms v2. A new policy is one entry of `POLICIES`."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torchvision.transforms import v2

Policy = Callable[[torch.Tensor], torch.Tensor]

_BILINEAR = v2.InterpolationMode.BILINEAR


def _none(size: tuple[int, int]) -> Policy:
    return v2.Identity()


def _radiograph(size: tuple[int, int]) -> Policy:
    """Small changes of position and exposure, as between two visits, noise, and cut-out.

    No flips: a mirrored chest is another finding (situs inversus), and side markers would read backwards.
    """
    return v2.Compose(
        [
            v2.RandomAffine(degrees=8, translate=(0.06, 0.06), scale=(0.9, 1.1), shear=4, interpolation=_BILINEAR),
            v2.ColorJitter(brightness=0.2, contrast=0.25),
            v2.RandomApply([v2.Lambda(_add_noise)], p=0.5),
            v2.RandomErasing(p=0.25, scale=(0.02, 0.1), value=0),
        ]
    )


def _add_noise(image: torch.Tensor) -> torch.Tensor:
    """Adds Gaussian noise of up to 4 % of full scale to a uint8 image."""
    strength = 0.04 * 255 * torch.rand(1)
    return (image + strength * torch.randn(image.shape)).clamp(0, 255).to(torch.uint8)


def _covid(size: tuple[int, int]) -> Policy:
    """The COVID project's: rotation, flips, resized crops and exposure.

    Flips, since none of its four labels depends on the side: viral and bacterial opacities come on both.
    """
    return v2.Compose(
        [
            v2.RandomHorizontalFlip(),
            v2.RandomRotation(20, interpolation=_BILINEAR),
            v2.RandomResizedCrop(size, scale=(0.75, 1.0), ratio=(0.9, 1.1), antialias=True),
            v2.ColorJitter(brightness=0.2, contrast=0.25),
        ]
    )


def _light(size: tuple[int, int]) -> Policy:
    """Flips and little else: for a pretrained network and a few epochs. Only where no label depends on the side."""
    return v2.Compose(
        [
            v2.RandomHorizontalFlip(),
            v2.RandomAffine(degrees=6, translate=(0.04, 0.04), scale=(0.95, 1.08), interpolation=_BILINEAR),
            v2.ColorJitter(brightness=0.08, contrast=0.1),
        ]
    )


def _brain(size: tuple[int, int]) -> Policy:
    """Shift, scale and rotation, brightness and contrast, and left-right flips: a slice has no side that matters."""
    return v2.Compose(
        [
            v2.RandomHorizontalFlip(),
            v2.RandomAffine(degrees=15, translate=(0.06, 0.06), scale=(0.9, 1.1), interpolation=_BILINEAR),
            v2.ColorJitter(brightness=0.15, contrast=0.15),
        ]
    )


def _autoaugment(size: tuple[int, int]) -> Policy:
    """AutoAugment's ImageNet policy (Cubuk et al., 2019)."""
    return v2.AutoAugment(interpolation=_BILINEAR)


POLICIES: dict[str, Callable[[tuple[int, int]], Policy]] = {
    "none": _none,
    "light": _light,
    "radiograph": _radiograph,
    "covid": _covid,
    "brain": _brain,
    "autoaugment": _autoaugment,
}
"""Name to a maker of a policy: from (height, width) to what takes and returns one (1, H, W) uint8 image."""
