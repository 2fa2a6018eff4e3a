"""Varies a whole batch by an augmentation policy.

A batch is varied at once, on the device that its network computes on. What happens to each image follows from its own
row of random numbers alone: neither the other images of its batch nor the number of processes change it.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from torchvision.transforms import v2

from xray_models.policies import Policy

DRAWS = 21  # random numbers that an image needs
AUTO = v2.AutoAugment(interpolation=v2.InterpolationMode.BILINEAR)
"""AutoAugment of one (1, H, W) uint8 image, by torch's global random numbers."""


def vary(images: torch.Tensor, draws: np.ndarray, policy: Policy) -> torch.Tensor:
    """Varies a batch by all of a policy but AutoAugment.

    Args:
        images: (N, 1, H, W) uint8, on any device.
        draws: (N, DRAWS) in [0, 1), each row the random numbers of one image.
        policy: how much.

    Returns:
        (N, 1, H, W) float32 in [0, 255]; 0 where nothing was.
    """
    drawn = iter(draws.T)
    images = _place(images, drawn, policy)
    images = _expose(images, drawn, policy)
    if policy.noise:
        _add_noise(images, drawn, policy.noise)
    if policy.cut:
        _cut_out(images, drawn, policy.cut)
    return images


def move(
    images: torch.Tensor,
    degrees: np.ndarray,
    shift: tuple[np.ndarray, np.ndarray],
    scale: tuple[np.ndarray, np.ndarray],
    shear: np.ndarray,
) -> torch.Tensor:
    """Shears, turns, magnifies and shifts images about their centre, as `torchvision.transforms.v2.functional.affine`.

    Args:
        images: (N, 1, H, W), on any device.
        degrees: (N,) of the rotation, clockwise.
        shift: (N,) to the right and (N,) downwards, as shares of width and height.
        scale: (N,) across and (N,) down; above 1 magnifies, below 0 mirrors.
        shear: (N,) of the rows, in degrees.

    Returns:
        (N, 1, H, W) float32, interpolated bilinearly; 0 where nothing was.
    """
    height, width = images.shape[-2:]
    turn, slant = np.radians(degrees), np.tan(np.radians(shear))
    cos, sin = np.cos(turn), np.sin(turn)
    # from a place in the result to that in the image: the inverse of scale x rotation x shear
    a, b = (cos - slant * sin) / scale[0], (sin + slant * cos) / scale[1] * height / width
    c, d = -sin / scale[0] * width / height, cos / scale[1]
    right, down = 2 * shift[0], 2 * shift[1]  # in the grid's coordinates, which go from -1 to 1
    across, along = -(a * right + b * down), -(c * right + d * down)
    parts = np.stack([a, b, across, c, d, along]).astype(np.float32)
    a, b, across, c, d, along = torch.from_numpy(parts).to(images.device).view(6, -1, 1, 1)
    x = (2 * torch.arange(width, device=images.device) + 1) / width - 1
    y = (2 * torch.arange(height, device=images.device)[:, None] + 1) / height - 1
    grid = torch.empty(2, len(images), height, width, device=images.device)  # in a fiftieth of `F.affine_grid`'s time
    torch.add(a * x + across, b * y, out=grid[0])
    torch.add(c * x + along, d * y, out=grid[1])
    return F.grid_sample(images.float(), grid.permute(1, 2, 3, 0), align_corners=False)


def _place(images: torch.Tensor, drawn: Iterator[np.ndarray], policy: Policy) -> torch.Tensor:
    """Mirrors, turns, shifts, magnifies, shears and crops, all in one interpolation."""
    mirrored = 1 - 2 * (policy.flip & (next(drawn) < 0.5))
    degrees, shear = (most * (2 * next(drawn) - 1) for most in (policy.degrees, policy.shear))
    right, down = (policy.shift * (2 * next(drawn) - 1) for _ in range(2))
    scale, area, ratio = (low + (high - low) * next(drawn) for low, high in (policy.scale, policy.crop, policy.ratio))
    wide, high = np.minimum(np.sqrt(area * ratio), 1), np.minimum(np.sqrt(area / ratio), 1)  # of the part that is seen
    right, down = right + (1 / wide - 1) * (next(drawn) - 0.5), down + (1 / high - 1) * (next(drawn) - 0.5)
    return move(images, degrees, (right, down), (mirrored * scale / wide, scale / high), shear)


def _expose(images: torch.Tensor, drawn: Iterator[np.ndarray], policy: Policy) -> torch.Tensor:
    """Changes brightness, then contrast, as torchvision's `adjust_brightness` and `adjust_contrast`."""
    factors = [1 + most * (2 * next(drawn) - 1) for most in (policy.brightness, policy.contrast)]
    brightness, contrast = torch.from_numpy(np.stack(factors).astype(np.float32)).to(images.device).view(2, -1, 1, 1, 1)
    if policy.brightness:
        images.mul_(brightness).clamp_(0, 255)
    if policy.contrast:
        mean = images.mean(dim=(1, 2, 3), keepdim=True)
        images.mul_(contrast).add_((1 - contrast) * mean).clamp_(0, 255)
    return images


def _add_noise(images: torch.Tensor, drawn: Iterator[np.ndarray], most: float) -> None:
    """Adds a window of a field of noise: one drawn anew for each image would take as long as all the rest."""
    height, width = images.shape[-2:]
    chosen, strength = next(drawn) < 0.5, 255 * most * next(drawn)
    top, left = (((1 + side) * next(drawn)).astype(int) for side in (height, width))
    field = _draw_noise(2 * height, 2 * width, images.device)
    for place in np.flatnonzero(chosen).tolist():
        window = field[top[place] : top[place] + height, left[place] : left[place] + width]
        images[place].add_(window, alpha=float(strength[place])).clamp_(0, 255)


@functools.lru_cache(maxsize=2)
def _draw_noise(height: int, width: int, device: torch.device) -> torch.Tensor:
    """A field of standard Gaussian noise, (height, width), the same on every machine."""
    return torch.from_numpy(np.random.default_rng(0).standard_normal((height, width), dtype=np.float32)).to(device)


def _cut_out(images: torch.Tensor, drawn: Iterator[np.ndarray], share: float) -> None:
    """Zhong et al., 2020, "Random erasing data augmentation", with its ratios of the sides."""
    height, width = images.shape[-2:]
    chosen, area, ratio = next(drawn) < share, 0.02 + 0.08 * next(drawn), np.exp(np.log(3.3) * (2 * next(drawn) - 1))
    tall, wide = np.sqrt(area * ratio), np.sqrt(area / ratio)
    top, left = next(drawn) * (1 - tall), next(drawn) * (1 - wide)
    for place in np.flatnonzero(chosen).tolist():
        rows = slice(round(top[place] * height), round((top[place] + tall[place]) * height))
        columns = slice(round(left[place] * width), round((left[place] + wide[place]) * width))
        images[place, :, rows, columns] = 0
