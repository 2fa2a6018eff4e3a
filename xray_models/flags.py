"""The flag ledger: a CSV that is also a data set.

Every process appends to its own folder below the ledger, so there is one writer per file:

    flags/<process>/metadata.csv       one row, one flag; flushed to the disk before `append` returns
    flags/<process>/<sha256>.png       the flagged images, pixels only

`datasets.load_dataset("imagefolder", data_dir="flags")` loads the whole tree; `rows` says how texts are written for
that. What became of a flag, and which flags count, is said by later rows and worked out in `relabels`.
"""

from __future__ import annotations

import csv
import dataclasses
import errno
import fcntl
import functools
import logging
import os
import secrets
import threading
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import pandas as pd

from xray_models.flag_record import (
    FIELDS,
    REASONS,
    SCHEMA_VERSION,
    WITHDRAWN,
    Flag,
    FlagError,
    check_boxes,
    check_flag,
    to_row,
)
from xray_models.images import Radiograph, encode_png
from xray_models.rows import disarm, mend, read_part, to_line
from xray_models.tasks import Task

__all__ = [
    "FIELDS",
    "REASONS",
    "WITHDRAWN",
    "Flag",
    "FlagError",
    "Ledger",
    "LedgerError",
    "export_csv",
    "list_later",
    "list_rows",
    "read_flags",
]

_log = logging.getLogger(__name__)
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_FORBIDDEN = {errno.EACCES, errno.EPERM, errno.EROFS}


class LedgerError(OSError):
    """The disk refused: the flag is not saved, or the ledger cannot be read."""


class Ledger:
    """Appends flags to this process's own file below `root`.

    Args:
        root: folder of the ledger; made with the first flag.
    """

    def __init__(self, root: str | Path):
        self.root = Path(root)
        self._lock = threading.Lock()
        self._file: int | None = None
        self.folder = _name_folder(self.root)
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
        return self.append_all([flag], image, task)[0]

    def append_all(self, flags: Sequence[Flag], image: Radiograph, task: Task) -> list[str]:
        """Records what belongs together, of one image: all of it, or, where an error is raised, none.

        Args:
            flags: as in `append`; at least one.
            image: the image that all of them are of.
            task: the flags' task.

        Returns:
            The flags' ids.

        Raises:
            FlagError: when one of them does not make sense.
            LedgerError: when they could not be written; then none is in the ledger.
        """
        whole = [_complete(flag, image, task) for flag in flags]
        lines = b"".join(to_line(to_row(flag).values()) for flag in whole)
        with self._lock:
            try:
                self._leave_lost_file()
                self.folder.mkdir(parents=True, exist_ok=True)
                self._write_image(image)
                self._write_lines(lines)
            except OSError as error:
                raise LedgerError(f"the flag is not saved: {error.strerror or error}. {_advise(error)}") from error
        return [flag.flag_id for flag in whole]

    def _leave_lost_file(self) -> None:
        """Begins a new folder where the file is not under its name any more: an editor or a person put another there.

        What is written to it from then on would be nowhere to be found.
        """
        if self._file is None or _is_file(self._file, self.folder / "metadata.csv"):
            return
        _log.warning("%s was moved, removed or replaced: flags go to a new folder from now on", self.folder)
        os.close(self._file)
        self._file, self.folder = None, _name_folder(self.root)

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

    def _write_lines(self, lines: bytes) -> None:
        if self._file is None:
            self._file = self._begin(to_line(FIELDS) + lines)
            return
        before = os.fstat(self._file).st_size
        try:
            _write(self._file, lines)
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


def _name_folder(root: Path) -> Path:
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    return root / f"{stamp}-{os.getpid()}-{secrets.token_hex(4)}"


def _is_file(descriptor: int, path: Path) -> bool:
    """Whether an open file is the one that has this path now."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _complete(flag: Flag, image: Radiograph, task: Task) -> Flag:
    """A flag that makes sense, with its id and its time."""
    check_flag(flag, task)
    if flag.image_sha256 != image.sha256:
        raise FlagError("the flag names another image than the one given; flag the image that is shown.")
    check_boxes(flag.regions, *image.pixels.shape)
    return dataclasses.replace(
        flag,
        flag_id=flag.flag_id or f"flag-{secrets.token_hex(8)}",
        created_at=flag.created_at or datetime.now(UTC).isoformat(timespec="microseconds"),
    )


def _advise(error: OSError) -> str:
    """What is to be done where nothing can be written."""
    if error.errno in _FULL:
        return "Free the disk and retry."
    if error.errno in _FORBIDDEN:
        return "Whoever runs this reading room has to let it write to the folder of the flags, or name another one."
    return "Retry; if that fails as well, ask whoever runs this reading room."


def _write(file: int, data: bytes) -> None:
    if os.write(file, data) != len(data):
        raise OSError(errno.ENOSPC, "the disk is full")
    os.fsync(file)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_flags(root: str | Path) -> pd.DataFrame:
    """Reads a ledger: all processes' flags, each once, oldest first.

    Args:
        root: folder of the ledger; may be missing.

    Returns:
        One flag a row: the columns of `FIELDS` as text, and `path` of the flagged image. Numbers stay text. Rows that
        a later program wrote are among them, with a warning; what else it wrote stays in its file alone.

    Raises:
        LedgerError: for a file that cannot be read; names it.
    """
    rows = [row for path in sorted(Path(root).glob("*/metadata.csv")) for row in _read_rows(path)]
    frame = pd.DataFrame(rows, columns=[*FIELDS, "path"])
    frame = frame.sort_values(["created_at", "flag_id"], kind="stable")  # of one id, what was written first counts
    if later := list_later(frame):
        _warn_of_later(str(root), max(later))
    return frame.drop_duplicates("flag_id").reset_index(drop=True)


def _read_rows(path: Path) -> list[dict[str, str]]:
    try:
        part = read_part(path, columns=FIELDS)
        return [row | {"path": str(path.parent / row["file_name"])} for row in part.rows]
    except (OSError, ValueError, csv.Error) as error:
        raise LedgerError(
            f"{path} cannot be read: {error}. Save it as UTF-8, which it was, or move its folder out of the ledger."
        ) from error


def list_rows(flags: pd.DataFrame) -> list[dict[str, Any]]:
    """A table's rows by column."""
    return cast("list[dict[str, Any]]", flags.to_dict("records"))


def list_later(flags: pd.DataFrame) -> list[int]:
    """The versions, each later than `SCHEMA_VERSION`, of the rows that a later program wrote."""
    versions = (int(version) for version in flags["schema_version"] if version.isdecimal())
    return [version for version in versions if version > SCHEMA_VERSION]


@functools.cache  # once for a ledger, which is read whenever a page is drawn
def _warn_of_later(root: str, version: int) -> None:
    _log.warning(
        "flags in %s were written with version %d of the columns by a later program; this one knows version %d, and "
        "may show them wrongly. Nothing of them is lost; update this program.",
        root,
        version,
        SCHEMA_VERSION,
    )


def export_csv(root: str | Path) -> str:
    """All flags as one CSV for a spreadsheet; a cell that could run as a formula starts with an apostrophe."""
    return read_flags(root)[FIELDS].map(disarm).to_csv(index=False)
