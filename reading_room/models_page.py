"""The models page: what each model is, how good, and where it fails; its card and the evaluation's report in place."""

from __future__ import annotations

from pathlib import Path

import gradio as gr

from reading_room import models, tables
from reading_room.cards import render_error, title_of
from reading_room.room import Room
from reading_room.wiring import QUIET, build_tasks
from xray_models.hub_client import HubError
from xray_models.tasks import TaskError

_BRING = """() => {
  const look = tries => {
    const shown = [...document.querySelectorAll('#models-message [role], #models-card, #models-frame iframe')];
    const found = shown.find(one => one.checkVisibility());
    if (!found && tries) setTimeout(look, 50, tries - 1);
    else if (found?.getBoundingClientRect().top > innerHeight * 0.6) found.scrollIntoView({behavior: 'auto'});
  };
  look(40);
}"""
"""Script that brings what was opened into sight where it stands below the window."""


def build_models_page(room: Room, chosen: gr.Dropdown | None = None) -> None:
    """Builds the page inside the current `gr.Blocks`.

    Args:
        room: whose tasks are shown, with the reports and figures in `room.reports`.
        chosen: list of tasks of another page; this page goes along when one is chosen there.
    """
    tasks = room.panels.tasks
    first = room.panels.default()
    with gr.Row(elem_classes="sr-filters"):
        task = build_tasks(room, first, elem_id="models-task")
        report = gr.Button("Evaluation report", elem_id="models-report", size="sm")
    table = gr.HTML(_draw(tasks[first], room.reports), elem_id="models-table", js_on_load=tables.ON_LOAD)
    message = gr.HTML("", elem_id="models-message")
    card = gr.Markdown("", elem_id="models-card", sanitize_html=True, visible=False, container=True)
    frame = gr.HTML("", elem_id="models-frame")

    def show_task(name: str) -> tuple:
        return _draw(tasks[name], room.reports), "", gr.Markdown("", visible=False), ""

    def show_card(name: str, event: gr.EventData) -> tuple:
        try:
            text = models.show_card(tasks[name], event.key, room.reports)
        except (TaskError, HubError) as error:
            return render_error(str(error), "No card."), gr.Markdown("", visible=False), ""
        return "", gr.Markdown(f"*Card of {title_of(event.key)}*\n\n{text}", visible=True), ""

    def show_report(name: str) -> tuple:
        no_card = gr.Markdown("", visible=False)
        found = models.find_report(tasks[name], room.reports)
        if found is None:
            command = f"python -m evaluation.run --task {name} --out {room.reports / name}"
            missing = f"There is no report of {tasks[name].title} yet. Make it: {command}"
            return render_error(missing, "No report."), no_card, ""
        return "", no_card, models.frame_report(found, f"Evaluation of {tasks[name].title}")

    shown = [table, message, card, frame]
    task.input(show_task, task, shown, **QUIET)
    if chosen is not None:
        chosen.change(lambda name: (name, *show_task(name)), chosen, [task, *shown], **QUIET)
    for event in (
        table.click(show_card, task, shown[1:], **QUIET),
        report.click(show_report, task, shown[1:], **QUIET),
    ):
        event.then(None, None, None, js=_BRING, api_visibility="private")


def _draw(task: models.Task, reports: Path) -> str:
    return models.render_models(task, models.list_models(task, reports))
