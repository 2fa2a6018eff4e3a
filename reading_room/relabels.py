"""What goes from the flags into training: relabels, and the commands that show what they change. No gradio here."""

from __future__ import annotations

import csv
import io
import shlex
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from xray_models.file_names import hash_name
from xray_models.flags import list_rows
from xray_models.images import ImageError, read_image
from xray_models.layouts import DataError, default_folder, list_images, name_below
from xray_models.tasks import Task


class Relabels(NamedTuple):
    """What `relabels.csv` holds.

    Attributes:
        text: CSV with `file_name` and `label`.
        matched: images that were found in the data folder.
        missing: images that were not.
    """

    text: str
    matched: int
    missing: int


def list_relabels(flags: pd.DataFrame, task: str) -> pd.DataFrame:
    """The flags that training applies: the last of each image that was not rejected."""
    return flags[(flags["task"] == task) & flags["stands"]].reset_index(drop=True)


def find_data(task: Task) -> Path | None:
    """A task's data folder on this machine; None without one."""
    folder = default_folder(task)
    return folder if folder.is_dir() else None


def export_relabels(flags: pd.DataFrame, task: Task, folder: Path) -> Relabels:
    """The relabels as `train --labels` reads them: file names below the data folder, and labels.

    A file is an image that was flagged when the keyed hash of its name is the flag's, and then its pixels are: so
    only images that were sent from such a data set, to a reading room on this machine, are found. `train --flags`
    goes by pixels and finds all.

    Args:
        flags: as `load_flags` gives them.
        task: the task.
        folder: its data folder.

    Raises:
        DataError: when the folder is not laid out as the task's data set is.
    """
    relabels = list_relabels(flags, task.name)
    wanted = set(relabels["source_name_hash"]) - {""}
    files = list_images(task, folder, task.dataset.layout) if wanted else []
    by_hash: dict[str, list[str]] = {}
    for file in files:
        name = hash_name(Path(file.path).name)
        if name in wanted:
            by_hash.setdefault(name, []).append(file.path)
    text, matched = io.StringIO(), 0
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["file_name", "label"])
    for row in list_rows(relabels[::-1]):
        paths = [path for path in by_hash.get(row["source_name_hash"], ()) if _has_pixels(path, row["image_sha256"])]
        writer.writerows([name_below(path, folder), row["corrected_label"]] for path in paths)
        matched += bool(paths)
    return Relabels(text.getvalue(), matched, len(relabels) - matched)


def _has_pixels(path: str, sha256: str) -> bool:
    try:
        return read_image(path).sha256 == sha256
    except ImageError:
        return False


def list_commands(task: Task, model: str, root: Path, data: Path | None) -> tuple[str, str]:
    """The commands that show what the relabels change: training with them, and the evaluation.

    Args:
        task: the task.
        model: one of its models.
        root: folder of the ledger.
        data: its data folder, or None for the default.
    """
    ref = task.model(model)
    given = ["--data", str(data or f"data/{task.name}")] if task.dataset.layout != "phantom" or data else []
    out = f"checkpoints/{ref.checkpoint or f'{task.name}/{model}'}"
    train = ["--task", task.name, "--model", model, *given, "--flags", str(root), "--out", out]
    score = ["--task", task.name, *given, "--models", model, "--out", f"reports/{task.name}-relabelled"]
    return f"python -m xray_models.train {shlex.join(train)}", f"python -m evaluation.run {shlex.join(score)}"


def write_relabels(flags: pd.DataFrame, task: Task, root: Path) -> tuple[str, str]:
    """`export_relabels` with the data folder that is here, and a sentence on what it found; "" and why where none is.

    Args:
        flags: as `review.load_flags` gives them.
        task: the task.
        root: folder of the ledger, for what to do instead.
    """
    instead = f"Train with --flags {shlex.quote(str(root))} instead: that goes by pixels."
    folder = find_data(task)
    if folder is None:
        return "", f"The data of {task.title} are not on this machine, so files cannot be named. {instead}"
    try:
        found = export_relabels(flags, task, folder)
    except DataError as error:
        return "", f"{error} {instead}"
    lacking = "image is" if found.missing == 1 else "images are"
    missing = f" {found.missing} flagged {lacking} not in it by name. {instead}" if found.missing else ""
    images = "image" if found.matched == 1 else "images"
    return found.text, f"relabels.csv names {found.matched} flagged {images} of the data folder.{missing}"
