"""Keeps the pages of other sites, which a reader may have open as well, from asking the room in the reader's name.

Gradio lets every site's page call an app that is not at a local address, cookies and answers included.
"""

from __future__ import annotations

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

_LOCAL = ("localhost", "127.0.0.1", "0.0.0.0", "[::1]")  # here gradio itself lets no other site read an answer

_REFUSAL = (
    "A page of another site may not ask this. Open the reading room itself. Where it is behind a proxy, have the proxy "
    "pass on the Host header."
)


class OwnPages:
    """ASGI middleware: what a browser asks for another site's page is refused; programs, which name no site, are not.

    A browser says on whose behalf it asks: in `Sec-Fetch-Site` where the page is local or came by https, else in
    `Origin`, which is then compared with the address that was asked, as a proxy before this may have told it.

    Args:
        app: the app behind this.
    """

    def __init__(self, app: ASGIApp):
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes a request on, or answers 403."""
        if scope["type"] == "http" and _is_foreign(Headers(scope=scope)):
            refusal = PlainTextResponse(_REFUSAL, 403)
            await refusal(scope, receive, send)
        else:
            await self.app(scope, receive, send)


def _is_foreign(headers: Headers) -> bool:
    origin = headers.get("origin")
    if origin is None:  # a program, or a link that was followed
        return False
    site = headers.get("sec-fetch-site")
    if site is not None:
        return site not in ("same-origin", "none")
    host = headers.get("host", "")
    if host.startswith(_LOCAL):  # perhaps a proxy's word for it
        return False
    return origin.partition("://")[2] not in (host, headers.get("x-forwarded-host"))
