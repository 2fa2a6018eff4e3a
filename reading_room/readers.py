"""Who reads: the name of a log-in, by `--auth` or by an account of the Hub on a Space; else a browser."""

from __future__ import annotations

import importlib.util
import logging
import os
import time
from typing import Any

import gradio as gr
from gradio.context import Context
from gradio.utils import get_space
from starlette.datastructures import Headers

from reading_room.browsers import find_browser
from reading_room.cards import GUEST
from reading_room.wiring import QUIET

_log = logging.getLogger(__name__)
_NEEDED = ("authlib", "itsdangerous")  # of gradio[oauth], which a Space's image has


def find_login(request: gr.Request | None) -> str:
    """The name that a reader logged in with; "" where nobody did."""
    if request is None:
        return ""
    if request.username:
        return str(request.username)
    found = (getattr(request.request, "scope", None) or {}).get("session", {}).get("oauth_info") or {}
    if found.get("expires_at", 0) < time.time():
        return ""
    return str(found.get("userinfo", {}).get("preferred_username", ""))


def name_reader(request: gr.Request | None) -> str:
    """Who asks: the name of the log-in; else the browser, the same after a reload; else the client's session."""
    login = find_login(request)
    if login or request is None:
        return login
    headers = Headers(raw=(getattr(request.request, "scope", None) or {}).get("headers", []))
    browser = find_browser(headers.get("cookie", ""))
    if browser:
        return f"browser {browser}"
    return f"session {request.session_hash}" if request.session_hash else ""  # a client chooses it: never a log-in's


def sign(request: gr.Request | None, typed: Any) -> Any:
    """The name under which something is recorded: the log-in's, else the one typed.

    Where readers can sign in, a name that is only typed says so: anybody can type a colleague's.
    """
    login = find_login(request)
    if login or not isinstance(typed, str) or not typed.strip() or not offers_sign_in():
        return login or typed
    return f"{typed.removesuffix(GUEST).strip()}{GUEST}"


def offers_sign_in() -> bool:
    """Whether readers can sign in with an account of the Hub: on a Space whose README says `hf_oauth: true`."""
    if get_space() is None or not os.environ.get("OAUTH_CLIENT_ID"):
        return False
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        _log.warning("nobody can sign in: %s is not installed; gradio[oauth] has it", " and ".join(missing))
    return not missing


def build_sign_in() -> None:
    """Adds the button to sign in and out, where it can work."""
    if offers_sign_in():
        gr.LoginButton("Sign in", "Sign out ({})", size="sm", variant="secondary", icon=None, elem_id="sign-in")


def show_login(name: gr.Textbox) -> None:
    """Has a field for the reader's name hold that of the log-in, unchangeably, where there is one."""

    def own(request: gr.Request) -> Any:
        login = find_login(request)
        return gr.Textbox(value=login, interactive=False) if login else gr.skip()

    assert Context.root_block is not None, "pages are built within the app"
    Context.root_block.load(own, None, name, **QUIET)
