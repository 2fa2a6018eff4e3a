"""The API of the reading room, for `gradio_client` and as MCP tools.

Open: /read, /explain, /rank, /flag, /withdraw, /flags and /tasks.

A blinded room has /commit as well: what a reader must send of an image before /read and /explain answer.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import gradio as gr

from reading_room.desk import SAYING
from reading_room.gathering import MOST
from reading_room.readers import name_reader, sign
from reading_room.room import Room
from xray_models.methods import DEFAULT

_RECORD = {
    "type": "object",
    "description": "task, image_sha256, reader and corrected_label; and confidence, reason, comment or regions.",
}
_FILE = {  # as gradio and its MCP server know an upload, in place: they find no pointer below a list
    "type": "object",
    "properties": {
        "path": {"type": "string"},
        "meta": {"type": "object", "properties": {"_type": {"type": "string", "const": "gradio.FileData"}}},
    },
    "required": ["path", "meta"],
}


def build_api(room: Room) -> None:
    """Adds the public endpoints to the current `gr.Blocks`; their components are not on the page."""
    with gr.Group(visible=False):
        file, files = gr.File(label="file"), gr.File(label="files", file_count="multiple")
        task = gr.Textbox(label="task", value="phantom")
        model, label = gr.Textbox(label="model"), gr.Textbox(label="label")
        method = gr.Textbox(label="method", value=DEFAULT)
        confidence = gr.Number(label="confidence", value=1.0)
        record, answer = gr.JSON(label="record"), gr.JSON(label="answer")
        flag_id = gr.Textbox(label="flag_id")
        # gradio's own for JSON is no valid schema, so that MCP refuses every call
        record.api_info = lambda: _RECORD  # type: ignore[method-assign]
        files.api_info = lambda: {"type": "array", "items": _FILE}  # type: ignore[method-assign]
        text, trigger = gr.Textbox(label="text"), gr.Button()

        def read(file: str, task: str, request: gr.Request) -> dict:
            return room.read(file, task, name_reader(request))

        def explain(file: str, task: str, model: str, method: str, label: str, request: gr.Request) -> dict:
            return room.explain(file, task, model, method, label, name_reader(request))

        def rank(files: list[str], task: str, request: gr.Request) -> list[dict[str, Any]]:
            return room.rank(files, task, name_reader(request))

        def commit(file: str, task: str, label: str, confidence: float, request: gr.Request) -> dict:
            return room.commit(file, task, label, confidence, name_reader(request))

        def flag(record: dict, request: gr.Request) -> str:
            if isinstance(record, dict) and (name := sign(request, record.get("reader"))):
                record = {**record, "reader": name}
            return room.flag(record, name_reader(request))

        def withdraw(flag_id: str, request: gr.Request) -> str:
            return room.withdraw(flag_id, name_reader(request))

        def expose(  # noqa: PLR0913 - what a caller sees of an endpoint
            name: str, work: Callable, inputs: list, output: gr.components.Component, about: str, at_once: int = 1
        ) -> None:
            told: dict[str, Any] = {"api_name": name, "api_description": about, "concurrency_limit": at_once}
            trigger.click(_speaking(work, name), inputs, output, **told)

        expose("tasks", room.describe_tasks, [], answer, "Tasks with their labels and models.")
        if room.blinded:
            about = "Locks your own label of a file; then its opinions can be read."
            expose("commit", commit, [file, task, label, confidence], answer, about)
        expose("read", read, [file, task], answer, "Every model's opinion of a file, and their consensus.", MOST)
        about = "One model's heatmap of a file: heatmap and overlay as PNG data URIs, and stats."
        expose("explain", explain, [file, task, model, method, label], answer, about)
        expose("rank", rank, [files, task], answer, "Files by the panel's disagreement, most first.")
        expose("flag", flag, [record], text, "Records a flag of an image that was read; returns its id.")
        expose("withdraw", withdraw, [flag_id], text, "Takes back a flag that this client saved; returns the row's id.")
        expose("flags", room.export, [], text, "All flags as CSV.")


def _speaking(work: Callable, name: str) -> Callable:
    """Turns errors that are meant for the caller into gradio's, which carry their message across.

    Args:
        work: what answers.
        name: the endpoint's, which is its MCP tool's as well.
    """

    @functools.wraps(work)
    def wrapped(*args: Any, **named: Any) -> Any:
        try:
            return work(*args, **named)
        except SAYING as error:
            raise gr.Error(str(error), print_exception=False) from error

    wrapped.__name__ = name
    return wrapped
