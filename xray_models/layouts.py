"""Folder layouts: where the publishers of the data sets put their images, and under which label.

A new layout is one function in `LAYOUTS`, from a task and a folder to the files listed. Nothing is decoded here.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from xray_models.tasks import Task

_log = logging.getLogger(__name__)
_BESIDE = {".csv", ".db", ".html", ".ini", ".json", ".jsonl", ".md", ".pdf", ".txt", ".xls", ".xlsx", ".xml", ".zip"}
_DEPTH, _WIDTH = 3, 200  # levels and folders in which misplaced folders are looked for
_OFFICIAL = {"train": "train", "test": "test"} | dict.fromkeys(("validation", "valid", "val", "dev"), "validation")


class DataError(ValueError):
    """A data set that is missing or laid out differently; the message says what was found and expected."""


class LayoutError(DataError):
    """A folder that is laid out in another way, and is no part of one that is laid out as expected."""


class Listed(NamedTuple):
    """One image file of a data set.

    Attributes:
        path: absolute, under the name that its folder gives it: links to a folder are followed, those to a file are
            not, for data kept as links to blobs would bear the blobs' names.
        label: one of the task's labels.
        official: the publisher's split, "train", "validation" or "test"; "" where there is none.
    """

    path: str
    label: str
    official: str = ""


def list_covid_radiography(task: Task, folder: Path) -> list[Listed]:
    """`<label>/images/*` beside `<label>/masks/*`; lung masks are not images and are never read."""
    start = _find_start(task, folder, "COVID-19_Radiography_Dataset", [f"{label}/images" for label in task.labels])
    return [file for label in task.labels for file in _list_files(start / label / "images", label)]


def list_label_folders(task: Task, folder: Path) -> list[Listed]:
    """`<label>/*`."""
    start = _find_start(task, folder, task.dataset.root, task.labels)
    return [file for label in task.labels for file in _list_files(start / label, label)]


def list_split_folders(task: Task, folder: Path) -> list[Listed]:
    """`<publisher's split>/<label>/*`; the folder for validation may be missing."""
    splits = task.dataset.splits
    needed = [f"{theirs}/{label}" for ours, theirs in splits.items() if ours != "validation" for label in task.labels]
    start = _find_start(task, folder, task.dataset.root, needed)
    return [
        file
        for ours, theirs in splits.items()
        for label in task.labels
        if (start / theirs / label).is_dir()
        for file in _list_files(start / theirs / label, label, ours)
    ]


def list_fracatlas(task: Task, folder: Path) -> list[Listed]:
    """`images/<label>/*`; `Utilities/Fracture Split/*.csv` divides the fractured ones, and only those."""
    start = _find_start(task, folder, task.dataset.root, task.labels)
    official = {
        name: ours
        for theirs, ours in (("train", "train"), ("valid", "validation"), ("test", "test"))
        for name in _read_column(start.parent / "Utilities" / "Fracture Split" / f"{theirs}.csv", "image_id")
    }
    files = [file for label in task.labels for file in _list_files(start / label, label)]
    _check_table(start.parent / "dataset.csv", files)
    return [file._replace(official=official.get(Path(file.path).name, "")) for file in files]


def _check_table(table: Path, files: Sequence[Listed]) -> None:
    """Warns of images whose folder and line in FracAtlas' table say different things; the folder is followed."""
    said = dict(zip(_read_column(table, "image_id"), _read_column(table, "fractured"), strict=True))
    opposite = {"Fractured": "0", "Non_fractured": "1"}
    names = [Path(file.path).name for file in files if said.get(Path(file.path).name) == opposite.get(file.label, "")]
    if names:
        _log.warning("%s contradicts the folders, which are followed: %s", table, shorten(names))


def list_hub_export(task: Task, folder: Path) -> list[Listed]:
    """`<split on the Hub>/<label>/*`, as `exports.export_hub` writes it."""
    return [
        file
        for split in sorted(folder.iterdir())
        for label in task.labels
        if (split / label).is_dir()
        for file in _list_files(split / label, label, _OFFICIAL.get(split.name, ""))
    ]


LAYOUTS: dict[str, Callable[[Task, Path], list[Listed]]] = {
    "covid_radiography": list_covid_radiography,
    "fracatlas": list_fracatlas,
    "hub_export": list_hub_export,
    "label_folders": list_label_folders,
    "phantom": list_label_folders,
    "split_folders": list_split_folders,
}


def list_images(task: Task, folder: Path, layout: str) -> list[Listed]:
    """Lists a data set by one of `LAYOUTS`, or, where it does not fit, as `<label>/*` or `<split>/<label>/*`.

    Raises:
        DataError: when neither fits, and says what was found and what the layout expects; or for a folder that may
            not be read.
    """
    with _reading():
        return _list_somehow(task, folder, layout)


def is_folder(path: Path) -> bool:
    """Whether a folder is there; raises `DataError` where that may not be known, or the folder not be read."""
    with _reading():
        if not path.is_dir():
            return False
        if not os.access(path, os.R_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return True


@contextlib.contextmanager
def _reading() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DataError(f"{error.filename} cannot be read ({error.strerror}). Check its permissions.") from error


def _list_somehow(task: Task, folder: Path, layout: str) -> list[Listed]:
    try:
        return LAYOUTS[layout](task, folder)
    except LayoutError:
        files = _list_plain(task, folder)
        if not files:
            raise
        how = "<split>/<label>/" if files[0].official else "<label>/"
        _log.warning("%s is not laid out as %s ships it: read as folders %s", folder, task.dataset.source, how)
        return files


def _list_plain(task: Task, folder: Path) -> list[Listed]:
    """`<label>/*`, or `<split>/<label>/*` with train and test; nothing unless every label has its folders."""
    parts = {folder: ""}
    if not _holds(folder, task.labels):
        named = {path: _OFFICIAL.get(path.name.lower(), "") for path in _list_folders(folder)}
        parts = {path: ours for path, ours in named.items() if ours}
        whole = {ours for path, ours in parts.items() if _holds(path, task.labels)}
        if not {"train", "test"} <= whole:
            return []
    files = [
        file
        for part, ours in parts.items()
        for label in task.labels
        if (part / label).is_dir()
        for file in _list_files(part / label, label, ours)
    ]
    empty = [label for label in task.labels if label not in {file.label for file in files}]
    if files and empty:
        raise DataError(f"{folder} has the right folders, but no image in {', '.join(f'{label}/' for label in empty)}.")
    return files


def find_images(folder: Path) -> list[Path]:
    """Every file of a folder, at whatever depth, but hidden ones and texts beside the images.

    Raises:
        DataError: when there is no such folder, or no such file in it.
    """
    if not is_folder(folder):
        raise DataError(f"There is no folder {folder}. Name a folder of images.")
    found = [
        path
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.startswith(".") and path.suffix.lower() not in _BESIDE
    ]
    if not found:
        raise DataError(f"There is no image in the folder {folder}. Name a folder of images.")
    return found


def _list_files(folder: Path, label: str, official: str = "") -> list[Listed]:
    """Every file but hidden ones and texts beside the images; what is no image comes to light when it is read."""
    visible = [path for path in sorted(folder.iterdir()) if not path.name.startswith(".")]
    inner = [path.name for path in visible if path.is_dir()]
    if inner:
        _log.warning("%s: not read: the folders in it (%s)", folder, shorten(inner))
    home = folder.resolve()
    files = [str(home / path.name) for path in visible if not path.is_dir() and path.suffix.lower() not in _BESIDE]
    named = [(file, file.encode(errors="backslashreplace").decode()) for file in files]
    odd = [name for file, name in named if name != file]  # any bytes can be a file's name, but no table holds them
    if odd:
        _log.warning("%s: not read: files whose paths are not in UTF-8 (%s). Rename them.", folder, shorten(odd))
    return [Listed(file, label, official) for file, name in named if name == file]


def _find_start(task: Task, folder: Path, below: str, expected: Sequence[str]) -> Path:
    """Returns the folder that holds `expected`, at `below` or further up; else says what was found."""
    candidates = [folder / below, folder / Path(below).name, folder]
    for candidate in candidates:
        if _holds(candidate, expected):
            return candidate
    nearest = next(candidate for candidate in candidates if candidate.is_dir())
    found = sorted(path.name + "/" * path.is_dir() for path in nearest.iterdir() if not path.name.startswith("."))
    near = next((place for place in _look_around(folder) if _seems_to_hold(place, expected)), None)
    hint = f" They seem to be in {near}: give that folder instead." if near else ""
    kind = DataError if near in folder.resolve().parents else LayoutError
    raise kind(
        f"{nearest} is not laid out as {task.dataset.source} ships it: expected the folders "
        f"{', '.join(expected)}; found {shorten(found, 12) or 'nothing'}.{hint}"
    )


def _holds(folder: Path, expected: Sequence[str]) -> bool:
    return all((folder / name).is_dir() for name in expected)


def _seems_to_hold(folder: Path, expected: Sequence[str]) -> bool:
    try:
        return _holds(folder, expected)
    except PermissionError:  # a folder that nobody has named, such as lost+found
        return False


def _look_around(folder: Path) -> Iterator[Path]:
    """The folders above, then those below, the nearest first."""
    yield from list(folder.resolve().parents)[:2]
    level = [folder]
    for _ in range(_DEPTH):
        level = [path for place in level for path in _list_folders(place)][:_WIDTH]
        yield from level


def _list_folders(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if path.is_dir())
    except PermissionError:
        return []


def shorten(names: Sequence[str], most: int = 5) -> str:
    """The first of some names, and how many more there are."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _read_column(file: Path, column: str) -> list[str]:
    """A column of a publisher's table; empty where there is no such table."""
    try:
        return list(pd.read_csv(file, dtype=str)[column]) if file.is_file() else []
    except (KeyError, ValueError) as error:
        reason = f"it has no column {column!r}" if isinstance(error, KeyError) else " ".join(str(error).split())
        raise DataError(
            f"{file} cannot be read: {reason}. Copy it again from its publisher, or take it away."
        ) from error


def default_folder(task: Task) -> Path:
    """Where a task's data lie unless something else is said: `$XRAY_DATA/<task>`, or `data/<task>`."""
    return Path(os.environ.get("XRAY_DATA", "data")) / task.name


def name_below(path: str, folder: Path) -> str:
    """A file's path as seen from the data folder, with forward slashes."""
    return Path(os.path.relpath(path, folder.resolve())).as_posix()
