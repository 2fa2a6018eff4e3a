"""Augmentation policies by name, on torchvision's transforms v2. A new policy is one entry of `POLICIES`."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torchvision.transforms import v2

Policy = Callable[[torch.Tensor], torch.Tensor]

_BILINEAR = v2.InterpolationMode.BILINEAR


class _Affine(v2.Transform):
    """`v2.RandomAffine` with bilinear interpolation, in less than half its time.

    Args:
        degrees: rotation, at most, to either side.
        shift: in each direction, at most, as a share of the side.
        scale: least and largest magnification.
        shear: of the rows, at most, in degrees.
    """

    def __init__(self, degrees: float, shift: float, scale: tuple[float, float], shear: float = 0.0):
        super().__init__()
        self.degrees, self.shift, self.scale, self.shear = degrees, shift, scale, shear

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Moves one (C, H, W) uint8 image; what comes in from outside is 0."""
        draw = (2 * torch.rand(4) - 1).tolist()
        low, high = self.scale
        scale = low + (high - low) * float(torch.rand(()))
        shift = (self.shift * draw[1], self.shift * draw[2])
        return move(image, self.degrees * draw[0], shift, scale, self.shear * draw[3])


def move(
    image: torch.Tensor, degrees: float, shift: tuple[float, float], scale: float, shear: float = 0.0
) -> torch.Tensor:
    """Shears, turns, magnifies and shifts an image about its centre, as `torchvision.transforms.v2.functional.affine`.

    Args:
        image: (C, H, W) uint8.
        degrees: of the rotation, clockwise.
        shift: to the right and downwards, as shares of width and height.
        scale: above 1 magnifies.
        shear: of the rows, in degrees.

    Returns:
        (C, H, W) uint8, interpolated bilinearly; 0 where nothing was.
    """
    height, width = image.shape[-2:]
    turn, slant = math.radians(degrees), math.tan(math.radians(shear))
    cos, sin = math.cos(turn), math.sin(turn)
    # from a place in the result to that in the image: the inverse of scale x rotation x shear
    a, b = (cos - slant * sin) / scale, (sin + slant * cos) / scale * height / width
    c, d = -sin / scale * width / height, cos / scale
    right, down = 2 * shift[0], 2 * shift[1]  # in the grid's coordinates, which go from -1 to 1
    x, y = (2 * torch.arange(width) + 1) / width - 1, (2 * torch.arange(height)[:, None] + 1) / height - 1
    grid = torch.empty(1, height, width, 2)  # as `F.affine_grid` has it, in a fifth of the time
    torch.add(a * x - (a * right + b * down), b * y, out=grid[0, ..., 0])
    torch.add(c * x - (c * right + d * down), d * y, out=grid[0, ..., 1])
    return F.grid_sample(image[None].float(), grid, align_corners=False)[0].round_().to(torch.uint8)


def _none(size: tuple[int, int]) -> Policy:
    return v2.Identity()


def _radiograph(size: tuple[int, int]) -> Policy:
    """Small changes of position and exposure, as between two visits, noise, and cut-out.

    No flips: a mirrored chest is another finding (situs inversus), and side markers would read backwards.
    """
    return v2.Compose(
        [
            _Affine(degrees=8, shift=0.06, scale=(0.9, 1.1), shear=4),
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
            _Affine(degrees=6, shift=0.04, scale=(0.95, 1.08)),
            v2.ColorJitter(brightness=0.08, contrast=0.1),
        ]
    )


def _brain(size: tuple[int, int]) -> Policy:
    """Shift, scale and rotation, brightness and contrast, and left-right flips: a slice has no side that matters."""
    return v2.Compose(
        [
            v2.RandomHorizontalFlip(),
            _Affine(degrees=15, shift=0.06, scale=(0.9, 1.1)),
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
