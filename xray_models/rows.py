"""The ledger's CSV, which only grows: cells that every reader of CSV gives back as they were put in, and whole rows.

A cell of a text column must never look like a number or like nothing to a CSV reader; such rare texts are written as
JSON strings, and so is a text that begins with a quotation mark.
"""

from __future__ import annotations

import csv
import fcntl
import functools
import io
import json
import logging
import os
import re
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import pandas as pd

_log = logging.getLogger(__name__)
_NOTHING = {"", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>"}
_NOTHING |= {"N/A", "NA", "NULL", "NaN", "None", "n/a", "nan", "null"}
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]")
_IMAGE_BEGINS = re.compile(rb'^"?[0-9a-f]{64}\.png"?,', re.MULTILINE)
_END = "\x1e"  # a line behind the last one, which no cell holds: a row that is not ended takes it in
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def to_cell(text: str) -> str:
    """Writes a text as a cell that `from_cell` reads back, `clean` apart."""
    text = clean(text)
    return json.dumps(text, ensure_ascii=False) if _looks_typed(text) else text


def from_cell(cell: str) -> str:
    """The text of a cell; one that somebody edited so that it is none of `to_cell` stays as it is."""
    try:
        return json.loads(cell) if cell.startswith('"') else cell
    except ValueError:
        return cell


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


class Rows(NamedTuple):
    """Whole rows at the beginning of some bytes.

    Attributes:
        cells: of each row.
        end: the byte behind the last of them.
        torn: how many had taken in others, as where somebody left a quotation mark alone.
    """

    cells: list[list[str]]
    end: int
    torn: int = 0


def parse_rows(data: bytes, width: int, written: Callable[[], bool] = lambda: False) -> Rows:
    """Reads whole rows; one that is being written, or was never ended, is left out.

    Where somebody edited the file and left a quotation mark at the start of a cell, that cell would take in the rows
    behind it. Such a row is told by the names of images that begin lines in it, although it is none of this program's:
    those lines are read as rows again, so that none is lost.

    Args:
        data: rows, the header not among them.
        width: cells of a row.
        written: tells whether a process that lives may be writing the last row: then its lines are not told apart.

    Raises:
        ValueError: for bytes that are no UTF-8.
    """
    data = data[: data.rfind(b"\n") + 1]
    found: list[list[str]] = []
    end = torn = 0
    while end < len(data):
        for cells, stop in _read_lines(data, end):
            inner = _IMAGE_BEGINS.search(data, end + 1, stop or len(data))
            if stop is None and (inner is None or written()):
                return Rows(found, end, torn)
            if inner and not (stop and _is_one_row(data[end:stop], width)):  # then its first line alone is its own
                found.append(next(csv.reader([data[end : data.index(b"\n", end)].decode()])))
                end, torn = inner.start(), torn + 1
                break
            found += [cells] if cells else []
            end = stop or len(data)
    return Rows(found, end, torn)


def _is_one_row(data: bytes, width: int) -> bool:
    """Whether some lines are one row, whose quotes stand where this program puts them."""
    try:
        (cells,) = csv.reader(io.StringIO(data.decode()), strict=True)
    except (csv.Error, ValueError):
        return False
    return len(cells) == width


def _read_lines(data: bytes, start: int) -> Iterator[tuple[list[str], int | None]]:
    """Each row from a byte on, with the byte behind it; None, and no cells, for one whose quotes are never closed."""
    place = start

    def feed() -> Iterator[str]:
        nonlocal place
        file = io.BytesIO(data)
        file.seek(start)
        for line in file:
            place += len(line)
            yield line.decode()
        yield _END

    try:
        for cells in csv.reader(feed()):
            if _END in cells[-1:]:
                return
            if cells and cells[-1].endswith(_END):
                break
            yield cells, place
    except csv.Error:  # a cell without an end is too long
        pass
    yield [], None


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
    if head.endswith(b"\n") and not _is_ours(head):
        _log.warning("%s is left out: it is not a file of the flag ledger.", path)
        return Part(iter(()), start + len(data))
    names = read_header(head)
    places = [(place, name) for place, name in enumerate(names) if not columns or name in columns]
    found = parse_rows(data, len(names), lambda: is_written(path))
    if found.torn:
        _warn_of_quotes(str(path))
    padded = (line if len(line) >= len(names) else line + [""] * len(names) for line in found.cells)
    empty = dict.fromkeys(columns, "")
    end = start + found.end
    return Part((empty | {name: from_cell(line[place]) for place, name in places} for line in padded), end)


@functools.cache  # once for a file, which is read whenever a page is drawn
def _warn_of_quotes(path: str) -> None:
    _log.warning(
        "%s was edited: a quotation mark stands alone in it. The row that it is in may be read wrongly, the others are "
        "not. Take it away with a text editor.",
        path,
    )


def read_header(line: bytes) -> list[str]:
    """Names of the columns, from a file's first line."""
    return line.decode("utf-8-sig").rstrip("\r\n").split(",")


def measure_whole(data: bytes, written: Callable[[], bool] = lambda: False) -> int:
    """Bytes of a file up to its last whole row; 0 where its header is not whole. `written` as in `parse_rows`."""
    head = data[: data.find(b"\n") + 1]
    return len(head) + parse_rows(data[len(head) :], len(read_header(head)), written).end if head else 0


def is_written(path: Path) -> bool:
    """Whether a process that lives writes this file, be it this one; a writer locks its file before the first row."""
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def mend(root: Path) -> int:
    """Cuts off rows that dead processes left half written (they were never acknowledged); returns how many.

    What is cut off is kept beside the file, in `metadata.cut`: should somebody have edited the file, it is a row of
    theirs. Other files of the same name, and those that another user wrote, stay as they are.
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
                _keep(path.with_suffix(".cut"), data[whole:])
                file.truncate(whole)
                mended += 1
    return mended


def _keep(path: Path, data: bytes) -> None:
    with path.open("ab") as file:
        file.write(data + b"\n")
        file.flush()
        os.fsync(file.fileno())


def _is_ours(data: bytes) -> bool:
    """Whether the first line is a ledger's."""
    return b"flag_id" in data.partition(b"\n")[0].rstrip(b"\r").split(b",")
