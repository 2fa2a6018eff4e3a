"""From flags to labels: which of a ledger's flags count, and what they make of a data set."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from xray_models.flags import WITHDRAWN, read_flags
from xray_models.tasks import Task


def settle_flags(flags: pd.DataFrame) -> pd.DataFrame:
    """Says what became of each row of a ledger.

    A row that decides about a flag stands or falls with the last decision about that flag: what was accepted first and
    rejected later is rejected. A flag that its reader took back is one that was rejected, with a word for it.

    Args:
        flags: rows as `flags.read_flags` gives them, oldest first.

    Returns:
        The same rows with `current` ("open", "accepted" or "rejected": what the last decision made of the row),
        `verdict` (that, or "withdrawn"; "decision" for a row that decides another), `decided_by` (a reader, or "") and
        `stands` (whether training applies it: the last row of each image and task that was not rejected).
    """
    flags = flags.copy()
    last = flags[flags["decides"] != ""].drop_duplicates("decides", keep="last").set_index("decides")
    flags["current"] = _look_up(flags["decides"].where(flags["decides"] != "", flags["flag_id"]), last["status"])
    flags["current"] = flags["current"].where(flags["current"] != "", flags["status"])
    withdrawn = _look_up(flags["flag_id"], last["reason"]) == WITHDRAWN
    flags["verdict"] = flags["current"].mask(withdrawn, WITHDRAWN).where(flags["decides"] == "", "decision")
    flags["decided_by"] = _look_up(flags["flag_id"], last["reader"])
    standing = flags[flags["current"] != "rejected"].drop_duplicates(["task", "image_sha256"], keep="last")
    flags["stands"] = flags.index.isin(standing.index)
    return flags


def _look_up(ids: pd.Series, known: pd.Series) -> pd.Series:
    """What is known of each id, "" where nothing is."""
    return ids.map(known).astype(object).where(ids.isin(known.index), "")


def apply_relabels(rows: pd.DataFrame, root: str | Path, task: Task) -> pd.DataFrame:
    """Applies a ledger's relabels to a manifest: those of its flags that stand, as `settle_flags` says.

    Args:
        rows: a manifest's rows. Test images keep their labels, so that figures before and after compare.
        root: folder of the ledger.
        task: only its flags are applied.

    Returns:
        The rows with new labels, and flagged images that the data set does not hold as training images.
    """
    flags = settle_flags(read_flags(root))
    last = flags[flags["stands"] & (flags["task"] == task.name)].set_index("image_sha256")
    rows = rows.copy()
    open_rows = (rows["split"] != "test") & rows["sha256"].isin(last.index)
    rows.loc[open_rows, "label"] = rows.loc[open_rows, "sha256"].map(last["corrected_label"])
    added = last[~last.index.isin(rows["sha256"])].reset_index()
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
    return pd.concat([rows, added], ignore_index=True)
