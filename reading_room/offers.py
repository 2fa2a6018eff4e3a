"""What a page is told of by address and fetches by itself: kept in memory, within bounds, and never on the disk."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import threading
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Iterable
from typing import Generic, TypeVar

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

HEADERS = {"Cache-Control": "private, no-store", "X-Content-Type-Options": "nosniff"}
Thing = TypeVar("Thing")


class Offers(ABC, Generic[Thing]):
    """Things that a page was told of, each at an address of its own.

    The address is a keyed hash of the thing: the same thing keeps its address while the process lives, and only who
    was told it can fetch the thing. Where there is a log-in, that is asked for as well. No browser writes one to its
    disk, where it would outlast the log-in; a page does not ask twice for a picture that it shows.

    Args:
        capacity: bytes that are kept; the thing offered longest ago goes first, and the last one stays.

    Attributes:
        folder: what the addresses begin with.
        gone: what is said of a thing that is not kept any more.
    """

    folder: str
    gone: str

    def __init__(self, capacity: int):
        self.capacity = capacity
        self._key = secrets.token_bytes(32)
        self._kept: OrderedDict[str, Thing] = OrderedDict()
        self._size = 0
        self._lock = threading.Lock()

    @abstractmethod
    def count(self, thing: Thing) -> int:
        """Bytes that a thing holds in memory."""

    @abstractmethod
    def identify(self, thing: Thing) -> Iterable[bytes | memoryview]:
        """What tells a thing from all others."""

    @abstractmethod
    def answer(self, thing: Thing, request: Request) -> Response:
        """A thing for who may have it, with `HEADERS`."""

    def offer(self, thing: Thing) -> str:
        """Makes a thing fetchable; returns the address, relative to the page."""
        told = hmac.new(self._key, digestmod=hashlib.sha256)
        for part in self.identify(thing):
            told.update(part)
        name = told.hexdigest()
        with self._lock:
            if name not in self._kept:
                self._size += self.count(thing)
            self._kept[name] = thing
            self._kept.move_to_end(name)
            while len(self._kept) > 1 and self._size > self.capacity:
                self._size -= self.count(self._kept.popitem(last=False)[1])
        return f"{self.folder}/{name}"

    def serve(self, request: Request) -> Response:
        """Answers with a thing; 401 or 404 where it must not."""
        if not _is_known(request):
            return PlainTextResponse("Log in first.", 401, HEADERS)
        with self._lock:
            thing = self._kept.get(request.path_params["name"])
        return PlainTextResponse(self.gone, 404, HEADERS) if thing is None else self.answer(thing, request)

    def build_route(self) -> Route:
        """The route for the web server."""
        return Route(f"/{self.folder}/{{name}}", self.serve, methods=["GET"])


def _is_known(request: Request) -> bool:
    """Whether the request comes from someone who is logged in, where gradio's app asks for that."""
    app = request.app
    if getattr(app, "auth", None) is None:
        return True
    names = (f"access-token-{app.cookie_id}", f"access-token-unsecure-{app.cookie_id}")
    return any(app.tokens.get(request.cookies.get(name)) is not None for name in names)
