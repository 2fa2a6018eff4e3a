"""Where something was annotated on a task's images: what a heatmap can be held against.

A finding is what makes the label true. Lungs are not a finding: a map inside them is at least in the right organ.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from xray_models.annotations import read_boxes
from xray_models.images import ImageError, read_image
from xray_models.layouts import DataError
from xray_models.tasks import Task

_log = logging.getLogger(__name__)

Finder = Callable[[Path, tuple[int, int]], np.ndarray | None]


class Regions(NamedTuple):
    """The annotated regions of a data set.

    Attributes:
        kind: "finding", "lungs", or "" where there are none.
        find: from an image file and the (H, W) of its picture to (H, W) bool; None where nothing is annotated.
    """

    kind: str
    find: Finder


def open_regions(task: Task, folder: Path) -> Regions:
    """Finds what is annotated beside a task's images; `kind` is "" where its layout has no annotations."""
    if task.dataset.layout not in SOURCES:
        return Regions("", _find_nothing)
    return SOURCES[task.dataset.layout](Path(folder))


def _open_phantom(folder: Path) -> Regions:
    """`masks/<label>/<name>`: the pixels of the drawn lesion, none for a healthy patient."""
    return Regions("finding", lambda path, shape: _read_mask(path.parents[1] / "masks" / path.parent.name, path, shape))


def _open_lungs(folder: Path) -> Regions:
    """`<label>/masks/<name>`: the lungs, as the publisher's network drew them."""
    if not any(place.is_dir() for depth in ("*/masks", "*/*/masks") for place in folder.glob(depth)):
        return Regions("", _find_nothing)
    return Regions("lungs", lambda path, shape: _read_mask(path.parents[1] / "masks", path, shape))


def _open_boxes(folder: Path) -> Regions:
    """FracAtlas' boxes around fractures."""
    try:
        boxes = read_boxes(folder)
    except DataError as error:
        _log.warning("heatmaps are not held against boxes: %s", error)
        return Regions("", _find_nothing)

    def find(path: Path, shape: tuple[int, int]) -> np.ndarray | None:
        if path.name not in boxes:
            return None
        region = np.zeros(shape, dtype=bool)
        for x, y, width, height in boxes[path.name]:
            right, bottom = (max(0, int(np.ceil(end))) for end in (x + width, y + height))
            region[max(0, int(y)) : bottom, max(0, int(x)) : right] = True
        return region if region.any() else None

    return Regions("finding", find)


def _find_nothing(path: Path, shape: tuple[int, int]) -> np.ndarray | None:
    return None


def _read_mask(folder: Path, path: Path, shape: tuple[int, int]) -> np.ndarray | None:
    """The mask of an image, whatever size it was drawn at; None where there is none, or it is empty or damaged."""
    file = next((file for file in (folder / path.name, folder / f"{path.stem}.png") if file.is_file()), None)
    if file is None:
        return None
    try:
        pixels = read_image(file).pixels
    except ImageError as error:
        _log.warning("the mask %s is left out: %s", file, error)
        return None
    region = resize_region(pixels > np.iinfo(pixels.dtype).max // 2, shape)
    return region if region.any() else None


def resize_region(region: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Brings a region to another (H, W); a region that is not empty stays so, however small it becomes."""
    if region.shape == shape:
        return region
    share = np.asarray(Image.fromarray(region.astype(np.float32)).resize(shape[::-1], Image.Resampling.BOX))
    return (share > 0) & (share >= min(0.5, share.max()))


SOURCES: dict[str, Callable[[Path], Regions]] = {
    "covid_radiography": _open_lungs,
    "fracatlas": _open_boxes,
    "phantom": _open_phantom,
}
"""Layout to what opens its annotations."""
