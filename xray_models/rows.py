"""The ledger's CSV, which only grows: cells that every reader of CSV gives back as they were put in, and whole rows.

A cell of a text column must never look like a number or like nothing to a CSV reader; such rare texts are written as
JSON strings, and so is a text that begins with a quotation mark.
"""

from __future__ import annotations

import csv
import fcntl
import io
import json
import logging
import re
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import pandas as pd

_log = logging.getLogger(__name__)
_NOTHING = {"", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>"}
_NOTHING |= {"N/A", "NA", "NULL", "NaN", "None", "n/a", "nan", "null"}
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]")
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def to_cell(text: str) -> str:
    """Writes a text as a cell that `from_cell` reads back, `clean` apart."""
    text = clean(text)
    return json.dumps(text, ensure_ascii=False) if _looks_typed(text) else text


def from_cell(cell: str) -> str:
    """The text of a cell."""
    return json.loads(cell) if cell.startswith('"') else cell


def clean(text: str) -> str:
    """Line ends as one character, no control characters, no halves of characters: what every CSV reader keeps."""
    return _CONTROL.sub(" ", text.replace("\r\n", "\n").replace("\r", "\n"))


def _looks_typed(text: str) -> bool:
    """Whether a CSV reader might take a text for a number, a truth value or nothing."""
    bare = text.strip()
    if bare in _NOTHING or bare.lower() in ("true", "false") or text.startswith('"'):
        return True
    try:
        float(bare)
    except ValueError:
        return False
    return True


def disarm(cell: str) -> str:
    """A cell for a spreadsheet: one that could run as a formula starts with an apostrophe."""
    return f"'{cell}" if cell.startswith(_FORMULA) else cell


def write_sheet(table: pd.DataFrame, path: Path) -> None:
    """Writes a table of names that others chose, for a person to open: no cell of it runs as a formula."""
    safe = table.map(lambda cell: disarm(cell) if isinstance(cell, str) else cell)
    safe.to_csv(path, index=False, lineterminator="\n")


def to_line(cells: Iterable[str]) -> bytes:
    """A row of cells as the bytes of one line, which may hold line ends inside quotes."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(cells)
    return text.getvalue().encode()


def measure_whole(data: bytes) -> int:
    """Bytes of the whole rows at the beginning of some: up to the last line end that is not inside quotes."""
    end = len(data)
    while end and (data[end - 1 : end] != b"\n" or data.count(b'"', 0, end) % 2):
        end = data.rfind(b"\n", 0, end - 1) + 1
    return end


class Part(NamedTuple):
    """Rows of one process's file, and the byte behind the last of them: where reading goes on later."""

    rows: Iterator[dict[str, str]]
    end: int


def read_part(path: Path, start: int = 0, columns: Collection[str] = ()) -> Part:
    """Reads the whole rows of a process's file from a byte on; a row that is being written is left for later.

    Args:
        path: its `metadata.csv`.
        start: 0, or an earlier part's `end`.
        columns: those that are wanted; all without any.

    Returns:
        The rows by column; a cell that is not there is "". A file that is not a ledger's gives none, with a warning.
    """
    with path.open("rb") as file:
        head = file.readline()
        start = max(start, len(head))
        file.seek(start)
        data = file.read()
    whole = measure_whole(data)
    if head.endswith(b"\n") and not _is_ours(head):
        _log.warning("%s is left out: it is not a file of the flag ledger.", path)
        return Part(iter(()), start + len(data))
    names = head.decode("utf-8-sig").rstrip("\r\n").split(",")
    places = [(place, name) for place, name in enumerate(names) if not columns or name in columns]
    lines = csv.reader(io.TextIOWrapper(io.BytesIO(data[:whole]), encoding="utf-8", newline=""))
    padded = (line if len(line) >= len(names) else line + [""] * len(names) for line in lines if line)
    empty = dict.fromkeys(columns, "")
    return Part((empty | {name: from_cell(line[place]) for place, name in places} for line in padded), start + whole)


def mend(root: Path) -> int:
    """Cuts off rows that dead processes left half written (they were never acknowledged); returns how many.

    Other files of the same name, and those that another user wrote, stay as they are.
    """
    mended = 0
    for path in sorted(root.glob("*/metadata.csv")):
        try:
            file = path.open("r+b")
        except PermissionError:
            continue
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue  # its writer lives
            data = file.read()
            if _is_ours(data) and (whole := measure_whole(data)) < len(data):
                file.truncate(whole)
                mended += 1
    return mended


def _is_ours(data: bytes) -> bool:
    """Whether the first line is a ledger's."""
    return b"flag_id" in data.partition(b"\n")[0].rstrip(b"\r").split(b",")
