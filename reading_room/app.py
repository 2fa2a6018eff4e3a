"""Builds the browser app, apart from launching it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr

from reading_room.api import build_api
from reading_room.reading_page import build_reading_page, looks
from reading_room.room import Room

UPLOADS_KEPT = (60, 300)  # seconds: how often uploads are looked through, and the age at which they go
_FONT = ["system-ui", "-apple-system", "Segoe UI", "Roboto", "Helvetica Neue", "Arial", "sans-serif"]
_MONO = ["ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "monospace"]


def build_app(flags_folder: str | Path = "flags", task: str | None = None, engine: str = "torch") -> gr.Blocks:
    """Builds the reading room.

    Args:
        flags_folder: folder of the flag ledger.
        task: the task that the page opens with; None for the first that has a model here.
        engine: what runs the models, one of `xray_models.engine.ENGINES`.

    Returns:
        The app; pass `launch_options()` to its `launch`.

    Raises:
        TaskError: for an unknown task.
    """
    room = Room(Path(flags_folder), engine)
    task = task or room.panels.default()
    room.panels.warm(task)
    with gr.Blocks(title="Second Read", analytics_enabled=False, fill_width=True, delete_cache=UPLOADS_KEPT) as app:
        build_reading_page(room, task)
        build_api(room)
    return app


def launch_options() -> dict[str, Any]:
    """What `launch` needs for the app to look right and stay on this machine."""
    theme = gr.themes.Base(primary_hue="teal", neutral_hue="slate", font=_FONT, font_mono=_MONO)
    return {
        "theme": theme,
        "css": looks(),
        "js": "() => document.body.classList.add('dark')",
        "share": False,
        "ssr_mode": False,
        "footer_links": ["api"],
        "max_file_size": "512mb",
        "run_history": False,
    }
