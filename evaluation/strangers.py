"""How well a panel tells images that its task is not for, of another body part say, from those of its own data set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.datasets import load_sample_images
from tqdm import tqdm

from evaluation.cases import read_ahead
from evaluation.metrics import measure_curve
from evaluation.predictions import CONSENSUS, Table
from evaluation.samples import RESAMPLES, describe, mean_known
from evaluation.statistics import bootstrap
from xray_models.images import Radiograph, from_pixels
from xray_models.layouts import DataError, find_images
from xray_models.panel import Panel
from xray_models.readings import Reading

LIMIT = 150  # images of a folder
_SIDE = 224  # pixels of a drawn image


def judge_strangers(panel: Panel, table: Table, folders: Sequence[Path], seed: int = 0) -> dict[str, Any]:
    """Asks a panel about images that are not for it, and compares their novelty with that of its own images.

    Args:
        panel: the models.
        table: their answers on images of the task.
        folders: of other images, at whatever depth; a random `LIMIT` of each is looked at.
        seed: of the choice of images, of the noise and of the bootstrap.

    Returns:
        What `metrics.json` holds under "strangers", as plain data: by kind (a folder's name; and "photographs", "noise"
        and "blank", which need no folder) "n", "left_out" (files that are no image), and by model, the consensus among
        them, "refused" (share called out of distribution) and "auroc" of the novelty, the task's own images against
        these.

    Raises:
        DataError: when a folder is missing, or none of its files is an image.
    """
    found = {}
    for kind, (images, left_out) in _collect(folders, seed).items():
        shown = tqdm(panel.read_many(iter(images)), kind, len(images), unit="image", disable=None)
        novelty = _gather(list(shown), list(table.answers))
        found[kind] = {"n": len(images), "left_out": left_out, "models": _compare(table, novelty, seed)}
    return found


def _collect(folders: Sequence[Path], seed: int) -> dict[str, tuple[list[Radiograph], int]]:
    """Images by kind, and how many files of a folder's sample are none."""
    found = {}
    for folder in folders:
        name, again = folder.resolve().name, 1
        while (kind := name if again == 1 else f"{name}-{again}") in found:
            again += 1
        found[kind] = _read_folder(folder, seed)
    rng = np.random.default_rng(seed)
    noise = [rng.integers(0, 256, (_SIDE, _SIDE), dtype=np.uint8) for _ in range(30)]
    blank = [np.full((_SIDE, _SIDE), level, np.uint8) for level in range(0, 256, 9)]
    drawn = {"photographs": _crop_photographs(rng, 60), "noise": noise, "blank": blank}
    return found | {kind: ([from_pixels(pixels) for pixels in planes], 0) for kind, planes in drawn.items()}


def _crop_photographs(rng: np.random.Generator, count: int) -> list[np.ndarray]:
    """Grey crops, 160 to 400 pixels wide, of scikit-learn's two sample photographs."""
    photographs = [photo.mean(axis=2).astype(np.uint8) for photo in load_sample_images().images]
    crops = []
    for number in range(count):
        photo, side = photographs[number % 2], int(rng.integers(160, 400))
        row, column = (int(rng.integers(0, length - side + 1)) for length in photo.shape)
        crops.append(np.ascontiguousarray(photo[row : row + side, column : column + side]))
    return crops


def _read_folder(folder: Path, seed: int) -> tuple[list[Radiograph], int]:
    files = find_images(folder)
    drawn = np.random.default_rng(seed).permutation(len(files))[:LIMIT]
    images = list(read_ahead(str(files[place]) for place in np.sort(drawn)))
    good = [image for image in images if isinstance(image, Radiograph)]
    if not good:
        raise DataError(f"{folder} holds no image that can be read. Name a folder of images of another kind.")
    return good, len(images) - len(good)


def _gather(readings: Sequence[Reading], names: Sequence[str]) -> dict[str, np.ndarray]:
    """(N,) novelty by model and of the consensus; NaN where not known."""
    columns: dict[str, list[float | None]] = {name: [] for name in names}
    for reading in readings:
        said = {opinion.model: opinion.novelty for opinion in reading.opinions}
        said[CONSENSUS] = reading.consensus.novelty if reading.consensus else None
        for name, column in columns.items():
            column.append(said.get(name))
    return {name: np.array(column, dtype=np.float64) for name, column in columns.items()}


def _compare(table: Table, novelty: Mapping[str, np.ndarray], seed: int) -> dict[str, Any]:
    """By model, its own images against the others, with intervals; models that know no novelty are left out."""
    strangers = len(next(iter(novelty.values())))
    groups = np.concatenate([table.groups.astype(str), [f"stranger {place}" for place in range(strangers)]])
    foreign = np.arange(len(groups)) >= len(table.groups)
    values = {name: np.concatenate([answers.novelty, novelty[name]]) for name, answers in table.answers.items()}
    known = {name: ~np.isnan(both) for name, both in values.items()}
    values = {name: both for name, both in values.items() if known[name][foreign].any() and known[name][~foreign].any()}
    intervals = bootstrap(partial(_measure, values, foreign), groups, RESAMPLES, seed)
    return {name: {measure: describe(*intervals[name, measure]) for measure in ("auroc", "refused")} for name in values}


def _measure(values: Mapping[str, np.ndarray], foreign: np.ndarray, weights: np.ndarray | None) -> dict[Any, Any]:
    drawn = np.ones((1, len(foreign))) if weights is None else weights
    found = {}
    for name, novelty in values.items():
        known = ~np.isnan(novelty)
        found[name, "auroc"] = measure_curve(novelty[known], foreign[known], drawn[:, known]).auroc
        refused = np.where(known & foreign, novelty > 1, np.nan)
        found[name, "refused"] = mean_known(refused, drawn)
    return {key: part[0] for key, part in found.items()} if weights is None else found
