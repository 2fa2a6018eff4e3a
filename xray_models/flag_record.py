"""The record of a flag: its fields, what they may hold, and the row of the ledger's CSV that they make.

A row also says which version of the columns it was written with. `rows` says how texts become cells.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any

from xray_models import __version__
from xray_models.rows import to_cell
from xray_models.tasks import Task, choose

SCHEMA_VERSION = 1
REASONS = ("wrong label", "several findings", "poor quality", "not this body part", "other")
WITHDRAWN = "withdrawn"
"""The reason of a row that takes a flag back: its reader's own decision on it, with status "rejected"."""
_STATUSES = ("open", "accepted", "rejected")
_COMMENT_LIMIT = 4000  # characters
_CELL_LIMIT = 100_000  # characters; Python's csv gives up on a whole file with a cell of more than 131,072
_SIDES = {"x", "y", "width", "height"}


class FlagError(ValueError):
    """A flag that cannot be recorded; the message says what to change."""


@dataclasses.dataclass(frozen=True)
class Flag:
    """A reader's record that an image needs another label. Field for field a row of the CSV.

    Attributes:
        reader: who flags.
        task: name of the task.
        corrected_label: the label that the reader gives.
        image_sha256: the image's name, as in `Radiograph.sha256`.
        confidence: the reader's, in [0, 1].
        reason: one of `REASONS`; `WITHDRAWN` in a row that takes a flag back.
        comment: free text.
        regions: boxes in image pixels, each {"x", "y", "width", "height"}.
        opinions: model to label, probs and revision, as shown to the reader.
        consensus_label: the panel's label, or "" where none answered.
        disagreement: the panel's, in [0, 1], or None.
        first_label: the reader's label before the panel spoke (blinded mode), else "".
        first_confidence: the reader's confidence then, in [0, 1], or None.
        mode: "open" or "blinded".
        seconds: from opening the image to the flag, or None.
        status: "open", "accepted" or "rejected".
        decides: the flag that this row adjudicates, else "".
        source_name_hash: keyed hash of the file's name, from `file_names.hash_name`.
        flag_id: made when left empty; writing the same id twice records one flag.
        created_at: UTC, ISO 8601; set when left empty.
    """

    reader: str
    task: str
    corrected_label: str
    image_sha256: str
    confidence: float = 1.0
    reason: str = "wrong label"
    comment: str = ""
    regions: tuple[Mapping[str, float], ...] = ()
    opinions: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    consensus_label: str = ""
    disagreement: float | None = None
    first_label: str = ""
    first_confidence: float | None = None
    mode: str = "open"
    seconds: float | None = None
    status: str = "open"
    decides: str = ""
    source_name_hash: str = ""
    flag_id: str = ""
    created_at: str = ""


FIELDS = [
    "file_name",
    "flag_id",
    "created_at",
    "reader",
    "task",
    "image_sha256",
    "source_name_hash",
    "consensus_label",
    "disagreement",
    "first_label",
    "first_confidence",
    "corrected_label",
    "confidence",
    "reason",
    "comment",
    "regions",
    "opinions",
    "mode",
    "seconds",
    "status",
    "decides",
    "app_version",
    "schema_version",
]
NUMBERS = {"disagreement", "first_confidence", "confidence", "seconds"}


def check_flag(flag: Flag, task: Task) -> None:
    """Raises `FlagError` or `TaskError` unless a flag makes sense for its task."""
    _check_kinds(flag)
    choose("label", flag.corrected_label, task.labels)
    if flag.reason != WITHDRAWN:
        choose("reason", flag.reason, REASONS)
    elif not flag.decides or flag.status != "rejected":
        raise FlagError(f'reason "{WITHDRAWN}" is for rows that take a flag back: those decide it, as "rejected".')
    choose("status", flag.status, _STATUSES)
    choose("mode", flag.mode, ("open", "blinded"))
    if not flag.reader.strip():
        raise FlagError("the reader's name is empty; enter a name or initials, so that the flag can be discussed.")
    if len(flag.reader) > 80:
        raise FlagError(f"the reader's name has {len(flag.reader)} characters; at most 80.")
    if len(flag.comment) > _COMMENT_LIMIT:
        raise FlagError(f"the comment has {len(flag.comment)} characters; at most {_COMMENT_LIMIT}.")
    for name in ("confidence", "first_confidence", "disagreement"):
        value = getattr(flag, name)
        if value is not None and not 0 <= value <= 1:
            raise FlagError(f"{name} is {value}; it must be in [0, 1].")
    if flag.seconds is not None and flag.seconds < 0:
        raise FlagError(f"seconds is {flag.seconds}; it must be 0 or more.")


def check_boxes(regions: Sequence[Mapping[str, float]], height: int, width: int) -> None:
    """Raises `FlagError` unless every box has an area and lies in an image of this size, in pixels."""
    for box in regions:
        right, below = box["x"] + box["width"], box["y"] + box["height"]
        if not (0 <= box["x"] < right <= width and 0 <= box["y"] < below <= height):
            raise FlagError(
                f"regions holds {dict(box)}; a box has its upper left corner at x, y and lies in the image, which is "
                f"{width} pixels wide and {height} high."
            )


def _check_kinds(flag: Flag) -> None:
    """Raises `FlagError` for a value that its column cannot hold, so that a row that is written can be read."""
    for name, value in vars(flag).items():
        if name in NUMBERS:
            good, kind = value is None or _is_number(value), "a number"
        elif name == "regions":
            good, kind = all(map(_is_box, value)), "boxes, each with the numbers x, y, width and height"
        elif name == "opinions":
            good, kind = isinstance(value, Mapping), "an object"
        else:
            good, kind = isinstance(value, str), "text"
        if not good:
            raise FlagError(f"{name} is {str(value)[:80]!r}; it must be {kind}.")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and -1e300 < value < 1e300  # neither infinite nor undefined


def _is_box(value: Any) -> bool:
    return isinstance(value, Mapping) and set(value) == _SIDES and all(map(_is_number, value.values()))


def to_row(flag: Flag) -> dict[str, str]:
    """The cells of a flag by column, in the order of `FIELDS`; `FlagError` for one that is too long to be read back."""
    values = dataclasses.asdict(flag) | {
        "file_name": f"{flag.image_sha256}.png",
        "regions": json.dumps([dict(box) for box in flag.regions]),
        "opinions": json.dumps(flag.opinions, ensure_ascii=False, sort_keys=True),
        "app_version": __version__,
        "schema_version": str(SCHEMA_VERSION),
    }
    row = {name: _to_cell(name, values[name]) for name in FIELDS}
    for name, cell in row.items():
        if len(cell) > _CELL_LIMIT:
            raise FlagError(f"{name} has {len(cell)} characters; at most {_CELL_LIMIT}.")
    return row


def read_number(cell: str) -> float | None:
    """A number of a row; None where there is none, or where a spreadsheet made something else of it."""
    try:
        value = float(cell)
    except ValueError:
        return None
    return value if _is_number(value) else None


def read_opinions(cell: str) -> dict[str, dict[str, Any]]:
    """What the models said, as a row keeps it, by model; without what is no opinion, as after an edit by hand."""
    found = _read_json(cell)
    return {model: said for model, said in found.items() if _is_opinion(said)} if isinstance(found, dict) else {}


def read_regions(cell: str) -> list[dict[str, float]]:
    """The boxes of a row; without what is none, as after an edit by hand."""
    found = _read_json(cell)
    return list(filter(_is_box, found)) if isinstance(found, list) else []


def _read_json(cell: str) -> Any:
    try:
        return json.loads(cell)
    except ValueError:
        return None


def _is_opinion(value: Any) -> bool:
    if not isinstance(value, dict) or not isinstance(value.get("label"), str):
        return False
    probs = value.get("probs")
    return isinstance(probs, dict) and all(map(_is_number, probs.values()))


def _to_cell(name: str, value: Any) -> str:
    if name in NUMBERS:
        return "" if value is None else repr(float(value))
    return str(value) if name == "schema_version" else to_cell(str(value))
