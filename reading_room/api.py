"""The API of the reading room, for `gradio_client`: /read, /explain, /rank, /flag, /flags and /tasks."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import gradio as gr

from reading_room.intake import IntakeError
from reading_room.room import Room
from xray_models.flags import FlagError, LedgerError
from xray_models.tasks import TaskError


def build_api(room: Room) -> None:
    """Adds the public endpoints to the current `gr.Blocks`; their components are not on the page."""
    with gr.Group(visible=False):
        file, files = gr.File(label="file"), gr.File(label="files", file_count="multiple")
        task = gr.Textbox(label="task", value="phantom")
        model, label = gr.Textbox(label="model"), gr.Textbox(label="label")
        method = gr.Textbox(label="method", value="grad_cam")
        record, answer = gr.JSON(label="record"), gr.JSON(label="answer")
        text, trigger = gr.Textbox(label="text"), gr.Button()

        def expose(name: str, work: Callable, inputs: list, output: gr.components.Component, about: str) -> None:
            trigger.click(_speaking(work), inputs, output, api_name=name, api_description=about)

        expose("tasks", room.describe_tasks, [], answer, "Tasks with their labels and models.")
        expose("read", room.read, [file, task], answer, "Every model's opinion of a file, and their consensus.")
        expose(
            "explain",
            room.explain,
            [file, task, model, method, label],
            answer,
            "One model's heatmap of a file: heatmap and overlay as PNG data URIs, and stats.",
        )
        expose("rank", room.rank, [files, task], answer, "Files by the panel's disagreement, most first.")
        expose("flag", room.flag, [record], text, "Records a flag of an image that was read; returns its id.")
        expose("flags", room.export, [], text, "All flags as CSV.")


def _speaking(work: Callable) -> Callable:
    """Turns errors that are meant for the caller into gradio's, which carry their message across."""

    @functools.wraps(work)
    def wrapped(*args: Any) -> Any:
        try:
            return work(*args)
        except (IntakeError, TaskError, FlagError, LedgerError) as error:
            raise gr.Error(str(error), print_exception=False) from error

    return wrapped
