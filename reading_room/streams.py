"""Keeps an event from waiting for ever on a stream of answers that has just ended."""

from __future__ import annotations

import asyncio
import json
import time
from collections import OrderedDict
from urllib.parse import parse_qs

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

GRACE = 0.25  # seconds that a browser may take to notice that its stream has ended
QUICK = 0.05  # seconds that a client in Python may take, which has a thread for it
_REMEMBERED = 2_000  # sessions


class SettledStreams:
    """ASGI middleware: an event's receipt goes out only when the browser knows that its last stream has ended.

    Gradio's page has one stream of answers a session, and expects an event's answers on it as long as it believes it
    open. The server ends it when nothing is pending. The receipt of an event that comes just after that can overtake
    the news of the end: then the page opens no new stream and waits for ever. So such a receipt is held back until
    `grace` after the end of its session's last stream; for gradio's client in Python, which calls one thing after the
    other all day, until `QUICK` after it.

    Args:
        app: the app behind this.
        grace: seconds.
    """

    def __init__(self, app: ASGIApp, grace: float = GRACE):
        self.app = app
        self.grace = grace
        self._ended: OrderedDict[str, float] = OrderedDict()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes a request on; looks at those of gradio's queue."""
        path = scope.get("path", "")
        if path.endswith("/queue/data"):
            session = parse_qs(scope["query_string"].decode("latin-1")).get("session_hash", [""])[0]
            await self.app(scope, receive, self._watch(send, session))
        elif path.endswith("/queue/join"):
            body = bytearray()
            quick = Headers(scope=scope).get("user-agent", "").startswith("gradio_client/")
            grace = min(QUICK, self.grace) if quick else self.grace
            await self.app(scope, _copy(receive, body), self._hold(send, body, grace))
        else:
            await self.app(scope, receive, send)

    def _watch(self, send: Send, session: str) -> Send:
        async def watch(message: Message) -> None:
            if b'"close_stream"' in message.get("body", b""):
                self._ended[session] = time.monotonic()
                self._ended.move_to_end(session)
                while len(self._ended) > _REMEMBERED:
                    self._ended.popitem(last=False)
            await send(message)

        return watch

    def _hold(self, send: Send, body: bytearray, grace: float) -> Send:
        async def hold(message: Message) -> None:
            if message["type"] == "http.response.start":
                passed = time.monotonic() - self._ended.get(_session_of(body), float("-inf"))
                await asyncio.sleep(max(0.0, grace - passed))
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
