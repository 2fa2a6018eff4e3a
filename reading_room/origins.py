"""Keeps the pages of other sites, which a reader may have open as well, from asking the room in the reader's name.

Gradio lets every site's page call an app that is not at a local address, cookies and answers included. And a site whose
name is made to lead to this machine (DNS rebinding) has pages that a browser takes for the room's own.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

_FOREIGN = (
    "A page of another site may not ask this. Open the reading room itself. Where it is behind a proxy, have the proxy "
    "pass on the Host header."
)
_UNKNOWN = (
    "This reading room is open to its own machine only, and does not go by the name of {name}. Open it as localhost. "
    "Where a proxy serves it under that name, start it with --name {name}."
)


class OwnPages:
    """ASGI middleware: what a browser asks for another site's page is refused; programs, which name no site, are not.

    A browser says on whose behalf it asks: in `Sec-Fetch-Site` where the page is local or came by https, else in
    `Origin`, which is then compared with the address that was asked, as a proxy before this may have told it.

    Args:
        app: the app behind this.
        names: the names under which it may be asked, beside localhost and every numeric address; None for any.
    """

    def __init__(self, app: ASGIApp, names: Collection[str] | None = None):
        self.app = app
        self.names = names

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes a request on, or answers 403."""
        refused = self._refuse(Headers(scope=scope)) if scope["type"] == "http" else None
        await (PlainTextResponse(refused, 403) if refused else self.app)(scope, receive, send)

    def _refuse(self, headers: Headers) -> str | None:
        """The reason why a request is refused, if it is."""
        name = _find_name(headers.get("host", ""))
        if self.names is not None and name not in self.names and not _is_address(name) and not _is_here(name):
            return _UNKNOWN.format(name=name)
        return _FOREIGN if _is_foreign(headers, name) else None


def find_names(host: str | None, names: Collection[str]) -> list[str] | None:
    """The names for `OwnPages`: those given; without any, none for a room that this machine alone reaches, else all.

    Args:
        host: the address that the room listens on; None for gradio's own choice, which is this machine's.
        names: of the command line.
    """
    here = host is None or _is_here(host) or (_is_address(host) and ipaddress.ip_address(host).is_loopback)
    return [name.lower() for name in names] if names or here else None


def _is_foreign(headers: Headers, name: str) -> bool:
    origin = headers.get("origin")
    if origin is None:  # a program, or a link that was followed
        return False
    site = headers.get("sec-fetch-site")
    if site is not None:
        return site not in ("same-origin", "none")
    if _is_here(name) or name in ("127.0.0.1", "0.0.0.0", "::1"):  # gradio itself lets no other site read an answer;
        return False  # and it is perhaps a proxy's word for it
    return origin.partition("://")[2] not in (headers.get("host", ""), headers.get("x-forwarded-host"))


def _find_name(host: str) -> str:
    """The name or address of a Host header, without port and brackets."""
    inside, bracket, _ = host.removeprefix("[").partition("]")
    return inside if bracket else host.partition(":")[0].lower()


def _is_here(name: str) -> bool:
    return name == "localhost" or name.endswith(".localhost")


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
