"""Published data sets -> one manifest (path, label, group, split), and their images as cached uint8 arrays.

The way of the data: a folder as its publisher ships it -> `LAYOUTS` -> paths and labels -> one decode, faults set
aside -> groups -> splits. Training and evaluation start from the same `Manifest`.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from xray_models import phantom
from xray_models.grouping import find_near_copies, join_groups, split_groups
from xray_models.images import ImageError, InputSpec, read_image, to_uint8
from xray_models.tasks import Task, choose

_log = logging.getLogger(__name__)
_IMAGES = {".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp", ".dcm"}
_THUMBNAIL = InputSpec(height=64, width=64, resample="bilinear")
_FORMAT = 1  # of the cached arrays; raise it when their making changes


class DataError(ValueError):
    """A data set that is missing or laid out differently; the message says what was found and expected."""


@dataclasses.dataclass(frozen=True)
class Manifest:
    """A data set, read.

    Attributes:
        rows: one image a row: path (absolute), label, official (the publisher's split or ""), sha256 (of the
            pixels), group (int), split ("train", "validation" or "test").
        faults: files left out: path, label, reason.
    """

    rows: pd.DataFrame
    faults: pd.DataFrame

    def part(self, split: str) -> pd.DataFrame:
        """Returns the rows of "train", "validation", "test" or "all"."""
        if split == "all":
            return self.rows
        choose("split", split, ("train", "validation", "test", "all"))
        return self.rows[self.rows["split"] == split].reset_index(drop=True)


@dataclasses.dataclass(frozen=True)
class Arrays:
    """Decoded images.

    Attributes:
        pixels: (N, H, W) uint8, a read-only memory map; rows of unreadable files are zero.
        sha256: (N,) names of the pictures; "" where a file could not be read.
        faults: (N,) reason why a file could not be read; "" where it could.
    """

    pixels: np.ndarray
    sha256: Sequence[str]
    faults: Sequence[str]


def cache_folder() -> Path:
    """Where decoded arrays and phantoms are kept: `$XDG_CACHE_HOME/second-read`, or below `~/.cache`."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "second-read"


def data_folder(task: Task, given: str | Path | None = None) -> Path:
    """Returns the folder of a task's data: the one given, `$XRAY_DATA/<task>`, or `data/<task>`.

    Raises:
        DataError: when it is not there; says where the publisher offers the data.
    """
    if task.dataset.layout == "phantom" and given is None:
        images = task.recipe.images
        return phantom.write_dataset(cache_folder() / f"phantom-{images}-{task.split.seed}", images, task.split.seed)
    folder = Path(given) if given else Path(os.environ.get("XRAY_DATA", "data")) / task.name
    if not folder.is_dir():
        raise DataError(
            f"There is no data for task {task.name!r} in {folder}. Get {task.dataset.source} from its publisher "
            f"({task.dataset.licence}), unpack it into {folder} as it is, or point --data or XRAY_DATA elsewhere. "
            "Without any data, try --task phantom: it draws its own."
        )
    return folder


def open_dataset(task: Task, given: str | Path | None = None) -> Manifest:
    """Reads a data set in its publisher's layout, sets faulty files aside, groups and splits it.

    Args:
        task: the task whose `dataset` and `split` apply.
        given: the data folder; None for the default of `data_folder`.

    Raises:
        DataError: when the folder is missing, empty or laid out differently.
    """
    folder = data_folder(task, given)
    layout = LAYOUTS[choose("dataset.layout", task.dataset.layout, LAYOUTS)]
    found = pd.DataFrame(layout(task, folder), columns=["path", "label", "official"])
    if found.empty:
        raise DataError(f"{folder} has the right folders, but no image in any of them ({', '.join(sorted(_IMAGES))}).")
    found = found.sort_values("path", ignore_index=True)
    arrays = load_arrays(found["path"], _THUMBNAIL)
    found["sha256"], found["reason"] = list(arrays.sha256), list(arrays.faults)
    _mark_contradictions(found)
    good = found["reason"] == ""
    rows = found[good].drop(columns="reason").reset_index(drop=True)
    rows["group"] = _group(task, rows, arrays.pixels[good.to_numpy()])
    fractions = {"test": task.split.test, "validation": task.split.validation}
    rows["split"] = split_groups(list(rows["label"]), rows["group"].to_numpy(), fractions, task.split.seed)
    faults = found.loc[~good, ["path", "label", "reason"]].reset_index(drop=True)
    for path, reason in zip(faults["path"], faults["reason"], strict=True):
        _log.warning("left out: %s: %s", path, reason)
    return Manifest(rows, faults)


def _group(task: Task, rows: pd.DataFrame, thumbnails: np.ndarray) -> np.ndarray:
    if task.split.group == "none":
        return np.arange(len(rows))
    patient = re.compile(task.dataset.patient) if task.dataset.patient else None
    matches = [patient.match(Path(path).name) if patient else None for path in rows["path"]]
    return join_groups(len(rows), find_near_copies(thumbnails), [m.group() if m else "" for m in matches])


def _mark_contradictions(found: pd.DataFrame) -> None:
    """Marks files that show exactly the same picture under different labels."""
    readable = found[found["reason"] == ""]
    labels = readable.groupby("sha256")["label"].nunique()
    twice = found["sha256"].isin(labels[labels > 1].index)
    found.loc[twice, "reason"] = "the same picture stands under another label too"


def load_arrays(paths: Iterable[str], spec: InputSpec) -> Arrays:
    """Decodes images to the geometry of a model's input, once; later calls read the cache.

    Args:
        paths: N image files.
        spec: height, width, fit and resampling of the arrays.

    Returns:
        The arrays, in the order of the paths.
    """
    paths = list(paths)
    folder = cache_folder() / "arrays" / _cache_key(paths, spec)
    if not folder.is_dir():
        _decode(paths, spec, folder)
    index = json.loads((folder / "index.json").read_text(encoding="utf-8"))
    return Arrays(np.load(folder / "pixels.npy", mmap_mode="r"), index["sha256"], index["faults"])


def _cache_key(paths: list[str], spec: InputSpec) -> str:
    stats = [(path, (stat := Path(path).stat()).st_size, stat.st_mtime_ns) for path in paths]
    geometry = [_FORMAT, spec.height, spec.width, spec.fit, spec.crop, spec.resample]
    return hashlib.sha256(json.dumps([geometry, stats]).encode()).hexdigest()[:32]


def _decode(paths: list[str], spec: InputSpec, folder: Path) -> None:
    """Decodes into a folder beside `folder`, then renames it: a cache is whole or absent."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(dir=folder.parent))
    shape = (len(paths), spec.height, spec.width)
    pixels = np.lib.format.open_memmap(draft / "pixels.npy", mode="w+", dtype=np.uint8, shape=shape)

    def decode(index: int) -> tuple[str, str]:
        try:
            radiograph = read_image(paths[index])
        except ImageError as error:
            return "", str(error)
        pixels[index] = to_uint8(radiograph, spec)
        return radiograph.sha256, ""

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        progress = tqdm(pool.map(decode, range(len(paths))), "decoding", len(paths), unit="image", disable=None)
        done = list(progress)
    pixels.flush()
    index = {"sha256": [name for name, _ in done], "faults": [fault for _, fault in done]}
    (draft / "index.json").write_text(json.dumps(index), encoding="utf-8")
    try:
        draft.rename(folder)
    except OSError:  # another process was first
        shutil.rmtree(draft)


# Layouts: (task, folder) -> (path, label, official split) of every image.

_Files = list[tuple[str, str, str]]


def _files(folder: Path, label: str, official: str = "") -> _Files:
    return [
        (str(path.resolve()), label, official)
        for path in sorted(folder.iterdir())
        if path.suffix.lower() in _IMAGES and path.is_file()
    ]


def _start(task: Task, folder: Path, below: str, expected: Sequence[str]) -> Path:
    """Returns the folder that holds `expected`, at `below` or further up; else says what was found."""
    candidates = [folder / below, folder / Path(below).name, folder]
    for candidate in candidates:
        if candidate.is_dir() and all((candidate / name).is_dir() for name in expected):
            return candidate
    nearest = next(candidate for candidate in candidates if candidate.is_dir())
    found = sorted(path.name + "/" * path.is_dir() for path in nearest.iterdir())[:12]
    raise DataError(
        f"{nearest} is not laid out as {task.dataset.source} ships it: expected the folders "
        f"{', '.join(expected)}; found {', '.join(found) or 'nothing'}."
    )


def _covid_radiography(task: Task, folder: Path) -> _Files:
    """`<label>/images/*` beside `<label>/masks/*`; lung masks are not images and are never read."""
    start = _start(task, folder, "COVID-19_Radiography_Dataset", [f"{label}/images" for label in task.labels])
    return [row for label in task.labels for row in _files(start / label / "images", label)]


def _label_folders(task: Task, folder: Path) -> _Files:
    """`<label>/*`."""
    start = _start(task, folder, task.dataset.root, task.labels)
    return [row for label in task.labels for row in _files(start / label, label)]


def _split_folders(task: Task, folder: Path) -> _Files:
    """`<publisher's split>/<label>/*`."""
    splits = task.dataset.splits
    expected = [f"{theirs}/{label}" for theirs in splits.values() for label in task.labels]
    start = _start(task, folder, task.dataset.root, expected)
    return [
        row
        for ours, theirs in splits.items()
        for label in task.labels
        for row in _files(start / theirs / label, label, ours)
    ]


LAYOUTS: dict[str, Callable[[Task, Path], _Files]] = {
    "covid_radiography": _covid_radiography,
    "label_folders": _label_folders,
    "phantom": _label_folders,
    "split_folders": _split_folders,
}
