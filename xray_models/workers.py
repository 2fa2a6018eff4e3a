"""Threads that wait for the next piece of work.

Threads of OpenMP belong to the thread that first computed with them: a new Python thread for each piece of work would
start new ones each time.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any, NamedTuple, TypeVar

_T = TypeVar("_T")


class _Job(NamedTuple):
    work: Callable[[], Any]
    answer: Future[Any]


class Workers:
    """Threads, as many as there was work at one time; each goes back to waiting when it is done.

    A thread cannot be stopped: one that hangs is left alone, and another takes the next piece of work. None keeps the
    process from ending.
    """

    def __init__(self) -> None:
        self._idle: queue.LifoQueue[queue.SimpleQueue[_Job]] = queue.LifoQueue()

    def start(self, work: Callable[[], _T]) -> Future[_T]:
        """Begins a piece of work in a thread that waits for one, else in a new one."""
        job = _Job(work, Future())
        try:
            door = self._idle.get_nowait()
        except queue.Empty:
            door = queue.SimpleQueue()
            threading.Thread(target=self._serve, args=(door,), daemon=True).start()
        door.put(job)
        return job.answer

    def run(self, work: Callable[[], _T], seconds: float) -> _T:
        """Does a piece of work and waits for it; raises TimeoutError when it takes longer than `seconds`."""
        try:
            return self.start(work).result(seconds)
        except TimeoutError as error:
            raise TimeoutError(str(error) or f"no answer within {seconds:g} s") from None

    def _serve(self, door: queue.SimpleQueue[_Job]) -> None:
        while True:
            work, answer = door.get()
            try:
                result = work()
            except BaseException as error:  # noqa: BLE001 - handed to whoever waits, who raises it
                answer.set_exception(error)
            else:
                answer.set_result(result)
            del work, answer  # nothing of the last piece is kept alive while waiting for the next
            self._idle.put(door)


WORKERS = Workers()


def ahead(items: Iterator[_T]) -> Iterator[_T]:
    """Makes the next item while the caller has the one before."""
    nothing = object()
    coming: Future[Any] = WORKERS.start(lambda: next(items, nothing))
    while (item := coming.result()) is not nothing:
        coming = WORKERS.start(lambda: next(items, nothing))
        yield item
