"""The images that a slow analysis looks at: a few of every label, read once, and a panel that answers faster.

An analysis that asks a panel hundreds of times about one image cannot see a whole test split. It sees a sample.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from PIL import Image

from evaluation.cases import read_ahead
from evaluation.statistics import bootstrap, describe
from xray_models.batches import Batch
from xray_models.checkpoints import Checkpoint
from xray_models.images import Radiograph, from_pixels
from xray_models.layouts import DataError, name_below
from xray_models.panel import Outputs, Panel
from xray_models.precision import bf16_helps

LONGEST = 512  # pixels of the longer side; a larger image is made smaller, so that its size does not set the time
RESAMPLES = 1000


class Item(NamedTuple):
    """One image of a sample.

    Attributes:
        name: its path below the data folder.
        path: absolute.
        label: the true label.
        group: what it belongs to, a patient for example.
        image: as the models see it, its longer side `LONGEST` pixels at most.
        shape: (H, W) of the file's picture.
    """

    name: str
    path: str
    label: str
    group: str
    image: Radiograph
    shape: tuple[int, int]


class ImageSample(NamedTuple):
    """The images that could be read, and how many could not."""

    items: tuple[Item, ...]
    left_out: int

    @property
    def groups(self) -> np.ndarray:
        """(N,) group of each image."""
        return np.array([item.group for item in self.items])


def draw_rows(rows: pd.DataFrame, limit: int, seed: int = 0) -> pd.DataFrame:
    """Draws images, the same number of every label as far as there are that many.

    Args:
        rows: of a manifest: path, label, group.
        limit: the most images that are drawn.
        seed: of the draw.

    Returns:
        The rows that were drawn, label by label in turn; all of them where there are no more than `limit`.

    Raises:
        DataError: when there is no image, or `limit` is below 1.
    """
    if rows.empty or limit < 1:
        raise DataError(f"A sample of {limit} of {len(rows)} images is empty. Give a limit of 1 or more, and images.")
    shuffled = rows.sample(frac=1, random_state=seed)
    turn = shuffled.groupby("label").cumcount()
    order = shuffled.assign(turn=turn).sort_values(["turn", "label"], kind="stable").index
    return rows.loc[order[:limit]].reset_index(drop=True)


def read_sample(rows: pd.DataFrame, folder: Path, limit: int, seed: int = 0) -> ImageSample:
    """Draws images and decodes each of them once.

    Raises:
        DataError: when none can be read, or as for `draw_rows`.
    """
    items, reason = [], ""
    drawn = draw_rows(rows, limit, seed)
    columns = zip(drawn["path"], drawn["label"], drawn["group"], read_ahead(drawn["path"]), strict=True)
    for path, label, group, whole in columns:
        if isinstance(whole, str):
            reason = whole
            continue
        name = name_below(path, folder)
        height, width = whole.pixels.shape
        items.append(Item(name, str(path), label, str(group), _shrink(whole), (height, width)))
    if not items:
        raise DataError(f"None of the {len(drawn)} images of the sample can be read. The last: {reason}")
    return ImageSample(tuple(items), len(drawn) - len(items))


def _shrink(radiograph: Radiograph) -> Radiograph:
    """The image with a longer side of at most `LONGEST` pixels, antialiased; depth and metadata stay."""
    height, width = radiograph.pixels.shape
    ratio = LONGEST / max(height, width)
    if ratio >= 1:
        return radiograph
    size = (max(1, round(width * ratio)), max(1, round(height * ratio)))
    plane = Image.fromarray(radiograph.pixels.astype(np.float32)).resize(size, Image.Resampling.LANCZOS)
    return with_pixels(radiograph, np.asarray(plane))


def with_pixels(radiograph: Radiograph, values: np.ndarray) -> Radiograph:
    """The radiograph with other pixels: (H, W) floats on its own scale, rounded and clipped to its depth."""
    pixels = np.rint(values).clip(0, 2**radiograph.bits - 1).astype(radiograph.pixels.dtype)
    kept = {key: getattr(radiograph, key) for key in ("format", "warnings", "metadata")}
    return dataclasses.replace(from_pixels(pixels), **kept)


class QuickPanel(Panel):
    """The same models, answering in bfloat16 where the machine computes it in hardware.

    Args:
        panel: whose models are used; they are not changed.
        half: whether to use bfloat16; None for where it helps.
    """

    def __init__(self, panel: Panel, half: bool | None = None):
        super().__init__(panel.task, panel.members, panel.device)
        self.timeout = panel.timeout
        self.half = bf16_helps() if half is None else half

    @property
    def precision(self) -> str:
        """In which numbers the models compute."""
        return "bfloat16" if self.half else "float32"

    def score(self, member: Checkpoint, batch: Batch) -> np.ndarray:
        """One model's probabilities (B, K) for inputs that a batch holds; a fusion reuses its members' embeddings."""
        return self._run(member, batch).probs

    def _run(self, member: Checkpoint, batch: Batch) -> Outputs:
        inputs = batch.prepare(member.spec)
        batch.inputs[member.spec] = inputs.contiguous(memory_format=torch.channels_last)
        with torch.autocast(torch.device(self.device).type, torch.bfloat16, enabled=self.half):
            return super()._run(member, batch)


def measure_means(values: Mapping[Any, np.ndarray], groups: np.ndarray, seed: int = 0) -> dict[Any, dict[str, Any]]:
    """Means over images with 95 % intervals, all on the same resamples of groups.

    Args:
        values: (N,) by name; NaN where an image does not count.
        groups: (N,) group of each image.
        seed: of the bootstrap.

    Returns:
        By name {"value", "low", "high", "n"}; None where no image counts.
    """

    def measure(weights: np.ndarray | None) -> dict[Any, Any]:
        drawn = np.ones((1, len(groups))) if weights is None else weights
        means = {name: mean_known(own, drawn) for name, own in values.items()}
        return {name: mean[0] for name, mean in means.items()} if weights is None else means

    found = bootstrap(measure, groups, RESAMPLES, seed)
    counts = {name: int((~np.isnan(own)).sum()) for name, own in values.items()}
    return {name: describe(*interval) | {"n": counts[name]} for name, interval in found.items()}


def mean_known(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Weighted means over images, leaving out what is not known.

    Args:
        values: (N, ...), NaN where not known.
        weights: (R, N).

    Returns:
        (R, ...); NaN where a resample holds no known value.
    """
    known = ~np.isnan(values)
    total = np.tensordot(weights, np.where(known, values, 0.0), axes=1)
    count = np.tensordot(weights, known.astype(weights.dtype), axes=1)
    return np.where(count > 0, total / np.maximum(count, 1e-12), np.nan)
