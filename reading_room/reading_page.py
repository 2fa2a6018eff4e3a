"""The first page: an image in, every model's card, the flag form. Layout and wiring only."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import gradio as gr

from reading_room.cards import METHOD_TITLES
from reading_room.room import Room, Shown
from xray_models.flags import REASONS
from xray_models.tasks import Task

_OPACITY = "(value) => { document.documentElement.style.setProperty('--heat', value); return value; }"
_DOWNLOAD = """(text) => {
  const link = document.createElement('a');
  link.href = URL.createObjectURL(new Blob([text], {type: 'text/csv'}));
  link.download = 'flags.csv';
  link.click();
  URL.revokeObjectURL(link.href);
}"""
_BRAND = '<div class="sr-brand"><b>Second Read</b><span>every model’s opinion, side by side</span></div>'
_DISCLAIMER = (
    '<p class="sr-disclaimer">Research and teaching only: not a medical device. A heatmap shows what moved a model’s '
    "score, not where disease is.</p>"
)


def build_reading_page(room: Room, task: str) -> None:
    """Builds the page inside the current `gr.Blocks`.

    Args:
        room: what the page acts on.
        task: the task that it opens with.
    """
    start = room.empty(task)
    shown = gr.State(None)
    with gr.Row(elem_classes="sr-head", equal_height=True):
        gr.HTML(_BRAND)
        titles = [(t.title, name) for name, t in room.panels.tasks.items()]
        tasks = gr.Dropdown(titles, value=task, label="Task", elem_id="task", filterable=False, container=False)
        gr.HTML(_DISCLAIMER, elem_classes="sr-aside")
    with gr.Row(elem_classes="sr-main"):
        with gr.Column(scale=5, min_width=320):
            file = gr.File(label="Radiograph, MRI slice or DICOM file", elem_id="file", height=84)
            example = gr.Button("Draw a synthetic example", elem_id="example", size="sm")
            viewer = gr.HTML(start.viewer, elem_id="viewer")
        with gr.Column(scale=9, min_width=320):
            consensus = gr.HTML(start.consensus, elem_id="consensus")
            with gr.Row(elem_classes="sr-tools"):
                methods = [(title, name) for name, title in METHOD_TITLES.items()]
                method = gr.Radio(methods, value="grad_cam", label="Heatmap", elem_id="method", scale=3)
                opacity = gr.Slider(0, 1, 0.55, step=0.05, label="Opacity", elem_id="opacity", scale=2)
            cards = gr.HTML(start.cards, elem_id="cards")
    form = _build_flag_form(room, task)

    view = [viewer, consensus, cards, shown]
    file.upload(room.read_upload, [file, tasks, method], view, show_progress="hidden", api_visibility="private")
    file.clear(room.empty, tasks, view, show_progress="hidden", api_visibility="private")
    tasks.input(_labels(room), tasks, form["label"], show_progress="hidden", api_visibility="private").then(
        room.read_again, [shown, tasks, method], view, show_progress="hidden", api_visibility="private"
    )
    method.input(room.draw_maps, [shown, tasks, method], cards, show_progress="hidden", api_visibility="private")
    opacity.input(None, opacity, None, js=_OPACITY, api_visibility="private")

    def read_example(method: str) -> Iterator[tuple]:
        phantom = room.panels.tasks["phantom"]
        for step in room.read_example(method):
            yield ("phantom", gr.update(choices=_choices(phantom), value=None), *step)

    example.click(read_example, method, [tasks, form["label"], *view], show_progress="hidden", api_visibility="private")
    _wire_flag_form(room, form, shown)


def _labels(room: Room) -> Callable[[str], dict]:
    return lambda task: gr.update(choices=_choices(room.panels.tasks[task]), value=None)


def _choices(task: Task) -> list[tuple[str, str]]:
    """Labels as people read them, and as they are stored."""
    return [(label.replace("_", " "), label) for label in task.labels]


def _build_flag_form(room: Room, task: str) -> dict[str, gr.components.Component]:
    """The form below the cards: what the reader thinks instead, and the ledger's download."""
    with gr.Group(elem_classes="sr-form"):
        with gr.Row(equal_height=True):
            label = gr.Radio(
                _choices(room.panels.tasks[task]),
                label="Flag: the label should be",
                elem_id="flag-label",
                scale=4,
            )
            confidence = gr.Slider(0, 100, 80, step=5, label="Your confidence, %", elem_id="flag-confidence", scale=2)
            reason = gr.Dropdown(list(REASONS), value=REASONS[0], label="Reason", elem_id="flag-reason", scale=2)
        with gr.Row(equal_height=True):
            reader = gr.Textbox(label="Reader", placeholder="name or initials", elem_id="flag-reader", scale=2)
            comment = gr.Textbox(
                label="Comment (nothing that identifies a patient)",
                elem_id="flag-comment",
                max_length=4000,
                scale=5,
            )
            save = gr.Button("Save flag", variant="primary", elem_id="flag-save", scale=1, min_width=120)
            download = gr.Button("flags.csv", elem_id="flag-download", scale=1, min_width=120)
        status = gr.HTML("", elem_id="flag-status")
        table = gr.Textbox(visible="hidden")
    return {
        "label": label,
        "confidence": confidence,
        "reason": reason,
        "reader": reader,
        "comment": comment,
        "save": save,
        "download": download,
        "status": status,
        "table": table,
    }


def _wire_flag_form(room: Room, form: dict, shown: gr.State) -> None:
    def save_flag(
        shown: Shown | None, label: str | None, confidence: float, reason: str, reader: str, comment: str
    ) -> str:
        fields = {
            "corrected_label": label,
            "confidence": confidence / 100,
            "reason": reason,
            "reader": reader,
            "comment": comment,
        }
        return room.save_flag(shown, fields)

    inputs = [shown, *(form[name] for name in ("label", "confidence", "reason", "reader", "comment"))]
    form["save"].click(save_flag, inputs, form["status"], show_progress="hidden", api_visibility="private")
    form["download"].click(room.export, None, form["table"], show_progress="hidden", api_visibility="private").then(
        None, form["table"], None, js=_DOWNLOAD, api_visibility="private"
    )


def looks() -> str:
    """The page's CSS."""
    return (Path(__file__).parent / "looks.css").read_text(encoding="utf-8")
