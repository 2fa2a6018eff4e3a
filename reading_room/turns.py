"""Whose turn it is on a page: what was asked last is shown, and what was asked before ends."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

_T = TypeVar("_T")
CAPACITY = 10_000  # pages remembered; the one that asked least recently goes first


class OvertakenError(Exception):
    """The page has asked for something else meanwhile; nobody looks at this result any more."""


class Turns:
    """The last turn of every page.

    A page shows one image at a time. Were an older image's or method's answers still sent when a newer one was asked
    for, the page would show one image with another's opinions.
    """

    def __init__(self, capacity: int = CAPACITY):
        self.capacity = capacity
        self._last: OrderedDict[str, tuple[int, Any]] = OrderedDict()  # number of the turn, and what it shows
        self._count = 0
        self._lock = threading.Lock()

    def take(self, page: str, shown: Any = None) -> Callable[[], None]:
        """Begins a page's turn, which ends the one before.

        Args:
            page: the page's session; "" for a caller without one, whose turn never ends.
            shown: what the page goes on to show, where the turn is not about another image.

        Returns:
            What raises `OvertakenError` once a newer turn of the page has begun.
        """
        with self._lock:
            self._count += 1
            mine = self._count
            self._last[page] = (mine, shown)
            self._last.move_to_end(page)
            while len(self._last) > self.capacity:
                self._last.popitem(last=False)

        def check() -> None:
            if page and self._last.get(page, (mine,))[0] != mine:
                raise OvertakenError

        return check

    def note(self, page: str, check: Callable[[], None], shown: Any) -> None:
        """Says what a turn shows; raises `OvertakenError` once a newer one has begun.

        Args:
            page: the page's session.
            check: what `take` gave.
            shown: what `shows` is to answer.
        """
        with self._lock:
            check()
            if page in self._last:
                self._last[page] = (self._last[page][0], shown)

    def shows(self, page: str) -> Any:
        """What a page's last turn shows; None where it shows nothing yet."""
        with self._lock:
            return self._last.get(page, (0, None))[1] if page else None


def until_overtaken(work: Iterator[_T], check: Callable[[], None], nothing: _T) -> Iterator[_T]:
    """Hands on what a piece of work yields, until `check` or the work itself says that its turn is over.

    Args:
        work: yields what a page shows.
        check: what `Turns.take` gave.
        nothing: what changes nothing on the page. It comes last when the turn is over: gradio sends the last value
            once more when an event ends, and that must not be an older image's.
    """
    try:
        for step in work:
            check()
            yield step
    except OvertakenError:
        yield nothing
