"""A worklist: many files read one batch at a time, ranked by how far the models disagree. No gradio here.

In memory lie thumbnails and readings; pixels stay on the disk, and memory holds those of one batch.
"""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from reading_room import renders
from reading_room.sources import Taken, unpack
from xray_models.images import ImageError, Radiograph, read_image
from xray_models.readings import Consensus, Reading
from xray_models.tasks import choose
from xray_models.workers import ahead

if TYPE_CHECKING:
    from xray_models.panel import Panel

_THUMB = 96  # pixels of a thumbnail's longer side
_BATCH, _PIXELS = 8, 32 * 2**20  # images, and pixels, read at once
DIFFER = 0.3  # disagreement from which the page says that the models disagree


@dataclasses.dataclass(frozen=True)
class Row:
    """One file of a list.

    Attributes:
        number: its place among the files that came in, from 1: what it is called on the page.
        sha256: of its pixels; "" where it could not be read.
        thumbnail: a small picture as a JPEG's bytes, or none.
        reading: the panel's, or None.
        twin: number of an earlier file with the same pixels, or 0.
        problem: why there is no reading, or "".
    """

    number: int
    sha256: str = ""
    thumbnail: bytes = b""
    reading: Reading | None = None
    twin: int = 0
    problem: str = ""

    @property
    def consensus(self) -> Consensus | None:
        """The panel's consensus, where there is one."""
        return self.reading.consensus if self.reading else None


class Progress(NamedTuple):
    """How far a list is.

    Attributes:
        state: "waiting" (another list is being read), "reading", "watching" (for more files), "full" (no more files
            are taken from what is watched), "done", "cancelled" or "stopped" (by an error).
        done: files finished.
        total: files in the list.
        seconds_left: estimated; None while there is nothing to estimate from.
    """

    state: str
    done: int
    total: int
    seconds_left: float | None


class Worklist:
    """One list: its files, and the rows that are there so far.

    Args:
        task: name of the task whose panel reads it.
        taken: its files.
        folder: where they lie.
    """

    def __init__(self, task: str, taken: Taken, folder: Path):
        self.task, self.folder = task, folder
        self.sources, self.aside = tuple(taken.sources), taken.aside
        self.state, self.seen = "waiting", time.monotonic()
        self._rows: list[Row] = []
        self._started, self._first = 0.0, 0
        self._cancelled = threading.Event()

    @property
    def rows(self) -> tuple[Row, ...]:
        """The rows that are there, in the order of their numbers."""
        return tuple(self._rows)

    @property
    def active(self) -> bool:
        """Whether rows may still come."""
        return self.state in ("waiting", "reading", "watching", "full")

    def progress(self) -> Progress:
        """How far the list is, now."""
        done, total = len(self._rows), len(self.sources)
        left = None
        if self.state == "reading" and done:
            left = (time.monotonic() - self._started) / max(done - self._first, 1) * (total - done)
        return Progress(self.state, done, total, left)

    def extend(self, taken: Taken) -> None:
        """Adds files, which the next `fill` reads."""
        self.sources, self.aside = (*self.sources, *taken.sources), self.aside + taken.aside

    def cancel(self) -> None:
        """Stops the list after the images that are being read; its rows stay."""
        self._cancelled.set()

    def fill(self, panel: Panel) -> None:
        """Reads every file not read yet; returns when done, cancelled or stopped by an error, which is raised."""
        if self._cancelled.is_set():
            self.state = "cancelled"
            return
        self.state, self._started, self._first = "reading", time.monotonic(), len(self._rows)
        try:
            for batch in ahead(_batch(self._open())):
                self._add(batch, panel)
            self.state = "cancelled" if len(self._rows) < len(self.sources) else "done"
        finally:
            if self.state == "reading":
                self.state = "stopped"

    def _open(self) -> Iterator[tuple[int, Radiograph | str]]:
        """Opens files one by one: each number with its image, or with what is wrong with it."""
        first = len(self._rows)
        for number, source in enumerate(unpack(self.sources[first:]), start=first + 1):
            if self._cancelled.is_set():
                return
            try:
                yield number, source.problem or read_image(source.path)
            except ImageError as error:
                yield number, str(error)

    def _add(self, batch: Sequence[tuple[int, Radiograph | str]], panel: Panel) -> None:
        known = {row.sha256: row for row in reversed(self._rows) if row.reading}  # the first that showed a picture
        fresh = {image.sha256: image for _, image in batch if isinstance(image, Radiograph)}
        asked = [image for sha256, image in fresh.items() if sha256 not in known]
        readings = dict(zip((image.sha256 for image in asked), panel.read_many(asked), strict=True))
        for number, image in batch:
            if isinstance(image, str):
                self._rows.append(Row(number, problem=image))
                continue
            twin = known.get(image.sha256)
            reading = twin.reading if twin else readings[image.sha256]
            thumbnail = twin.thumbnail if twin else renders.draw_thumb(image, _THUMB)
            row = Row(number, image.sha256, thumbnail, reading, twin.number if twin else 0)
            if row.consensus is None:
                row = dataclasses.replace(row, problem="No model answered.")
            known.setdefault(image.sha256, row)
            self._rows.append(row)


def _batch(items: Iterable[tuple[int, Radiograph | str]]) -> Iterator[list[tuple[int, Radiograph | str]]]:
    """Few images at a time, and fewer of large ones."""
    batch: list[tuple[int, Radiograph | str]] = []
    pixels = 0
    for item in items:
        batch.append(item)
        pixels += item[1].pixels.size if isinstance(item[1], Radiograph) else 0
        if len(batch) == _BATCH or pixels > _PIXELS:
            yield batch
            batch, pixels = [], 0
    if batch:
        yield batch


def choose_rows(rows: Iterable[Row], flagged: Mapping[str, Sequence[str]], show: str, order: str) -> list[Row]:
    """Filters and sorts a list.

    Args:
        rows: of a list.
        flagged: readers who flagged an image, by sha256.
        show: "all", "differ", "odd", "flagged", "unflagged", "unread", or "label:" and a label.
        order: "doubt" or "disagreement" (most first), "number" or "consensus".

    Returns:
        The rows wanted; those without a reading come last.
    """
    wanted = [row for row in rows if _is_wanted(row, bool(flagged.get(row.sha256)), show)]
    orders = {
        "doubt": lambda said: (-said.doubt,),
        "disagreement": lambda said: (-said.disagreement,),
        "number": lambda said: (),
        "consensus": lambda said: (said.label, -said.disagreement),
    }
    rank = orders[choose("order", order, orders)]
    read = sorted((row for row in wanted if row.consensus), key=lambda row: (*rank(row.consensus), row.number))
    return read + [row for row in wanted if row.consensus is None]


def _is_wanted(row: Row, flagged: bool, show: str) -> bool:
    said = row.consensus
    if show == "unread":
        return said is None
    if show in ("flagged", "unflagged"):
        return flagged == (show == "flagged") and said is not None
    if show == "differ":
        return said is not None and said.disagreement >= DIFFER
    if show == "odd":
        return said is not None and said.in_distribution is False
    if show.startswith("label:"):
        return said is not None and said.label == show.removeprefix("label:")
    return choose("filter", show, ("all", "differ", "odd", "flagged", "unflagged", "unread", "label:…")) == "all"
