"""The flag form's work: save, undo, and what the image was flagged as before. No gradio here."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

from reading_room import cards
from reading_room.desk import SAYING, Desk, Shown
from reading_room.earlier import look_back, render_withdrawn
from reading_room.room import blinded_fields
from xray_models.flags import Flag, FlagError


class Saved(NamedTuple):
    """What became of a flag.

    Attributes:
        said: HTML that says that it is on the disk, or why not.
        flag_id: the flag, or "" where it is not saved.
    """

    said: str
    flag_id: str = ""


def save_flag(desk: Desk, shown: Shown | None, fields: Mapping[str, Any], regions: str, who: str) -> Saved:
    """Records the reader's flag of the image that is shown.

    Args:
        desk: the page's.
        shown: what is in front of the reader.
        fields: label, confidence, reason, reader and comment, named as in `Flag`.
        regions: the viewer's boxes as JSON: `sha256` of the image in view when the reader saved, and `boxes`. By the
            time that it is the flag's turn, `shown` can be another image: then nothing is saved.
        who: the reader.
    """
    if shown is None:
        return Saved(cards.render_error("There is no image to flag. Read one first.", "Not saved:"))
    record = {
        "task": shown.task,
        "image_sha256": shown.sha256,
        "seconds": round(time.time() - shown.since, 1),
    }
    try:
        record["regions"] = _take_boxes(regions, shown.sha256)
        if not fields.get("corrected_label"):
            raise FlagError("choose the label that the image should have; keys 1 to 9 do so, too.")
        if shown.blinded:
            first = desk.room.commitments.require(who, shown.task, shown.sha256)
            record |= blinded_fields(first)
        flag_id = desk.room.flag(record | dict(fields), who)
    except SAYING as error:
        return Saved(cards.render_error(str(error), "Not saved:"))
    return Saved(cards.render_saved(flag_id, str(fields["corrected_label"]), _tell_where(desk, flag_id)), flag_id)


def undo_flag(desk: Desk, shown: Shown | None, flag_id: str, who: str) -> str:
    """Takes back the reader's flag of the image that is shown; HTML that says that this is on the disk, or why not.

    Args:
        desk: the page's.
        shown: what is in front of the reader: only a flag of this image is taken back, lest one undoes another unseen.
        flag_id: the flag that this page saved last; where it is none of this image that stands open, that which the
            reader saved last.
        who: the reader.
    """
    try:
        flag = _find_own(desk, shown, flag_id, who)
        row = desk.room.withdraw(flag.flag_id, who)
    except SAYING as error:
        return cards.render_error(str(error), "Not undone.")
    return render_withdrawn(flag.flag_id, flag.corrected_label, _tell_where(desk, row))


def _find_own(desk: Desk, shown: Shown | None, flag_id: str, who: str) -> Flag:
    kept = desk.room.withdrawals
    flag = kept.find(who, flag_id) if flag_id else None
    if flag and shown and (shown.task, shown.sha256) != (flag.task, flag.image_sha256):
        flag = None
    own = kept.find_open(who, shown.task, shown.sha256) if shown else []
    if own and flag not in own:
        flag = own[0]
    if shown is None or flag is None:
        raise FlagError(
            "There is nothing to undo: you have saved no flag of this image here. Any flag can be rejected on the "
            "Review page."
        )
    return flag


def _tell_where(desk: Desk, row: str) -> str:
    """Whether a row that is on the disk is on the Hub, too; "" where the ledger has no copy there."""
    return desk.room.hub_copy.render(row) if desk.room.hub_copy else ""


def show_earlier(desk: Desk, shown: Shown | None, who: str) -> str:
    """The earlier flags of the image that is shown; "" while its reader has not committed, since they are opinions."""
    if shown is None or desk.is_sealed(shown, who):
        return ""
    return look_back(desk.room.history, shown.task, shown.sha256)


def _take_boxes(text: str, sha256: str) -> list[dict[str, int]]:
    """The boxes that were drawn on this image: whole image pixels; raises `FlagError` for those of another image."""
    try:
        drawn = json.loads(text or "{}")
        on, drawn_boxes = drawn.get("sha256") or sha256, drawn.get("boxes", ())[:200]
        boxes = [{side: int(box[side]) for side in ("x", "y", "width", "height")} for box in drawn_boxes]
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise FlagError("the boxes did not arrive whole. Reload the page and draw them again.") from error
    if on != sha256:
        raise FlagError(
            "another image was opened before this flag could be saved. Open the image that you flagged again."
        )
    return boxes
