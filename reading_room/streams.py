"""Keeps an event from waiting for ever on a stream of answers that has just ended; `streams.js` is its other half."""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from collections import OrderedDict
from urllib.parse import parse_qs

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

GRACE = 0.25  # seconds that who does not follow streams' numbers may take to notice that one has ended
QUICK = 0.05  # seconds that a client in Python may take, which has a thread for it
STREAM, ENDED, FOLLOWS = "x-stream", "x-ended-stream", "x-follows-streams"  # headers, which `streams.js` knows
_REMEMBERED = 2_000  # sessions


class SettledStreams:
    """ASGI middleware: an event's receipt is taken only when the browser knows that its last stream has ended.

    Gradio's page has one stream of answers a session, and expects an event's answers on it as long as it believes it
    open. The server ends it when nothing is pending. The receipt of an event that comes just after that can overtake
    the news of the end: then the page opens no new stream and waits for ever. So streams are numbered, a receipt says
    which was the last of its session that ended, and the page takes it once it has seen that end. From others the
    receipt is held back until `grace` after it; from gradio's client in Python, which calls one thing after the other
    all day, until `QUICK` after it.

    Args:
        app: the app behind this.
        grace: seconds.
    """

    def __init__(self, app: ASGIApp, grace: float = GRACE):
        self.app = app
        self.grace = grace
        self._numbers = itertools.count(time.time_ns() // 1_000_000)  # higher than those of the server before
        self._ended: OrderedDict[str, tuple[float, int]] = OrderedDict()  # when, and which, by session

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes a request on; looks at those of gradio's queue."""
        path = scope.get("path", "")
        if path.endswith("/queue/data"):
            session = parse_qs(scope["query_string"].decode("latin-1")).get("session_hash", [""])[0]
            await self.app(scope, receive, self._watch(send, session))
        elif path.endswith("/queue/join"):
            body = bytearray()
            await self.app(scope, _copy(receive, body), self._hold(send, body, self._grace_of(Headers(scope=scope))))
        else:
            await self.app(scope, receive, send)

    def _grace_of(self, headers: Headers) -> float:
        if FOLLOWS in headers:
            return 0.0
        return min(QUICK, self.grace) if headers.get("user-agent", "").startswith("gradio_client/") else self.grace

    def _watch(self, send: Send, session: str) -> Send:
        number = next(self._numbers)

        async def watch(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)[STREAM] = str(number)
            elif b'"close_stream"' in message.get("body", b""):
                self._ended[session] = time.monotonic(), number
                self._ended.move_to_end(session)
                while len(self._ended) > _REMEMBERED:
                    self._ended.popitem(last=False)
            await send(message)

        return watch

    def _hold(self, send: Send, body: bytearray, grace: float) -> Send:
        async def hold(message: Message) -> None:
            if message["type"] == "http.response.start":
                ended, number = self._ended.get(_session_of(body), (float("-inf"), 0))
                MutableHeaders(scope=message)[ENDED] = str(number)
                await asyncio.sleep(max(0.0, grace - (time.monotonic() - ended)))
            await send(message)

        return hold


def _copy(receive: Receive, body: bytearray) -> Receive:
    async def copy() -> Message:
        message = await receive()
        body.extend(message.get("body", b""))
        return message

    return copy


def _session_of(body: bytearray) -> str:
    """The session that an event's body names; empty for a body that the app will have refused."""
    try:
        return str(json.loads(body)["session_hash"])
    except (ValueError, TypeError, KeyError):
        return ""
