"""From flags to labels: which of a ledger's flags count, and what they make of a data set."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from xray_models.flags import read_flags
from xray_models.tasks import Task


def apply_relabels(rows: pd.DataFrame, root: str | Path, task: Task) -> pd.DataFrame:
    """Applies a ledger's relabels to a manifest: the last flag of an image that was not rejected counts.

    A row that decides about a flag stands or falls with the last decision about that flag: what was accepted first and
    rejected later is rejected.

    Args:
        rows: a manifest's rows. Test images keep their labels, so that figures before and after compare.
        root: folder of the ledger.
        task: only its flags are applied.

    Returns:
        The rows with new labels, and flagged images that the data set does not hold as training images.
    """
    flags = read_flags(root)
    verdicts: dict[str, str] = dict(flags.loc[flags["decides"] != "", ["decides", "status"]].itertuples(index=False))
    columns = zip(flags["flag_id"], flags["decides"], flags["status"], strict=True)
    status = [verdicts.get(decides or flag_id, own) for flag_id, decides, own in columns]
    flags = flags[(flags["task"] == task.name) & (pd.Series(status, index=flags.index) != "rejected")]
    last = flags.drop_duplicates("image_sha256", keep="last").set_index("image_sha256")
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
