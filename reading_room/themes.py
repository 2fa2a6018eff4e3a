"""How the pages look: three themes, the switch between them, gradio's own parts in their colours, and all CSS.

`themes.css` decides every colour, by name. `themes.js` wears the theme that the reader chose in this browser; both go
into the page's head, so that a light page never flashes up in a dark room.
"""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import gradio as gr
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from reading_room.viewer import read_part

_FOLDER = Path(__file__).parent
THEMES = {"light": "Light", "dark": "Dark", "black": "Black"}
"""Name to title of each theme, in the order of their buttons."""

_FONT = ["system-ui", "-apple-system", "Segoe UI", "Roboto", "Helvetica Neue", "Arial", "sans-serif"]
_MONO = ["ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "monospace"]
_COLOURS = {
    "room": "body_background_fill background_fill_primary table_even_background_fill",
    "panel": "background_fill_secondary block_background_fill block_label_background_fill panel_background_fill "
    "table_odd_background_fill",
    "field": "input_background_fill checkbox_label_background_fill checkbox_background_color code_background_fill",
    "button": "button_secondary_background_fill stat_background_fill",
    "raise": "button_secondary_background_fill_hover checkbox_label_background_fill_hover "
    "checkbox_label_background_fill_selected color_accent_soft",
    "line": "border_color_primary block_border_color input_border_color button_secondary_border_color "
    "button_secondary_border_color_hover table_border_color",
    "edge": "checkbox_border_color checkbox_border_color_hover border_color_accent",
    "text": "body_text_color button_secondary_text_color",
    "quiet": "body_text_color_subdued block_label_text_color block_title_text_color input_placeholder_color",
    "accent": "color_accent checkbox_border_color_focus checkbox_border_color_selected input_border_color_focus "
    "link_text_color link_text_color_active link_text_color_hover link_text_color_visited slider_color",
    "primary": "button_primary_background_fill button_primary_border_color checkbox_background_color_selected",
    "primary-raise": "button_primary_background_fill_hover button_primary_border_color_hover",
    "on-primary": "button_primary_text_color",
    "alarm": "error_background_fill",
    "bad": "error_border_color error_text_color error_icon_color",
}
"""A colour of `themes.css` to the variables of gradio's theme that take it."""


def build_theme() -> gr.themes.Base:
    """Gradio's theme in the page's colours: the same variables, whichever of its two modes gradio believes in."""
    theme = gr.themes.Base(font=_FONT, font_mono=_MONO)
    known = inspect.signature(theme.set).parameters
    wanted = {name: f"var(--{colour})" for colour, names in _COLOURS.items() for name in names.split()}
    dark = {f"{name}_dark": value for name, value in wanted.items() if f"{name}_dark" in known}
    return theme.set(**wanted, **dark, layout_gap="10px", block_padding="8px 12px", checkbox_border_width="1px")


def build_switch() -> gr.HTML:
    """Adds the switch between the themes to the current `gr.Blocks`."""
    buttons = "".join(
        f'<button type="button" data-wear="{name}" aria-pressed="false" aria-label="{title} theme" '
        f'title="{title} theme"></button>'
        for name, title in THEMES.items()
    )
    return gr.HTML(
        f'<div class="sr-themes" role="group" aria-label="Theme">{buttons}</div>',
        elem_id="themes",
        js_on_load="secondReadThemes.follow()",
    )


def read_looks() -> str:
    """The CSS of all pages; that of the themes is in the page's head already."""
    return "".join(_read(name) for name in ("looks.css", "pages.css")) + read_part("viewer.css") + _read("touch.css")


def build_head() -> bytes:
    """What comes first in the page's head, before gradio's own scripts."""
    scripts = "".join(
        f"<script>\n{_read(name)}</script>\n"
        for name in ("storage.js", "themes.js", "streams.js", "drafts.js", "history.js")
    )
    return f"<style>\n{_read('themes.css')}</style>\n{scripts}".encode()


def _read(name: str) -> str:
    return (_FOLDER / name).read_text(encoding="utf-8")


class EarlyThemes:
    """ASGI middleware: puts `build_head()` into every HTML page, before all else in its head.

    What gradio is given as `head` gets there only when its scripts have been fetched and run: after the first paint.

    Args:
        app: the app behind this.
    """

    def __init__(self, app: ASGIApp):
        self.app = app
        self.head = build_head()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes a request on; adds to the answer where it is a page."""
        if scope["type"] != "http" or scope["method"] != "GET":
            await self.app(scope, receive, send)
        else:
            await self.app(scope, receive, self._dress(send))

    def _dress(self, send: Send) -> Send:
        held: list[Message] = []  # the start of a page, until its head is known

        async def dress(message: Message) -> None:
            if message["type"] == "http.response.start" and _is_page(message):
                held.append(message)
                return
            if held:
                start, body = held.pop(), message.get("body", b"")
                message["body"] = body.replace(b"<head>", b"<head>\n" + self.head, 1)
                headers = MutableHeaders(raw=start["headers"])
                if "content-length" in headers:
                    grown = len(message["body"]) - len(body)
                    headers["content-length"] = str(int(headers["content-length"]) + grown)
                await send(start)
            await send(message)

        return dress


def _is_page(message: Any) -> bool:
    return MutableHeaders(raw=message["headers"]).get("content-type", "").startswith("text/html")
