"""Images on their way through a panel."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable, Sequence
from concurrent.futures import Future
from typing import Any

import numpy as np
import torch

from xray_models.images import ImageError, InputSpec, Radiograph, normalise, to_uint8
from xray_models.workers import WORKERS


@dataclasses.dataclass
class Batch:
    """Images on their way through a panel: each distinct input is prepared once, each embedding computed once.

    Attributes:
        images: the batch.
        inputs: what was prepared, (B, C, h, w) by input spec.
        planes: what is being resized, parts of B planes (h, w) uint8 by the spec's geometry: specs differ in mean and
            std alone, as a rule. In the place of one that has no such plane stands the reason.
        faults: these reasons by input spec and place in the batch; a black input stands for such an image.
        embeddings: what the models before gave, (B, D) by model name.
        features: what their bodies gave, by model name; None where nobody wants them.
    """

    images: Sequence[Radiograph]
    inputs: dict[InputSpec, torch.Tensor] = dataclasses.field(default_factory=dict)
    planes: dict[InputSpec, list[Future[list[np.ndarray | str]]]] = dataclasses.field(default_factory=dict)
    faults: dict[InputSpec, dict[int, str]] = dataclasses.field(default_factory=dict)
    embeddings: dict[str, torch.Tensor] = dataclasses.field(default_factory=dict)
    features: dict[str, Any] | None = None

    def resize(self, specs: Iterable[InputSpec]) -> None:
        """Begins to resize the images for all these specs, for each geometry once, side by side."""
        middle = len(self.images) // 2
        parts = [part for part in (self.images[:middle], self.images[middle:]) if part]
        for geometry in {_geometry(spec) for spec in specs} - set(self.planes):
            self.planes[geometry] = [WORKERS.start(functools.partial(_resize, part, geometry)) for part in parts]

    def prepare(self, spec: InputSpec) -> torch.Tensor:
        """The batch as a model with this spec takes it; raises `ImageError` when none of its images can be resized."""
        if spec not in self.inputs:
            self.resize([spec])
            planes = [plane for part in self.planes[_geometry(spec)] for plane in part.result()]
            faults = {place: plane for place, plane in enumerate(planes) if isinstance(plane, str)}
            if len(faults) == len(planes):
                raise ImageError(faults[0])
            black = np.zeros((spec.height, spec.width), np.uint8)
            shown = [black if isinstance(plane, str) else plane for plane in planes]
            self.inputs[spec], self.faults[spec] = normalise(np.stack(shown), spec), faults
        return self.inputs[spec]


def _geometry(spec: InputSpec) -> InputSpec:
    return dataclasses.replace(spec, mean=(0.0,), std=(1.0,))


def _resize(images: Sequence[Radiograph], spec: InputSpec) -> list[np.ndarray | str]:
    """A plane for each image, or the reason why there is none."""
    planes: list[np.ndarray | str] = []
    for image in images:
        try:
            planes.append(to_uint8(image, spec))
        except Exception as error:  # noqa: BLE001 - the edge: one odd image must not silence a model for the others
            planes.append(first_line(error))
    return planes


def first_line(error: Exception) -> str:
    """What went wrong, in one line."""
    return str(error).splitlines()[0] if str(error) else type(error).__name__
