"""Readings that are asked for at the same time go through the models together."""

from __future__ import annotations

import threading
from collections import deque
from concurrent.futures import Future
from typing import TYPE_CHECKING, NamedTuple

from xray_models.images import Radiograph
from xray_models.readings import Reading
from xray_models.workers import WORKERS

if TYPE_CHECKING:
    from xray_models.panel import Panel

MOST = 16  # readings in one batch: what `Panel.read_many` takes at once
PIXELS = 40_000_000  # of all images in one batch, save that one image always goes


class _Asked(NamedTuple):
    image: Radiograph
    answer: Future[Reading]


class Gathering:
    """Callers of one panel, in the order in which they came.

    Whoever comes while the panel is busy waits for the next batch: sixteen images in one forward take less time than
    sixteen forwards. Who comes alone is read alone, at once.
    """

    def __init__(self) -> None:
        self._waiting: dict[Panel, deque[_Asked]] = {}
        self._lock = threading.Lock()

    def read(self, panel: Panel, image: Radiograph) -> Reading:
        """A panel's reading of an image; may be called from many threads."""
        asked = _Asked(image, Future())
        with self._lock:
            idle = panel not in self._waiting
            self._waiting.setdefault(panel, deque()).append(asked)
        if idle:
            WORKERS.start(lambda: self._serve(panel))
        return asked.answer.result()

    def _serve(self, panel: Panel) -> None:
        """Reads batch after batch until nobody waits for this panel."""
        while batch := self._next(panel):
            try:
                readings = list(panel.read_many([asked.image for asked in batch]))
            except BaseException as error:  # noqa: BLE001 - handed to those who wait, who raise it
                for asked in batch:
                    asked.answer.set_exception(error)
            else:
                for asked, reading in zip(batch, readings, strict=True):
                    asked.answer.set_result(reading)

    def _next(self, panel: Panel) -> list[_Asked]:
        with self._lock:
            waiting = self._waiting[panel]
            batch: list[_Asked] = []
            pixels = 0
            while waiting and len(batch) < MOST:
                pixels += waiting[0].image.pixels.size
                if batch and pixels > PIXELS:
                    break
                batch.append(waiting.popleft())
            if not batch:
                del self._waiting[panel]
            return batch
