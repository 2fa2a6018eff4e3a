"""The reading room in other languages than English, in which the server speaks: translated in the browser.

`tr.json` is the table of phrases, English to Turkish; `phrases.js` says how a text is found in it, and `languages.js`
shows it on the page. Both go into the page's head, so that no English flashes up before the Turkish. What is sent to
the server, and stands in the ledger, stays English.
"""

from __future__ import annotations

import json
from pathlib import Path

import gradio as gr
from starlette.types import ASGIApp

from reading_room.themes import EarlyThemes

_FOLDER = Path(__file__).parent
LANGUAGES = {"en": "English", "tr": "Türkçe"}
"""Code to name of each language, in the order of their buttons; each but the first has a table, `<code>.json`."""


def read_phrases(code: str) -> dict[str, str]:
    """The table of a language: English phrases to their translations, as `phrases.js` explains them."""
    return json.loads(_read(f"{code}.json"))


def build_language_switch() -> gr.HTML:
    """Adds the switch between the languages to the current `gr.Blocks`."""
    buttons = "".join(
        f'<button type="button" data-speak="{code}" lang="{code}" translate="no" aria-pressed="false" '
        f'aria-label="{name}" title="{name}">{code.upper()}</button>'
        for code, name in LANGUAGES.items()
    )
    return gr.HTML(
        f'<div class="sr-languages" role="group" aria-label="Language">{buttons}</div>',
        elem_id="languages",
        js_on_load="secondReadLanguages.markButtons()",
    )


def build_head() -> bytes:
    """What comes first in the page's head: the script, with its tables, and the switch's looks."""
    tables = {code: read_phrases(code) for code in list(LANGUAGES)[1:]}
    data = json.dumps(tables, ensure_ascii=False).replace("</", "<\\/")
    script = f"(() => {{\nconst tables = {data};\n{_read('phrases.js')}{_read('languages.js')}}})();"
    return f"<style>\n{_read('languages.css')}</style>\n<script>\n{script}</script>\n".encode()


def _read(name: str) -> str:
    return (_FOLDER / name).read_text(encoding="utf-8")


class EarlyLanguages(EarlyThemes):
    """ASGI middleware: puts `build_head()` into every HTML page, before all else in its head.

    Args:
        app: the app behind this.
    """

    def __init__(self, app: ASGIApp):
        super().__init__(app)
        self.head = build_head()
