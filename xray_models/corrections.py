"""Corrections of a data set: a CSV of files to label anew."""

from __future__ import annotations

import logging
import unicodedata
from pathlib import Path
from typing import Any

import pandas as pd

from xray_models.layouts import DataError, name_below, shorten
from xray_models.tables import read_table
from xray_models.tasks import Task

_log = logging.getLogger(__name__)


def relabel(files: pd.DataFrame, corrections: Path, task: Task, folder: Path) -> pd.DataFrame:
    """Gives files the labels that a CSV of corrections names.

    A picture has one label: files that show the same one take it, too, unless they are named themselves.

    Args:
        files: path, label and sha256 of each image, the last "" where it cannot be read.
        corrections: CSV with the columns `file_name` (below the data folder, or the bare name where only one file
            bears it) and `label`, as `tables.read_table` reads it.
        task: whose labels are valid.
        folder: the data folder.

    Returns:
        The files with their new labels.

    Raises:
        DataError: for a CSV that cannot be read, a file that is not there or not the only one of its name, a label that
            the task does not have, or two labels for one file.
    """
    rows = read_table(corrections, ("file_name", "label"), empty=True)
    rows["label"] = rows["label"].str.strip()
    unknown = sorted(set(rows["label"]) - set(task.labels))
    if unknown:
        said = shorten([label or "(none)" for label in unknown])
        raise DataError(f"{corrections} has unknown labels: {said}. Valid: {', '.join(task.labels)}.")
    places = _name_files(files["path"], folder)
    found = [places.get(name) or places.get(_unify(name), []) for name in rows["file_name"]]
    missing = [name for name, borne in zip(rows["file_name"], found, strict=True) if len(borne) != 1]
    if missing:
        raise DataError(
            f"{corrections} names files that are not in {folder}, or a bare name that several files bear: "
            f"{shorten(missing)}. Write the path below that folder, as in "
            f"{name_below(files['path'].iloc[0], folder)}."
        )
    rows["place"] = [borne[0] for borne in found]
    given = rows.groupby("place")["label"].nunique()
    if (given > 1).any():
        twice = [name_below(files["path"][place], folder) for place in given.index[given > 1]]
        raise DataError(f"{corrections} gives two labels to {shorten(twice)}. Keep one row for each.")
    changed = files.copy()
    changed.loc[rows["place"], "label"] = rows["label"].to_numpy()
    corrected = dict(zip(files["sha256"][rows["place"]], rows["label"], strict=True))
    alike = files["sha256"].isin(set(corrected) - {""}) & ~files.index.isin(rows["place"])
    changed.loc[alike, "label"] = files.loc[alike, "sha256"].map(corrected)
    _log.info("%s: %d of %d labels changed", corrections.name, (changed["label"] != files["label"]).sum(), len(rows))
    return changed


def _name_files(paths: pd.Series, folder: Path) -> dict[str, list[Any]]:
    """The rows that each bare name and each path below the folder stands for, as they are and as `_unify` has them."""
    places: dict[str, list[Any]] = {}
    for place, path in paths.items():
        names = {Path(path).name, name_below(path, folder)}
        for name in names | set(map(_unify, names)):
            places.setdefault(name, []).append(place)
    return places


def _unify(name: str) -> str:
    """A file's name with Windows' backslashes as slashes, and its accents as one character each, unlike macOS' way."""
    return unicodedata.normalize("NFC", name.replace("\\", "/"))
