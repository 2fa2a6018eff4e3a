"""The flag ledger: a CSV that is also a data set.

Every process appends to its own folder below the ledger, so there is one writer per file:

    flags/<process>/metadata.csv       one row, one flag; flushed to the disk before `append` returns
    flags/<process>/<sha256>.png       the flagged images, pixels only

`datasets.load_dataset("imagefolder", data_dir="flags")` loads the whole tree; `rows` says how texts are written for
that. What became of a flag, and which flags count, is said by later rows and worked out in `relabels`.
"""

from __future__ import annotations

import dataclasses
import fcntl
import json
import os
import secrets
import threading
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd

from xray_models import __version__
from xray_models.images import Radiograph, encode_png
from xray_models.rows import disarm, mend, read_part, to_cell, to_line
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


class LedgerError(OSError):
    """The disk refused: the flag is not saved, or the ledger cannot be read."""


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
_NUMBERS = {"disagreement", "first_confidence", "confidence", "seconds"}


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


def _check_kinds(flag: Flag) -> None:
    """Raises `FlagError` for a value that its column cannot hold, so that a row that is written can be read."""
    for name, value in vars(flag).items():
        if name in _NUMBERS:
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


class Ledger:
    """Appends flags to this process's own file below `root`.

    Args:
        root: folder of the ledger; made with the first flag.
    """

    def __init__(self, root: str | Path):
        self.root = Path(root)
        self._lock = threading.Lock()
        self._file: int | None = None
        stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
        self.folder = self.root / f"{stamp}-{os.getpid()}-{secrets.token_hex(4)}"
        mend(self.root)

    def append(self, flag: Flag, image: Radiograph, task: Task) -> str:
        """Records a flag; when this returns, row and image are on the disk.

        Args:
            flag: what the reader said; `flag_id` and `created_at` are filled in when empty.
            image: the flagged image.
            task: the flag's task.

        Returns:
            The flag's id.

        Raises:
            FlagError: when the flag does not make sense.
            LedgerError: when it could not be written; then it is not in the ledger.
        """
        check_flag(flag, task)
        if flag.image_sha256 != image.sha256:
            raise FlagError("the flag names another image than the one given; flag the image that is shown.")
        flag = dataclasses.replace(
            flag,
            flag_id=flag.flag_id or f"flag-{secrets.token_hex(8)}",
            created_at=flag.created_at or datetime.now(UTC).isoformat(timespec="microseconds"),
        )
        row = _to_row(flag)
        with self._lock:
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
                self._write_image(image)
                self._write_row(row)
            except OSError as error:
                raise LedgerError(
                    f"the flag is not saved: {error.strerror or error}. Free the disk and retry."
                ) from error
        return flag.flag_id

    def _write_image(self, image: Radiograph) -> None:
        target = self.folder / f"{image.sha256}.png"
        if target.exists():
            return
        draft = target.with_suffix(".draft")
        with draft.open("wb") as file:
            file.write(encode_png(image))
            file.flush()
            os.fsync(file.fileno())
        draft.rename(target)
        _sync_folder(self.folder)

    def _write_row(self, row: Mapping[str, str]) -> None:
        line = to_line(row.values())
        if self._file is None:
            self._file = self._begin(to_line(FIELDS) + line)
            return
        before = os.fstat(self._file).st_size
        try:
            _write(self._file, line)
        except OSError:
            os.ftruncate(self._file, before)
            raise

    def _begin(self, data: bytes) -> int:
        """Makes the file with its first row: under its name it is never empty, and never without its writer's lock."""
        draft = self.folder / "metadata.draft"
        file = os.open(draft, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_TRUNC, 0o644)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # held for life: tells `mend` that the writer lives
            _write(file, data)
            draft.rename(self.folder / "metadata.csv")
            _sync_folder(self.folder)
            _sync_folder(self.root)
        except OSError:
            os.close(file)
            raise
        return file


def _write(file: int, data: bytes) -> None:
    if os.write(file, data) != len(data):
        raise OSError(28, "the disk is full")
    os.fsync(file)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _to_row(flag: Flag) -> dict[str, str]:
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


def _to_cell(name: str, value: Any) -> str:
    if name in _NUMBERS:
        return "" if value is None else repr(float(value))
    return str(value) if name == "schema_version" else to_cell(str(value))


def read_flags(root: str | Path) -> pd.DataFrame:
    """Reads a ledger: all processes' flags, each once, oldest first.

    Args:
        root: folder of the ledger; may be missing.

    Returns:
        One flag a row: the columns of `FIELDS` as text, and `path` of the flagged image. Numbers stay text.
    """
    paths = sorted(Path(root).glob("*/metadata.csv"))
    parts = ((path.parent, read_part(path, columns=FIELDS)) for path in paths)
    rows = [row | {"path": str(folder / row["file_name"])} for folder, part in parts for row in part.rows]
    frame = pd.DataFrame(rows, columns=[*FIELDS, "path"])
    frame = frame.sort_values(["created_at", "flag_id"], kind="stable")  # of one id, what was written first counts
    return frame.drop_duplicates("flag_id").reset_index(drop=True)


def export_csv(root: str | Path) -> str:
    """All flags as one CSV for a spreadsheet; a cell that could run as a formula starts with an apostrophe."""
    return read_flags(root)[FIELDS].map(disarm).to_csv(index=False)
