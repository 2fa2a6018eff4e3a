"""The flags, read back: what became of each, and decisions on them, each a new row. No gradio here."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from reading_room.room import Room
from xray_models import flags as ledgers
from xray_models.flag_record import NUMBERS, read_number, read_opinions
from xray_models.flags import Flag, FlagError, Ledger
from xray_models.images import ImageError, Radiograph, read_image
from xray_models.relabels import settle_flags
from xray_models.tasks import Task, choose

STATUSES = ("open", "accepted", "rejected", "decision", "withdrawn")


class Wanted(NamedTuple):
    """Which flags to show; "" for all.

    Attributes:
        task: name of a task.
        reader: who flagged.
        label: the corrected label.
        status: one of `STATUSES`.
    """

    task: str = ""
    reader: str = ""
    label: str = ""
    status: str = ""


def load_flags(root: Path, withdrawn: bool = False) -> pd.DataFrame:
    """All flags, newest first, with what became of them.

    Args:
        root: folder of the ledger.
        withdrawn: whether flags that their readers took back are there, too, with the rows that decide them.

    Returns:
        The columns of `flags.read_flags`, and those that `relabels.settle_flags` adds.
    """
    parts = [(str(path), path.stat()) for path in sorted(root.glob("*/metadata.csv"))]
    flags, gone = _load(root, tuple((path, stat.st_size, stat.st_mtime_ns) for path, stat in parts))
    return flags.copy() if withdrawn else flags[~gone].reset_index(drop=True)


@lru_cache(maxsize=4)
def _load(root: Path, stamps: tuple[tuple[str, int, int], ...]) -> tuple[pd.DataFrame, pd.Series]:
    """The flags, and which of their rows are about a flag that was taken back."""
    flags = settle_flags(ledgers.read_flags(root)).iloc[::-1].reset_index(drop=True)
    gone = flags.loc[flags["verdict"] == ledgers.WITHDRAWN, "flag_id"]
    return flags, flags["flag_id"].isin(gone) | flags["decides"].isin(gone)


def filter_flags(flags: pd.DataFrame, wanted: Wanted) -> pd.DataFrame:
    """The flags that are wanted, in their order."""
    columns = {"task": "task", "reader": "reader", "label": "corrected_label", "status": "verdict"}
    for field, value in wanted._asdict().items():
        if value:
            flags = flags[flags[columns[field]] == value]
    return flags.reset_index(drop=True)


def find_flag(flags: pd.DataFrame, flag_id: str) -> Mapping[str, Any]:
    """One flag as a mapping; raises `FlagError` when there is none."""
    found = flags[flags["flag_id"] == flag_id]
    if found.empty:
        raise FlagError("This flag is not in the ledger, or its reader took it back. Load the list anew.")
    return ledgers.list_rows(found)[0]


def step_flag(flags: pd.DataFrame, wanted: pd.DataFrame, chosen: str, step: int) -> tuple[str, int]:
    """The flag before or after another in a list that may have lost that one, as when it was decided.

    Args:
        flags: all of them, newest first.
        wanted: those of them that the filter leaves.
        chosen: id of the flag to go on from.
        step: 1 for the next older flag, -1 for the next newer one; decisions and withdrawn flags are passed over.

    Returns:
        Its id and its row in `wanted`; "" and 0 where there is none.
    """
    places = dict(zip(flags["flag_id"], range(len(flags)), strict=True))
    if chosen not in places:
        return "", 0
    own = wanted[(wanted["decides"] == "") & (wanted["verdict"] != ledgers.WITHDRAWN)]
    found = zip(own["flag_id"], own.index.tolist(), strict=True)
    ahead = [(places[flag_id], row, flag_id) for flag_id, row in found if (places[flag_id] - places[chosen]) * step > 0]
    if not ahead:
        return "", 0
    _, row, flag_id = min(ahead, key=lambda one: one[0] * step)
    return flag_id, row


def accept_labels(flags: pd.DataFrame, task: str) -> dict[str, str]:
    """The label that the last accepted decision gives to each image, by sha256."""
    own = (flags["task"] == task) & (flags["status"] == "accepted") & (flags["current"] == "accepted")
    accepted = flags[own].drop_duplicates("image_sha256", keep="first")  # newest first
    return dict(zip(accepted["image_sha256"], accepted["corrected_label"], strict=True))


# --- decisions: each a new row ---


def decide(ledger: Ledger, task: Task, flag_id: str, verdict: str, reader: str, comment: str = "") -> list[str]:
    """Accepts or rejects a flag; an earlier acceptance of a flag that is rejected now is rejected with it.

    Args:
        ledger: where the decision goes.
        task: the flag's task.
        flag_id: the flag.
        verdict: "accepted" or "rejected".
        reader: who decides.
        comment: why.

    Returns:
        Ids of the new rows.

    Raises:
        FlagError: when the flag is not there, is a decision itself, or the decision does not make sense.
        LedgerError: when it could not be written.
    """
    choose("decision", verdict, ("accepted", "rejected"))
    flags = load_flags(ledger.root)
    row = find_flag(flags, flag_id)
    if row["decides"]:
        raise FlagError("This row is a decision on another flag. Decide that flag anew; the last decision counts.")
    image = open_image(row)
    rows = [_answer(row, reader, comment, verdict, target) for target in _find_targets(flags, flag_id, verdict)]
    return ledger.append_all(rows, image, task)


def _find_targets(flags: pd.DataFrame, flag_id: str, verdict: str) -> list[str]:
    """What a decision on a flag decides: the flag; and where it is rejected, what accepted it before."""
    if verdict != "rejected":
        return [flag_id]
    earlier = flags[(flags["decides"] == flag_id) & (flags["status"] == "accepted")]
    settled = set(flags.loc[flags["status"] == "rejected", "decides"])
    return [flag_id, *(own for own in earlier["flag_id"] if own not in settled)]


def adjudicate(ledger: Ledger, task: Task, sha256: str, label: str, reader: str, comment: str = "") -> list[str]:
    """Settles the label of an image that readers flagged: flags with that label are accepted, the others rejected.

    Where no reader gave that label, it is an accepted flag of its own.

    Args:
        ledger: where the decisions go.
        task: the flags' task.
        sha256: the image.
        label: the label that is right.
        reader: who decides.
        comment: why.

    Returns:
        Ids of the new rows.

    Raises:
        FlagError: when the image has no flag, or the decision does not make sense.
        LedgerError: when it could not be written.
        TaskError: for a label that is not the task's.
    """
    choose("label", label, task.labels)
    flags = load_flags(ledger.root)
    own = flags[(flags["task"] == task.name) & (flags["image_sha256"] == sha256) & (flags["decides"] == "")]
    if own.empty:
        raise FlagError("Nobody flagged this image for this task, so there is nothing to settle.")
    newest, matches = ledgers.list_rows(own)[0], own["corrected_label"] == label
    rows = []
    for verdict, decided in (("rejected", ~matches & (own["verdict"] != "rejected")), ("accepted", matches)):
        for row in ledgers.list_rows(own[decided][::-1]):
            targets = _find_targets(flags, row["flag_id"], verdict)
            rows += [_answer(row, reader, comment, verdict, target) for target in targets]
    if not matches.any():
        rows.append(dataclasses.replace(_answer(newest, reader, comment, "accepted", ""), corrected_label=label))
    return ledger.append_all(rows, open_image(newest), task)


def answer(  # noqa: PLR0913 - as `decide`, and what was seen
    room: Room, flag_id: str, verdict: str, reader: str, comment: str = "", seen: str = ""
) -> list[str]:
    """`decide` for a flag of any task; raises `FlagError` where that, or another label of its image, stands already.

    `seen` is the verdict on which the reader decided: where it is another by now, nothing is written; "" for any.
    """
    with room.deciding:  # each on what the one before has left
        flags = load_flags(room.ledger.root)
        row = _find_as_seen(flags, flag_id, seen)
        if row["verdict"] == verdict:
            raise FlagError(
                "This flag is accepted already." if verdict == "accepted" else "This flag is rejected already."
            )
        same = (flags["task"] == row["task"]) & (flags["image_sha256"] == row["image_sha256"])
        other = flags[same & (flags["verdict"] == "accepted") & (flags["corrected_label"] != row["corrected_label"])]
        if verdict == "accepted" and len(other):
            label = other["corrected_label"].iloc[0].replace("_", " ")
            raise FlagError(
                f"Another flag of this image is accepted, with the label {label}. Reject that one first, or settle the "
                "label between readers."
            )
        task = room.panels.tasks[choose("task", row["task"], room.panels.tasks)]
        return decide(room.ledger, task, flag_id, verdict, reader, comment)


def _find_as_seen(flags: pd.DataFrame, flag_id: str, seen: str) -> Mapping[str, Any]:
    row = find_flag(flags, flag_id)
    if seen and row["verdict"] != seen:
        raise FlagError(f"This flag was {row['verdict']} meanwhile. Look at it again, then decide.")
    return row


def settle(  # noqa: PLR0913 - as `answer`
    room: Room, flag_id: str, label: str, reader: str, comment: str = "", seen: str = ""
) -> list[str]:
    """`adjudicate` for the image of a flag; raises `FlagError` where they are decided so already, or as `answer`."""
    with room.deciding:  # each on what the one before has left
        flags = load_flags(room.ledger.root)
        row = _find_as_seen(flags, flag_id, seen)
        task = room.panels.tasks[choose("task", row["task"], room.panels.tasks)]
        own = (flags["task"] == task.name) & (flags["image_sha256"] == row["image_sha256"]) & (flags["decides"] == "")
        matches = flags.loc[own, "corrected_label"] == label
        if matches.any() and (flags.loc[own, "verdict"] == np.where(matches, "accepted", "rejected")).all():
            raise FlagError("The image has this label already: its flags are accepted and rejected as it says.")
        return adjudicate(room.ledger, task, row["image_sha256"], label, reader, comment)


def open_image(row: Mapping[str, Any]) -> Radiograph:
    """The flagged image, from the ledger's folder; raises `FlagError` when it is gone or another one."""
    try:
        image = read_image(row["path"])
    except ImageError as error:
        raise FlagError("The flagged image is not in the ledger's folder any more.") from error
    if image.sha256 != row["image_sha256"]:
        raise FlagError("The image in the ledger's folder is not the one that was flagged.")
    return image


def show_image(row: Mapping[str, Any]) -> Radiograph | None:
    """The flagged image, or None where it is gone."""
    try:
        return open_image(row)
    except FlagError:
        return None


def _answer(row: Mapping[str, Any], reader: str, comment: str, status: str, decides: str) -> Flag:
    return Flag(
        reader=reader,
        task=row["task"],
        corrected_label=row["corrected_label"],
        image_sha256=row["image_sha256"],
        reason=row["reason"],
        comment=comment,
        opinions=read_opinions(row["opinions"]),
        consensus_label=row["consensus_label"],
        disagreement=read_number(row["disagreement"]),
        status=status,
        decides=decides,
        source_name_hash=row["source_name_hash"],
    )


# --- what goes out ---


def export_json(flags: pd.DataFrame) -> str:
    """Flags as JSON: opinions and regions as they are, numbers as numbers; no folder of this machine."""
    records = []
    for row in ledgers.list_rows(flags.drop(columns=["path", "current"])):
        for name in ("opinions", "regions", *NUMBERS):
            with contextlib.suppress(ValueError):  # else it stays the text that somebody made of it
                row[name] = json.loads(row[name] or "null", parse_constant=int)  # NaN is no JSON, and no whole number
        records.append(row)
    return json.dumps(records, indent=1, ensure_ascii=False)


def list_readers(flags: pd.DataFrame, task: str) -> dict[str, list[str]]:
    """Who flagged each image, by sha256; decisions do not count."""
    own = flags[(flags["task"] == task) & (flags["decides"] == "")]
    return {str(sha256): sorted(set(part["reader"])) for sha256, part in own.groupby("image_sha256")}
