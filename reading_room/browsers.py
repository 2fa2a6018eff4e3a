"""A browser's own name: a random cookie, by which a reader without a log-in is the same one after a reload."""

from __future__ import annotations

import re
import secrets

from gradio.utils import get_space
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

COOKIE = "second-read-browser"
KEPT = 30 * 24 * 3600  # seconds
_NAME = re.compile(r"[A-Za-z0-9_-]{32}")  # what `secrets.token_urlsafe(24)` gives


def find_browser(header: str) -> str:
    """The name in a `Cookie` header; "" where there is none that was given here."""
    found = re.search(rf"(?:^|;\s*){COOKIE}=([^;]*)", header)
    return found[1] if found and _NAME.fullmatch(found[1]) else ""


class NamedBrowsers:
    """ASGI middleware: a browser that opens a page and has no name yet is given one, which no script can read.

    It says nothing of the reader, and goes nowhere but back here.

    Args:
        app: the app behind this.
    """

    def __init__(self, app: ASGIApp):
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes a request on; names the browser where the answer is a page."""
        known = scope["type"] != "http" or find_browser(Headers(scope=scope).get("cookie", ""))
        await self.app(scope, receive, send if known or scope["method"] != "GET" else _name(send))


def _name(send: Send) -> Send:
    async def name(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(raw=message["headers"])
            if headers.get("content-type", "").startswith("text/html"):
                headers.append("set-cookie", _write(secrets.token_urlsafe(24)))
        await send(message)

    return name


def _write(name: str) -> str:
    # a Space is shown in a frame of another site, where only a cookie of that pair of sites is sent
    where = "SameSite=None; Secure; Partitioned" if get_space() else "SameSite=Lax"
    return f"{COOKIE}={name}; HttpOnly; Max-Age={KEPT}; Path=/; {where}"
