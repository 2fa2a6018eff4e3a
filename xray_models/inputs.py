"""A model's input plane: how a radiograph is brought onto it, and a heatmap back from it."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from xray_models.radiograph import ImageError, OversizedImage, Radiograph, to_display

if TYPE_CHECKING:
    import torch

_AT_ONCE = 4096  # pixels of a side whose weights are in memory
MAX_RESIZED = 2**28  # pixels; only a crop from a strip thousands of times longer than wide needs more

RESAMPLES = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
FITS = ("squash", "crop", "pad")
CORNERS: dict[str, Callable[[float], int]] = {"even": round, "down": math.floor}


@dataclass(frozen=True)
class InputSpec:
    """How a picture becomes a model's input. Two equal specs share one prepared picture.

    Attributes:
        height: Of the input, in pixels.
        width: Of the input, in pixels.
        mean: Subtracted after scaling to [0, 1]; one number per channel, 1 or 3 of them.
        std: Divides the result; as many numbers as `mean`, all positive.
        resample: "nearest", "bilinear", "bicubic" or "lanczos".
        fit: "squash" changes the aspect to fit; "crop" fills the input and cuts off the rest, centred;
            "pad" fits the whole picture in and fills with black.
        crop: With "crop" the part of the short side that is kept, with "squash" of both sides, in (0, 1]: timm's
            `crop_pct`.
        corner: How half a pixel of a cut's corner is rounded: "even" as torchvision and timm do, "down" as
            transformers does.
    """

    height: int = 224
    width: int = 224
    mean: tuple[float, ...] = (0.5, 0.5, 0.5)
    std: tuple[float, ...] = (0.5, 0.5, 0.5)
    resample: str = "bicubic"
    fit: str = "squash"
    crop: float = 1.0
    corner: str = "even"

    def __post_init__(self):
        object.__setattr__(self, "mean", tuple(self.mean))
        object.__setattr__(self, "std", tuple(self.std))
        deviating = [not (math.isfinite(value) and value > 0) for value in self.std]
        checks = {
            "height": (isinstance(self.height, int) and self.height >= 1, "a whole number above 0"),
            "width": (isinstance(self.width, int) and self.width >= 1, "a whole number above 0"),
            "mean": (
                len(self.mean) in (1, 3) and all(map(math.isfinite, self.mean)),
                "1 or 3 finite numbers",
            ),
            "std": (
                len(self.std) == len(self.mean) and not any(deviating),
                "as many positive numbers as mean has",
            ),
            "resample": (self.resample in RESAMPLES, f"one of {', '.join(RESAMPLES)}"),
            "fit": (self.fit in FITS, f"one of {', '.join(FITS)}"),
            "crop": (0 < self.crop <= 1, "above 0 and at most 1"),
            "corner": (self.corner in CORNERS, f"one of {', '.join(CORNERS)}"),
        }
        for name, (valid, expected) in checks.items():
            if not valid:
                raise ValueError(f"InputSpec: {name}={getattr(self, name)!r} is not valid. It must be {expected}.")


def _place(shape: tuple[int, int], spec: InputSpec) -> tuple[int, int, int, int]:
    """Where the picture lies: its height and width after resizing, and the input's top left corner in it.

    The corner is negative where the input is larger than the picture. "crop" counts as torchvision's Resize
    and CenterCrop do, and as timm's ResizeKeepRatio for an input that is not square.
    """
    target = (spec.height, spec.width)
    if spec.fit == "pad":
        ratio = max(side / goal for side, goal in zip(shape, target, strict=True))
        height, width = (max(1, round(side / ratio)) for side in shape)
        return height, width, (height - target[0]) // 2, (width - target[1]) // 2
    filled = tuple(math.floor(goal / spec.crop) for goal in target)
    if spec.fit == "squash":
        height, width = filled
    elif filled[0] == filled[1]:
        height, width = (int(filled[0] * side / min(shape)) for side in shape)
    else:
        ratio = min(side / goal for side, goal in zip(shape, filled, strict=True))
        height, width = (round(side / ratio) for side in shape)
    halve = CORNERS[spec.corner]
    return height, width, halve((height - target[0]) / 2), halve((width - target[1]) / 2)


def to_uint8(radiograph: Radiograph, spec: InputSpec) -> np.ndarray:
    """Bring the picture to a model's size.

    Returns:
        (spec.height, spec.width) uint8.

    Raises:
        OversizedImage: The picture is so long and thin that filling the input with it takes 2**28 pixels.
    """
    pixels = to_display(radiograph)
    height, width, top, left = _place(pixels.shape, spec)
    if height * width > MAX_RESIZED:
        raise OversizedImage(
            f"A picture of {pixels.shape[1]} × {pixels.shape[0]} pixels is too long and thin to crop. "
            "Cut it closer to square."
        )
    resized = Image.fromarray(pixels).resize((width, height), RESAMPLES[spec.resample])
    plane = Image.new("L", (spec.width, spec.height))
    plane.paste(resized, (-left, -top))
    return np.array(plane)


def normalise(pixels: "np.ndarray | torch.Tensor", spec: InputSpec) -> "torch.Tensor":
    """Turn 8-bit values into a model's numbers, (x / 255 - mean) / std.

    Args:
        pixels: (..., H, W) uint8.
        spec: Its mean and std set the number of channels, C.

    Returns:
        (..., C, H, W) float32, on the device of `pixels`.
    """
    import torch

    values = torch.as_tensor(pixels).to(torch.float32, copy=True).unsqueeze(-3).div_(255)
    mean, std = (torch.tensor(part, device=values.device).view(-1, 1, 1) for part in (spec.mean, spec.std))
    if len(set(spec.mean)) == len(set(spec.std)) == 1:  # the channels are the same: one is computed
        values.sub_(mean[:1]).div_(std[:1])
        return values.expand(*values.shape[:-3], len(mean), *values.shape[-2:]).contiguous()
    return (values - mean).div_(std)


def to_input(radiograph: Radiograph, spec: InputSpec) -> "torch.Tensor":
    """The model's input, (C, H, W) float32: `normalise` of `to_uint8`, exactly."""
    return normalise(to_uint8(radiograph, spec), spec)


def from_input(heatmap: np.ndarray, shape: tuple[int, int], spec: InputSpec) -> np.ndarray:
    """Lay a heatmap of the model's input over the image: the inverse of `to_uint8`'s geometry.

    Args:
        heatmap: (h, w) finite floats over the whole input, at any resolution.
        shape: (H, W) of the image.
        spec: How the image became the input.

    Returns:
        (H, W) float32, bilinear between pixel centres. Pixels that the model never saw are 0.

    Raises:
        ImageError: `heatmap` is not two-dimensional or not finite.
    """
    if heatmap.ndim != 2 or not np.isfinite(heatmap).all():
        raise ImageError(
            f"A heatmap of shape {heatmap.shape} cannot be laid over the image. Give (h, w) finite numbers."
        )
    height, width, top, left = _place(shape, spec)
    plane = heatmap.astype(np.float32)
    if shape[0] < shape[1]:  # the shorter side first: a strip's other side may be a million pixels
        laid = _lay(_lay(plane, shape[0], height, (top, spec.height)).T, shape[1], width, (left, spec.width))
        return np.ascontiguousarray(laid.T)
    return _lay(_lay(plane.T, shape[1], width, (left, spec.width)).T, shape[0], height, (top, spec.height))


def _lay(plane: np.ndarray, side: int, resized: int, window: tuple[int, int]) -> np.ndarray:
    """Lays the rows of (cells, n) over an image's side; (side, n) float32."""
    parts = [np.arange(first, min(first + _AT_ONCE, side)) for first in range(0, side, _AT_ONCE)]
    return np.concatenate([_weigh(part, side, resized, window, len(plane)) @ plane for part in parts])


def _weigh(pixels: np.ndarray, side: int, resized: int, window: tuple[int, int], cells: int) -> np.ndarray:
    """(pixels, cells) bilinear weights of a heatmap's cells for some image pixels along a side.

    `window` is where the input starts in the resized picture, and its length. Where cells are finer than
    pixels, a pixel takes the mean of its cells, so that no peak falls between pixels.
    """
    start, length = window
    seen = ((pixels + 0.5) * resized / side - start) / length
    place = seen * cells - 0.5
    reach = max(1.0, resized / side * cells / length)
    weights = np.maximum(0, 1 - np.abs(place[:, None] - np.arange(cells)) / reach)
    weights[(seen < 0) | (seen > 1)] = 0
    return (weights / np.maximum(weights.sum(1, keepdims=True), 1e-12)).astype(np.float32)
