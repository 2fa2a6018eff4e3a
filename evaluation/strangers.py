"""How well a panel tells images that its task is not for, of another body part say, from those of its own data set."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.datasets import load_sample_images
from tqdm import tqdm

from evaluation.cases import read_ahead
from evaluation.predictions import CONSENSUS, Table
from evaluation.resamples import measure_curve
from evaluation.samples import RESAMPLES, mean_known
from evaluation.statistics import bootstrap, describe
from xray_models.images import Radiograph, from_pixels
from xray_models.layouts import find_images
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
        DataError: when a folder is missing, or holds no file that could be an image.
    """
    found = {}
    for kind, count, images in _list_kinds(folders, seed):
        good = (image for image in images if isinstance(image, Radiograph))
        readings = list(tqdm(panel.read_many(good), kind, count, unit="image", disable=None))
        novelty = _gather(readings, list(table.answers))
        models = _compare(table, novelty, seed) if readings else {}
        found[kind] = {"n": len(readings), "left_out": count - len(readings), "models": models}
    return found


def _list_kinds(folders: Sequence[Path], seed: int) -> Iterator[tuple[str, int, Iterable[Radiograph | str]]]:
    """Each kind, how many images it has, and the images, decoded as they are asked for."""
    names = ["photographs", "noise", "blank"]
    for folder in folders:
        names.append(folder.resolve().name)
        again = names.count(names[-1])
        files = find_images(folder)
        drawn = [str(files[place]) for place in np.sort(np.random.default_rng(seed).permutation(len(files))[:LIMIT])]
        yield names[-1] if again == 1 else f"{names[-1]}-{again}", len(drawn), read_ahead(drawn)
    rng = np.random.default_rng(seed)
    noise = [rng.integers(0, 256, (_SIDE, _SIDE), dtype=np.uint8) for _ in range(30)]
    blank = [np.full((_SIDE, _SIDE), level, np.uint8) for level in range(0, 256, 9)]
    for kind, planes in {"photographs": _crop_photographs(rng, 60), "noise": noise, "blank": blank}.items():
        yield kind, len(planes), map(from_pixels, planes)


def _crop_photographs(rng: np.random.Generator, count: int) -> list[np.ndarray]:
    """Grey crops, 160 to 400 pixels wide, of scikit-learn's two sample photographs."""
    photographs = [photo.mean(axis=2).astype(np.uint8) for photo in load_sample_images().images]
    crops = []
    for number in range(count):
        photo, side = photographs[number % 2], int(rng.integers(160, 400))
        row, column = (int(rng.integers(0, length - side + 1)) for length in photo.shape)
        crops.append(np.ascontiguousarray(photo[row : row + side, column : column + side]))
    return crops


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
