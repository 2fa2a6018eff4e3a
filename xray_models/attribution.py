"""Where a model looked: Captum's attributions as heatmaps on the image's own grid, for CNN and ViT alike.

A heatmap shows what moved a score. It does not show where disease is.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from captum.attr import IntegratedGradients, Occlusion, Saliency
from PIL import Image

from xray_models.architectures import FusedParts, Parts
from xray_models.cams import grad_cam, hires_cam
from xray_models.checkpoints import Checkpoint, list_labels
from xray_models.images import InputSpec, Radiograph, from_input, to_input
from xray_models.methods import DEFAULT, TITLES
from xray_models.tasks import choose

__all__ = ["DEFAULT", "METHODS", "TITLES", "Grid", "Heatmap", "explain"]

STEPS = 32  # of the path of Integrated Gradients
DRAWS = 32  # noisy copies of SmoothGrad, points of GradientShap
NOISE = 0.15  # standard deviation of SmoothGrad's noise, as a share of the input's range
WINDOW = 7  # an occluding square is a seventh of the input's side
_AT_ONCE = 8  # inputs in one forward of a method that needs many


class Grid(NamedTuple):
    """What a heatmap lies over.

    Attributes:
        shape: (H, W) of the image.
        spec: how the image became the model's input.
    """

    shape: tuple[int, int]
    spec: InputSpec


@dataclasses.dataclass(frozen=True)
class Heatmap:
    """What moved the score of one label.

    Attributes:
        plane: (h', w') float32 over the model's input; over the image itself where `grid` is None.
        method: a key of `METHODS`.
        label: the label whose score is explained.
        signed: whether negative values (against the label) can occur.
        grid: what it lies over.
    """

    plane: np.ndarray
    method: str
    label: str
    signed: bool
    grid: Grid | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """(H, W) of the image."""
        height, width = self.plane.shape if self.grid is None else self.grid.shape
        return int(height), int(width)

    @functools.cached_property
    def values(self) -> np.ndarray:
        """(H, W) float32 on the image's grid, as `lay` gives them."""
        return self.lay(self.shape)

    def lay(self, shape: tuple[int, int]) -> np.ndarray:
        """Lays the map over the image at any size, which for a small one costs next to nothing.

        Args:
            shape: (H, W), of the image's aspect.

        Returns:
            (H, W) float32 in [-1, 1] where `signed`, else in [0, 1]; 0 where the model did not look or could not see.
            Scaled by its largest absolute value; where a method values each pixel by itself, by the 99th percentile,
            beyond which it is cut: few pixels would leave the others dark (Smilkov et al., 2017).
        """
        values = self._resize(shape)
        largest = max(float(values.max()), -float(values.min()))
        if self.method in _BY_PIXEL:
            largest = float(np.quantile(np.abs(values), 0.99)) or largest
        if largest > 0:
            values *= np.float32(1 / largest)
        return np.clip(values, -1, 1, out=values)

    def _resize(self, shape: tuple[int, int]) -> np.ndarray:
        if self.grid is not None:
            return from_input(self.plane, shape, self.grid.spec)
        picture = Image.fromarray(self.plane.astype(np.float32, copy=False))
        return np.array(picture.resize(shape[::-1], Image.Resampling.BILINEAR))

    @property
    def peak(self) -> tuple[int, int]:
        """Row and column of the largest value, in image pixels."""
        row, column = np.unravel_index(int(self._resize(self.shape).argmax()), self.shape)
        return int(row), int(column)


def explain(
    model: Checkpoint,
    image: Radiograph,
    label: str,
    method: str = "grad_cam",
    features: Any = None,
    step: Callable[[float], None] | None = None,
) -> Heatmap:
    """Explains one model's score of one label on one image.

    Args:
        model: a loaded model.
        image: the image.
        label: one of the model's labels.
        method: a key of `METHODS`.
        features: what the model's body gave for this image, as `Panel.ask` keeps it; spares Grad-CAM and HiResCAM the
            forward. None to compute it.
        step: called before each forward of a body, of which some methods need many, with the share of them that is
            done; what it raises ends the work.

    Raises:
        TaskError: for an unknown method or label.
    """
    compute = METHODS[choose("method", method, METHODS)]
    labels = list_labels(model.model)
    target = labels.index(choose("label", label, labels))
    parts = model.parts if method in _BY_PIXEL else model.forward
    if features is not None and method in _FROM_FEATURES:
        parts, inputs = parts.holding(features), torch.empty(0)
    else:
        inputs = to_input(image, model.spec)[None].to(model.model.device)  # (1, C, h, w)
        parts = parts.checking(_count(step, count_forwards(method, parts, model.spec))) if step else parts
    plane = compute(parts, inputs, target, model.spec).float().cpu().numpy()  # (h', w')
    height, width = image.pixels.shape
    return Heatmap(plane, method, label, method not in _UNSIGNED, Grid((height, width), model.spec))


def count_forwards(method: str, parts: Parts | FusedParts, spec: InputSpec) -> int:
    """Forwards of bodies that a method needs for one map, about."""
    if method == "occlusion":
        inputs = 1 + len(_places(spec.height)) * len(_places(spec.width))
    else:
        inputs = _INPUTS.get(method, 1)
    return math.ceil(inputs / _AT_ONCE) * (len(parts.members) if isinstance(parts, FusedParts) else 1)


def _places(side: int) -> range:
    """Where the occluding square begins along a side."""
    window = _window(side)
    return range(0, side - window + 1, max(1, window // 2))


def _window(side: int) -> int:
    """Side of the occluding square."""
    return max(1, side // WINDOW)


def _count(step: Callable[[float], None], forwards: int) -> Callable[[], None]:
    begun = itertools.count()
    return lambda: step(min(next(begun) / forwards, 1.0))


def _integrated_gradients(
    parts: Parts | FusedParts, inputs: torch.Tensor, target: int, spec: InputSpec
) -> torch.Tensor:
    """Integrated Gradients (Sundararajan et al., 2017) from a black image, summed over channels."""
    method = IntegratedGradients(lambda pixels: parts.head(parts.body(pixels)))
    values = method.attribute(
        inputs, baselines=_plain(inputs, spec, 0.0), target=target, n_steps=STEPS, internal_batch_size=_AT_ONCE
    )
    return values[0].sum(dim=0).detach()


def _smooth_grad(parts: Parts | FusedParts, inputs: torch.Tensor, target: int, spec: InputSpec) -> torch.Tensor:
    """SmoothGrad (Smilkov et al., 2017): the score's mean gradient over noisy copies, summed over channels; its size.

    The noise is the same at every call, so that the same image has the same map.
    """
    random = torch.Generator().manual_seed(0)
    noise = torch.randn(DRAWS, 1, *inputs.shape[2:], generator=random).to(inputs.device)  # a copy stays grey
    copies = inputs + NOISE * (inputs.max() - inputs.min()) * noise
    return _find_gradients(parts, copies, target).mean(dim=0).sum(dim=0).abs()


def _gradient_shap(parts: Parts | FusedParts, inputs: torch.Tensor, target: int, spec: InputSpec) -> torch.Tensor:
    """GradientShap (Lundberg & Lee, 2017; expected gradients, Erion et al., 2021), summed over channels.

    The images that it departs from are plain, of every grey from black to white; no training image is at hand when a
    model is asked. Draws are spread evenly over the greys and over the paths, and are the same at every call.
    """
    random = torch.Generator().manual_seed(0)
    even = ((torch.arange(DRAWS) + 0.5) / DRAWS).view(-1, 1, 1, 1).to(inputs.device)
    black, white = _plain(inputs, spec, 0.0), _plain(inputs, spec, 1.0)
    plain = black + even * (white - black)
    along = even[torch.randperm(DRAWS, generator=random)]
    gradients = _find_gradients(parts, plain + along * (inputs - plain), target)
    return ((inputs - plain) * gradients).mean(dim=0).sum(dim=0)


def _find_gradients(parts: Parts | FusedParts, inputs: torch.Tensor, target: int) -> torch.Tensor:
    """Gradient of the score with respect to each input of (N, C, h, w), a few at once."""
    method = Saliency(lambda pixels: parts.head(parts.body(pixels)))
    found = [method.attribute(some.requires_grad_(), target, abs=False).detach() for some in inputs.split(_AT_ONCE)]
    return torch.cat(found)


@torch.no_grad()
def _occlusion(parts: Parts | FusedParts, inputs: torch.Tensor, target: int, spec: InputSpec) -> torch.Tensor:
    """Occlusion (Zeiler & Fergus, 2014): how far the score falls when a grey square hides a place."""
    _, channels, height, width = inputs.shape
    window = (channels, _window(height), _window(width))
    method = Occlusion(lambda pixels: parts.head(parts.body(pixels)))
    values = method.attribute(
        inputs,
        target=target,
        sliding_window_shapes=window,
        strides=(channels, max(1, window[1] // 2), max(1, window[2] // 2)),
        baselines=inputs.mean(dim=(2, 3), keepdim=True).expand_as(inputs),
        perturbations_per_eval=_AT_ONCE,
    )
    return values[0, 0]


def _plain(inputs: torch.Tensor, spec: InputSpec, grey: float) -> torch.Tensor:
    """An image of one grey in [0, 1] as the model gets it, of the inputs' shape."""
    mean, std = (torch.tensor(numbers, device=inputs.device).view(1, -1, 1, 1) for numbers in (spec.mean, spec.std))
    return ((grey - mean) / std).expand_as(inputs)


METHODS: dict[str, Callable[[Parts | FusedParts, torch.Tensor, int, InputSpec], torch.Tensor]] = {
    "grad_cam": grad_cam,
    "hires_cam": hires_cam,
    "integrated_gradients": _integrated_gradients,
    "gradient_shap": _gradient_shap,
    "smooth_grad": _smooth_grad,
    "occlusion": _occlusion,
}
"""Name to `(parts, inputs (1, C, h, w), label number, spec) -> (h', w')` map in the input's plane."""

_INPUTS = {"integrated_gradients": STEPS, "gradient_shap": DRAWS, "smooth_grad": DRAWS}
_FROM_FEATURES = frozenset({"grad_cam", "hires_cam"})  # they need no more than what the body gave for the image
_UNSIGNED = _FROM_FEATURES | {"smooth_grad"}  # the first two show only what speaks for the label
_BY_PIXEL = frozenset(_INPUTS)  # by the body's gradient: on torch
