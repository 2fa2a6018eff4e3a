"""From flags to labels: which of a ledger's flags count, and what they make of a data set."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pandas as pd

from xray_models.flag_record import SCHEMA_VERSION, WITHDRAWN
from xray_models.flags import list_later, read_flags
from xray_models.layouts import DataError
from xray_models.tasks import Task

_log = logging.getLogger(__name__)


def settle_flags(flags: pd.DataFrame) -> pd.DataFrame:
    """Says what became of each row of a ledger.

    A row that decides about a flag stands or falls with the last decision about that flag: what was accepted first and
    rejected later is rejected. A flag that its reader took back is one that was rejected, with a word for it.

    Args:
        flags: rows as `flags.read_flags` gives them, oldest first.

    Returns:
        The same rows with `current` ("open", "accepted" or "rejected": what the last decision made of the row),
        `verdict` (that, or "withdrawn"; "decision" for a row that decides another), `decided_by` (a reader, or "") and
        `stands` (whether training applies it: of each image and task the last row that was accepted, else the last
        that is open: a flag that nobody looked at undoes no decision).
    """
    flags = flags.copy()
    last = flags[flags["decides"] != ""].drop_duplicates("decides", keep="last").set_index("decides")
    flags["current"] = _look_up(flags["decides"].where(flags["decides"] != "", flags["flag_id"]), last["status"])
    flags["current"] = flags["current"].where(flags["current"] != "", flags["status"])
    withdrawn = _look_up(flags["flag_id"], last["reason"]) == WITHDRAWN
    flags["verdict"] = flags["current"].mask(withdrawn, WITHDRAWN).where(flags["decides"] == "", "decision")
    flags["decided_by"] = _look_up(flags["flag_id"], last["reader"])
    standing = flags[flags["current"] != "rejected"]
    standing = pd.concat([standing[standing["current"] != "accepted"], standing[standing["current"] == "accepted"]])
    standing = standing.drop_duplicates(["task", "image_sha256"], keep="last")
    flags["stands"] = flags.index.isin(standing.index)
    return flags


def _look_up(ids: pd.Series, known: pd.Series) -> pd.Series:
    """What is known of each id, "" where nothing is."""
    return ids.map(known).astype(object).where(ids.isin(known.index), "")


def check_ledger(root: str | Path) -> None:
    """Raises `DataError` unless a folder holds flags, and none that only a later program understands."""
    if not any(Path(root).glob("*/metadata.csv")):
        raise DataError(
            f"There are no flags in {root}: no */metadata.csv. Name the folder that dashboard.py has for --flags."
        )
    if later := list_later(read_flags(root)):
        raise DataError(
            f"Rows in {root} ({len(later)}) were written with version {max(later)} of the columns by a later program; "
            f"this one knows version {SCHEMA_VERSION}, and could train on labels that nobody gave. Update this program."
        )


def apply_relabels(rows: pd.DataFrame, root: str | Path, task: Task) -> pd.DataFrame:
    """Applies a ledger's relabels to a manifest: those of its flags that stand, as `settle_flags` says.

    Args:
        rows: a manifest's rows. Test images keep their labels, so that figures before and after compare.
        root: folder of the ledger.
        task: only its flags are applied.

    Returns:
        The rows with new labels, and flagged images that the data set does not hold as training images; one that is a
        near-copy of an image in it goes with that image. Those that cannot be read, and near-copies of test images,
        are left out.

    Raises:
        DataError: when the folder holds no flags, some that a later program wrote, or one that gives a label that the
            task does not have.
    """
    check_ledger(root)
    flags = settle_flags(read_flags(root))
    last = flags[flags["stands"] & (flags["task"] == task.name)].set_index("image_sha256")
    unknown = last[~last["corrected_label"].isin(task.labels)]
    if len(unknown):
        named = ", ".join(f"{row.flag_id} ({row.corrected_label})" for row in unknown.itertuples())
        raise DataError(
            f"Flags in {root} give labels that task {task.name!r} does not have: {named}. Valid: "
            f"{', '.join(task.labels)}. Flag these images anew, or reject the flags."
        )
    rows = rows.copy()
    open_rows = (rows["split"] != "test") & rows["sha256"].isin(last.index)
    rows.loc[open_rows, "label"] = rows.loc[open_rows, "sha256"].map(last["corrected_label"])
    added = _keep_readable(last[~last.index.isin(rows["sha256"])].reset_index())
    added = pd.DataFrame(
        {
            "path": added["path"],
            "label": added["corrected_label"],
            "official": "",
            "sha256": added["image_sha256"],
            "group": range(int(rows["group"].max()) + 1, int(rows["group"].max()) + 1 + len(added)),
            "split": "train",
        }
    )
    if len(added) and task.split.group != "none":
        added = _join_copies(rows, added)
    return pd.concat([rows, added], ignore_index=True)


def _join_copies(rows: pd.DataFrame, added: pd.DataFrame) -> pd.DataFrame:
    """Gives near-copies of the data set's images the group and split of these; leaves out those of test images."""
    from xray_models.datasets import THUMBNAIL, load_arrays
    from xray_models.grouping import find_near_copies, join_groups

    count = len(rows)
    thumbnails = np.concatenate([load_arrays(part["path"], THUMBNAIL).pixels for part in (rows, added)])
    groups = [*map(str, rows["group"]), *[""] * len(added)]
    joined = join_groups(len(groups), find_near_copies(thumbnails).pairs, groups)
    strictest = rows["split"].map({"test": 0, "validation": 1, "train": 2}).sort_values(kind="stable").index
    home = rows.assign(joined=joined[:count]).loc[strictest].drop_duplicates("joined").set_index("joined")
    own = pd.Series(joined[count:], index=added.index)
    group = own.map(home["group"]).fillna(own + rows["group"].max() + 1).astype(int)
    added = added.assign(group=group, split=own.map(home["split"]).fillna("train"))
    kept = added["split"] != "test"
    _log.info("%d of %d flagged images left out: near-copies of test images", (~kept).sum(), len(added))
    return added[kept]


def _keep_readable(added: pd.DataFrame) -> pd.DataFrame:
    from xray_models.datasets import THUMBNAIL, load_arrays  # flags are settled without them

    if added.empty:
        return added
    faults = load_arrays(added["path"], THUMBNAIL).faults
    for path, fault in zip(added["path"], faults, strict=True):
        if fault:
            _log.warning("left out: the flagged image %s: %s", path, fault)
    return added[[not fault for fault in faults]]
