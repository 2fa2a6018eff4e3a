"""Data sets on the Hub as folders: `--data hub:owner/name` works like a publisher's download.

The files are written as they are in the data set, so that everything that opens image files stays one way.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from xray_models.layouts import DataError
from xray_models.tasks import Task

if TYPE_CHECKING:
    import datasets

_log = logging.getLogger(__name__)
PREFIX = "hub:"


class _Columns(NamedTuple):
    """Where a data set keeps its pictures and labels; `names` are those of numbered labels, else None."""

    picture: str
    label: str
    names: list[str] | None


def export_hub(name: str, task: Task, cache: Path) -> Path:
    """Writes the files of a data set on the Hub to `<cache>/<its name>/<split>/<label>/`, once.

    Args:
        name: `owner/name`, `owner/name@revision`, or a local folder that `datasets.load_dataset` understands.
            Without a connection the library's own cache is used.
        task: whose labels the data set must have.
        cache: where exports are kept.

    Returns:
        The folder of the export.

    Raises:
        DataError: when the data set cannot be had, has no image or label, or has labels that the task lacks; or when
            the cache has no room for it.
    """
    splits = _load(name)
    columns = _find_columns(name, splits)
    files = [file["filename"] for part in splits.values() for file in part.cache_files]
    key = hashlib.sha256(json.dumps([name, files, task.labels]).encode()).hexdigest()[:12]
    folder = cache / f"{re.sub(r'[^A-Za-z0-9]+', '-', name).strip('-')}-{key}"
    if folder.is_dir():
        return folder
    draft = None
    try:
        cache.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(dir=cache))
        for split, part in splits.items():
            _write_split(part, columns, draft / split, task)
        draft.rename(folder)
    except OSError as error:
        if not folder.is_dir():  # else another process was first
            raise DataError(
                f"The data set {name!r} cannot be written to {cache}: {error.strerror or error}. Make room there, or "
                "name another folder in XDG_CACHE_HOME."
            ) from error
    finally:
        if draft:
            shutil.rmtree(draft, ignore_errors=True)
    return folder


def _load(name: str) -> dict[str, datasets.Dataset]:
    from datasets import load_dataset
    from datasets.exceptions import DatasetsError

    repo, _, revision = name.partition("@")
    try:
        return dict(load_dataset(repo, revision=revision or None))
    except (DatasetsError, OSError, ValueError) as error:
        raise DataError(
            f"The data set {name!r} can be had neither from the Hub nor from its cache: {error} "
            f"Write {PREFIX}owner/name, or give the folder of a download."
        ) from error


def _find_columns(name: str, splits: dict[str, datasets.Dataset]) -> _Columns:
    from datasets import Image

    features = next(iter(splits.values())).features
    picture = next((column for column, feature in features.items() if isinstance(feature, Image)), None)
    label = next((column for column in ("label", "labels") if column in features), None)
    if picture is None or label is None:
        raise DataError(f"{name!r} has the columns {', '.join(features)}; expected an image and its `label`.")
    return _Columns(picture, label, getattr(features[label], "names", None))


def _write_split(part: datasets.Dataset, columns: _Columns, folder: Path, task: Task) -> None:
    from datasets import Image

    part = part.cast_column(columns.picture, Image(decode=False))
    for index, row in enumerate(part):
        if row[columns.picture] is None:
            _log.warning("row %d of the split %r has no picture and is left out", index, folder.name)
            continue
        label = _name_label(row[columns.label], columns)
        if label not in task.labels:
            raise DataError(
                f"Row {index} of the split {folder.name!r} has the label {label!r}; task {task.name!r} has "
                f"{', '.join(task.labels)}. Use a data set with these labels, or write a task for its own."
            )
        picture = row[columns.picture]
        source = Path(picture["path"] or f"{index:06d}")
        place = folder / label / source.name
        if place.exists():
            place = place.with_stem(f"{place.stem}-{index:06d}")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(picture["bytes"] or source.read_bytes())


def _name_label(value: Any, columns: _Columns) -> str:
    if columns.names is None or not isinstance(value, int):
        return str(value)
    return columns.names[value] if 0 <= value < len(columns.names) else "none given"
