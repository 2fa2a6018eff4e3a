"""A process's part of the ledger as a file that travels: its whole rows, whose writer lives, and what is put here."""

from __future__ import annotations

import csv
import hashlib
import os
import re
from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

from huggingface_hub.hf_api import RepoFile

from xray_models.hub_client import HubError
from xray_models.rows import from_cell, is_written, measure_whole, parse_rows, read_header, to_line

_IMAGE = re.compile(r"[0-9a-f]{64}\.png")


class ForeignFile(HubError):
    """A file beside the ledger's that is none of the ledger's."""


class Part(NamedTuple):
    """The rows of one process's file, their cells as they are written.

    Attributes:
        data: the file, whole rows only.
        header: names of the columns.
        rows: the cells of every row.
    """

    data: bytes
    header: list[str]
    rows: list[list[str]]

    @property
    def ids(self) -> list[str]:
        """The flag of every row."""
        place = self.header.index("flag_id")
        return [from_cell(row[place]) for row in self.rows]

    @property
    def images(self) -> list[str]:
        """Names of the files that the rows are about, each once."""
        place = self.header.index("file_name")
        return sorted({from_cell(row[place]) for row in self.rows})

    def without(self, known: Collection[str]) -> Part:
        """The rows whose flags are not among `known`."""
        rows = [row for row, flag_id in zip(self.rows, self.ids, strict=True) if flag_id not in known]
        return Part(b"".join(map(to_line, [self.header, *rows])), self.header, rows)


def parse_part(data: bytes, where: str) -> Part:
    """Reads the rows of a file.

    Args:
        data: the file, whole rows only, as `read_whole` gives it.
        where: what it is called in an error.

    Raises:
        ForeignFile: when it is not a ledger's, or names images by anything but their hashes.
    """
    try:
        head = data[: data.find(b"\n") + 1]
        header = read_header(head)
        rows = parse_rows(data[len(head) :], len(header)).cells
        part = Part(data, header, [row + [""] * (len(header) - len(row)) for row in rows])
        good = len(part.ids) == len(rows) and all(map(_IMAGE.fullmatch, part.images))
    except (ValueError, csv.Error) as error:
        raise _refuse(where) from error
    if not good:
        raise _refuse(where)
    return part


def _refuse(where: str) -> ForeignFile:
    return ForeignFile(
        f"{where} is not a file of the flag ledger. Remove it, or choose a data set for the flags alone."
    )


def read_whole(path: Path) -> bytes:
    """The whole rows of a file, as bytes; none where there is no file."""
    data = path.read_bytes() if path.exists() else b""
    return data[: measure_whole(data, lambda: is_written(path))]


def is_listed(entry: RepoFile, data: bytes) -> bool:
    """Whether these bytes are the file that the Hub lists."""
    if entry.lfs:
        return hashlib.sha256(data).hexdigest() == entry.lfs.sha256
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest() == entry.blob_id


def put_file(path: Path, data: bytes) -> None:
    """Writes a file whole or not at all; when this returns, it is on the disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".draft")
    with draft.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    draft.rename(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
