"""Published data sets -> one manifest: path, label, group and split of every image that can be used.

The way of the data: a folder as its publisher ships it -> `LAYOUTS` -> paths and labels -> corrections -> one decode,
faults set aside -> groups -> splits. Training and evaluation start from the same `Manifest`.
`python -m xray_models.datasets --task covid --data DIR` shows what is in a folder.
"""

from __future__ import annotations

if __name__ == "__main__":  # answers --help before what follows is imported
    from xray_models.commands import leave, leave_in_order
    from xray_models.survey_command import main

    leave_in_order("SIGTERM", "SIGHUP")  # drafts in the cache go
    leave(main)

import dataclasses
import logging
import re
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from xray_models import phantom
from xray_models.arrays import Arrays, cache_folder, load_arrays
from xray_models.corrections import relabel
from xray_models.exports import PREFIX, export_hub
from xray_models.grouping import NO_COPIES, NearCopies, find_near_copies, join_groups, split_groups
from xray_models.images import InputSpec
from xray_models.layouts import LAYOUTS, DataError, Listed, default_folder, is_folder, list_images, name_below
from xray_models.rows import write_sheet
from xray_models.tasks import SPLIT_KINDS, Task, choose

__all__ = [
    "LAYOUTS",
    "Arrays",
    "DataError",
    "Manifest",
    "Twins",
    "cache_folder",
    "count_twins",
    "data_folder",
    "load_arrays",
    "open_dataset",
    "write_manifest",
]

_log = logging.getLogger(__name__)
THUMBNAIL = InputSpec(height=64, width=64, resample="bilinear")  # in which near-copies are looked for


@dataclasses.dataclass(frozen=True)
class Manifest:
    """A data set, read.

    Attributes:
        rows: one image a row: path (absolute), label, official (the publisher's split or ""), sha256 (of the
            pixels), group (int), split ("train", "validation" or "test").
        faults: files left out: path, label, reason.
        folder: the data folder.
        copies: near-copies among the rows, by their place; none where grouping is off.
        kind: "grouped", or "official" where the split is the publisher's.
    """

    rows: pd.DataFrame
    faults: pd.DataFrame
    folder: Path
    copies: NearCopies = NO_COPIES
    kind: str = "grouped"

    def part(self, split: str) -> pd.DataFrame:
        """Returns the rows of "train", "validation", "test" or "all"."""
        if split == "all":
            return self.rows
        choose("split", split, ("train", "validation", "test", "all"))
        return self.rows[self.rows["split"] == split].reset_index(drop=True)


class Twins(NamedTuple):
    """Images of the test that training has seen in another guise.

    Attributes:
        test: images in the test split.
        related: those of them whose group (patient, chain of near-copies) has an image in train.
        copies: those of them that have a near-copy, mirrored or not, in train.
    """

    test: int
    related: int
    copies: int


def data_folder(task: Task, given: str | Path | None = None) -> Path:
    """Returns the folder of a task's data: the one given, `$XRAY_DATA/<task>`, or `data/<task>`.

    A data set on the Hub, `hub:owner/name`, is written to a folder of the cache first.

    Raises:
        DataError: when it is not there; says where the publisher offers the data. Or when the cache has no room for
            what is written to it.
    """
    if task.dataset.layout == "phantom" and given is None:
        return _draw_phantoms(task)
    if _is_on_hub(given):
        return export_hub(str(given).removeprefix(PREFIX), task, cache_folder() / "hub")
    folder = Path(given) if given else default_folder(task)
    if not is_folder(folder):
        raise DataError(
            f"There is no data for task {task.name!r} in {folder}. Get {task.dataset.source} from its publisher "
            f"({task.dataset.licence}), unpack it into {folder} as it is, or point --data or XRAY_DATA elsewhere. "
            "Without any data, try --task phantom: it draws its own."
        )
    return folder


def _draw_phantoms(task: Task) -> Path:
    images, cache = task.recipe.images, cache_folder()
    try:
        return phantom.write_dataset(cache / f"phantom-{images}-{task.split.seed}", images, task.split.seed)
    except OSError as error:
        raise DataError(
            f"The phantoms cannot be written to {cache}: {error.strerror or error}. Make room there, or name another "
            "folder in XDG_CACHE_HOME."
        ) from error


def _is_on_hub(given: str | Path | None) -> bool:
    return str(given).startswith(PREFIX)


def open_dataset(
    task: Task, given: str | Path | None = None, split: str = "", relabels: str | Path | None = None
) -> Manifest:
    """Reads a data set in its publisher's layout, sets faulty files aside, groups and splits it.

    Args:
        task: the task whose `dataset` and `split` apply.
        given: the data folder, or `hub:owner/name`; None for the default of `data_folder`. Folders `<label>/` or
            `<split>/<label>/` serve every task.
        split: "grouped" or "official" (the publisher's); "" for what the task says.
        relabels: CSV with `file_name` and `label` of files to label anew; None for what the task says.

    Raises:
        DataError: when the folder is missing, empty or laid out differently, a correction does not fit, or the
            publisher has no split.
    """
    kind = choose("split", split or task.split.kind, SPLIT_KINDS)
    folder = data_folder(task, given)
    layout = choose("dataset.layout", "hub_export" if _is_on_hub(given) else task.dataset.layout, LAYOUTS)
    found = pd.DataFrame(list_images(task, folder, layout), columns=list(Listed._fields))
    if found.empty:
        raise DataError(f"{folder} has the right folders, but no image in any of them.")
    found = found.sort_values("path", ignore_index=True)
    arrays = load_arrays(found["path"], THUMBNAIL)
    found["sha256"], found["reason"] = list(arrays.sha256), list(arrays.faults)
    published = _mark_contradictions(found)  # by which the splits are dealt: a correction moves no other image
    corrections = relabels or (folder / task.dataset.relabels if task.dataset.relabels else None)
    if corrections:
        found = relabel(found, Path(corrections), task, folder)
    found = _mark_contradictions(found)
    good, dealt = (table["reason"] == "" for table in (found, published))
    faults = found.loc[~good, ["path", "label", "reason"]].reset_index(drop=True)
    for path, reason in zip(faults["path"], faults["reason"], strict=True):
        _log.warning("left out: %s: %s", name_below(path, folder), reason)
    if not good.any():
        raise DataError(
            f"None of the {len(found)} files in {folder} can be used. The first: {faults['reason'].iloc[0]}"
        )
    either = (good | dealt).to_numpy()
    rows = published[either].drop(columns="reason").reset_index(drop=True)
    rows["group"], copies = _group(task, rows, arrays.pixels[either])
    rows["split"] = _divide(task, rows, dealt[either].to_numpy(), kind)
    rows["label"] = found.loc[either, "label"].to_numpy()
    kept = good[either].to_numpy()
    manifest = Manifest(rows[kept].reset_index(drop=True), faults, folder, copies.keep(kept), kind)
    if kind == "official":
        twins = count_twins(manifest)
        _log.warning("of %d test images %d have a twin in train, %d of them a near-copy", *twins)
    return manifest


def _group(task: Task, rows: pd.DataFrame, thumbnails: np.ndarray) -> tuple[np.ndarray, NearCopies]:
    if task.split.group == "none":
        return np.arange(len(rows)), NO_COPIES
    copies = find_near_copies(thumbnails)
    patient = re.compile(task.dataset.patient) if task.dataset.patient else None
    matches = [patient.match(Path(path).name) if patient else None for path in rows["path"]]
    return join_groups(len(rows), copies.pairs, [m.group() if m else "" for m in matches]), copies


def _divide(task: Task, rows: pd.DataFrame, dealt: np.ndarray, kind: str) -> np.ndarray:
    """(N,) names of splits; what is not dealt, since a correction lets it in, goes with its group, else into train."""
    split = np.full(len(rows), "train", dtype=object)
    if dealt.any():
        split[dealt] = _deal(task, rows[dealt], kind)
    late = rows[~dealt]
    if kind == "official":
        split[~dealt] = late["official"].where(late["official"] != "", "train")
    else:
        home = dict(zip(rows["group"][dealt], split[dealt], strict=True))
        split[~dealt] = late["group"].map(home).fillna("train")
    return split


def _deal(task: Task, rows: pd.DataFrame, kind: str) -> np.ndarray:
    """(N,) names of splits: dealt by groups and labels, or the publisher's, whose validation may be cut from train."""
    fractions = {"test": task.split.test, "validation": task.split.validation}
    groups = rows["group"].to_numpy()
    if kind == "grouped":
        return split_groups(list(rows["label"]), groups, fractions, task.split.seed)
    split = rows["official"].to_numpy(dtype=object, copy=True)
    bare = int((split == "").sum())
    if bare or not {"train", "test"} <= set(split):
        raise DataError(
            f"{bare} of {len(rows)} images of {task.dataset.source} are in no split of their publisher, the others "
            f"in {', '.join(sorted(set(split) - {''})) or 'none'}. Use the grouped split."
        )
    if "validation" not in set(split):
        train = split == "train"
        share = {"validation": fractions["validation"]}
        split[train] = split_groups(list(rows["label"][train]), groups[train], share, task.split.seed)
    return split


def count_twins(manifest: Manifest) -> Twins:
    """Counts the test images that have a twin in train: none in a grouped split, many in some official ones.

    An official train is the publisher's, with the images that were cut from it as validation.
    """
    rows, pairs = manifest.rows, manifest.copies.pairs
    split = rows["official" if manifest.kind == "official" else "split"]
    test, train = (split == "test").to_numpy(), (split == "train").to_numpy()
    related = test & rows["group"].isin(rows["group"][train]).to_numpy()
    both = np.concatenate([pairs, pairs[:, ::-1]])
    copied = np.unique(both[test[both[:, 0]] & train[both[:, 1]], 0])
    return Twins(int(test.sum()), int(related.sum()), len(copied))


def write_manifest(manifest: Manifest, out: Path) -> None:
    """Writes `manifest.csv` and `faults.csv`, with paths as seen from the data folder."""
    out.mkdir(parents=True, exist_ok=True)
    for name, table in (("manifest", manifest.rows), ("faults", manifest.faults)):
        named = table.assign(path=[name_below(path, manifest.folder) for path in table["path"]])
        write_sheet(named, out / f"{name}.csv")


def _mark_contradictions(found: pd.DataFrame) -> pd.DataFrame:
    """The files, with a reason for those that show exactly the same picture under different labels."""
    readable = found[found["reason"] == ""]
    labels = readable.groupby("sha256")["label"].nunique()
    twice = found["sha256"].isin(labels[labels > 1].index)
    reason = found["reason"].mask(twice, "the same picture stands under another label too")
    return found.assign(reason=reason)
