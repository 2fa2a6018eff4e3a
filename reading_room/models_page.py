"""The models page: what each model is, how good, and where it fails; its card and the evaluation's report in place."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import gradio as gr

from reading_room import models, pulls, tables
from reading_room.cards import render_error, title_of
from reading_room.room import Room
from reading_room.wiring import QUIET, Shared, build_tasks
from xray_models.hub_client import HubError
from xray_models.tasks import TaskError

_BRING = """() => {
  const look = tries => {
    const shown = [...document.querySelectorAll('#models-message [role], #models-card, #models-frame iframe')];
    const found = shown.find(one => one.checkVisibility());
    const low = !found || found.getBoundingClientRect().top > innerHeight * 0.6;
    if (found && low) found.scrollIntoView({behavior: 'auto'}); // as far as the page goes: it may still grow
    if (low && tries) setTimeout(look, 50, tries - 1);
  };
  look(30);
}"""
"""Script that brings what was opened into sight where it stands below the window."""


def build_models_page(room: Room, shared: Shared | None = None) -> Callable[[gr.Tab], object]:
    """Builds the page inside the current `gr.Blocks`.

    Args:
        room: whose tasks are shown, with the reports and figures in `room.reports`.
        shared: what of the first page this one goes by: it goes along with the task, and shows the card of the model
            whose name is clicked there.

    Returns:
        What has the table drawn anew whenever the page's tab is chosen.
    """
    tasks = room.panels.tasks
    first = room.panels.default()
    with gr.Row(elem_classes="sr-filters"):
        task = build_tasks(room, first, elem_id="models-task")
        report = gr.Button("Evaluation report", elem_id="models-report", size="sm")
    table = gr.HTML(_draw(room, first), elem_id="models-table", js_on_load=tables.ON_LOAD)
    form = _build_form(room)
    message = gr.HTML("", elem_id="models-message")
    card = gr.Markdown("", elem_id="models-card", sanitize_html=True, visible=False, container=True)
    frame = gr.HTML("", elem_id="models-frame")

    def show_task(name: str) -> tuple:
        return _draw(room, name), "", _hide_card(), ""

    def act(name: str, event: gr.EventData) -> tuple:
        return _act(room, name, event)

    def show_clicked(name: str, event: gr.EventData) -> tuple:
        return name, _draw(room, name), *act(name, event)[1:]

    def show_report(name: str) -> tuple:
        found = models.find_report(tasks[name], room.reports)
        if found is None:
            command = f"python -m evaluation.run --task {name} --out {room.reports / name}"
            missing = f"There is no report of {tasks[name].title} yet. Make it: {command}"
            return gr.skip(), render_error(missing, "No report."), _hide_card(), ""
        return gr.skip(), "", _hide_card(), models.frame_report(found, f"Evaluation of {tasks[name].title}")

    shown = [table, message, card, frame]
    task.input(show_task, task, shown, **QUIET)
    asked = [table.click(act, task, shown, **QUIET), report.click(show_report, task, shown, **QUIET)]
    if shared is not None:
        shared.task.change(lambda name: (name, *show_task(name)), shared.task, [task, *shown], **QUIET)
        asked.append(shared.cards.click(show_clicked, shared.task, [task, *shown], **QUIET))
    if form is not None:
        asked.append(_wire_form(room, form, task, shown))
    for event in asked:
        event.then(None, None, None, js=_BRING, api_visibility="private")
    return lambda tab: tab.select(functools.partial(_draw, room), task, table, **QUIET)


def _act(room: Room, name: str, event: gr.EventData) -> tuple:
    """What a button asks for: a model's card, or that it leaves the panel; for the table, message, card and frame."""
    try:
        if event.action == "leave" and room.pulls:
            room.panels.remove(name, event.key)
            return _draw(room, name), pulls.render_left(event.key), _hide_card(), ""
        text = models.show_card(room.panels.tasks[name], event.key, room.reports)
    except (TaskError, HubError) as error:
        lead = "Not taken out." if event.action == "leave" else "No card."
        return _draw(room, name), render_error(str(error), lead), _hide_card(), ""
    return gr.skip(), "", gr.update(value=f"*Card of {title_of(event.key)}*\n\n{text}", visible=True), ""


def _hide_card() -> dict[str, Any]:
    return gr.update(value="", visible=False)  # made anew each time: gradio takes it apart


class _Form(NamedTuple):
    """What a model of the Hub is pulled with."""

    wanted: gr.Textbox
    pull: gr.Button


def _build_form(room: Room) -> _Form | None:
    if not room.pulls:
        gr.HTML(pulls.NOT_HERE, elem_id="models-no-pull")
        return None
    with gr.Row(elem_classes="sr-filters"):
        wanted = gr.Textbox(
            label="A model of the Hub",
            placeholder="owner/name, or owner/name@commit",
            elem_id="models-wanted",
            max_lines=1,
        )
        pull = gr.Button("Pull into the panel", elem_id="models-pull", size="sm")
    return _Form(wanted, pull)


def _wire_form(room: Room, form: _Form, task: gr.Dropdown, shown: list[Any]) -> Any:
    def pull(name: str, wanted: str) -> Iterator[tuple]:
        yield gr.skip(), pulls.render_pulling(wanted), _hide_card(), "", gr.skip()
        try:
            pulled = pulls.pull_into(room.panels, name, wanted)
        except (HubError, TaskError, OSError) as error:
            yield gr.skip(), render_error(str(error), "Not pulled."), gr.skip(), gr.skip(), gr.skip()
            return
        yield _draw(room, name), pulls.render_pulled(name, pulled), gr.skip(), gr.skip(), ""

    asked = [task, form.wanted]
    return gr.on([form.pull.click, form.wanted.submit], pull, asked, [*shown, form.wanted], **QUIET)


def _draw(room: Room, name: str) -> str:
    task = room.panels.tasks[name]
    joined = [model for known, model in room.panels.added if known == name]
    return models.render_models(task, models.list_models(task, room.reports), joined)
