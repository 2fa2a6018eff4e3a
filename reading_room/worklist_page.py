"""The worklist page: many files in, the doubtful ones first, while they are read. Layout and wiring only."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import gradio as gr

from reading_room import tables
from reading_room.cards import render_error
from reading_room.desk import SAYING
from reading_room.readers import name_reader
from reading_room.review import list_readers, load_flags
from reading_room.room import Room
from reading_room.wiring import FROM_LINK, QUIET, Shared, Steps, build_tasks
from reading_room.worklist_view import (
    ORDERS,
    PAGE,
    Choice,
    draw_list,
    find_step,
    list_filters,
    list_steps,
    render_step,
)
from reading_room.worklists import Worklists

_SEALED = '<p class="sr-none">There is no worklist while you read blinded: its order gives opinions away.</p>'
_NOTE = (
    '<p class="sr-quiet">Doubt is the models’ disagreement together with their own doubts. Cases have numbers, not '
    "names. The files stay on this machine until the list is cleared, or nobody looked at it for an hour.</p>"
)
_DRAWING = {**QUIET, "js": FROM_LINK}


class Opened(NamedTuple):
    """The case that the reader opened last.

    Attributes:
        task: name of its task.
        sha256: of its image; `room.cases.get(task, sha256)` has it, with its reading.
        times: how often a case was opened, so that opening one twice is a change as well.
        key: of its list.
        number: of the case in that list.
        place: where it stood among the cases to step through, from 0.
    """

    task: str
    sha256: str
    times: int
    key: str
    number: int
    place: int


class _Page(NamedTuple):
    """The page's components that its events share."""

    task: gr.Dropdown
    show: gr.Dropdown
    order: gr.Dropdown
    page: gr.State
    drawn: gr.State
    message: gr.HTML
    progress: gr.HTML
    table: gr.HTML
    place: gr.HTML
    intake: gr.Row
    controls: gr.Row
    cancel: gr.Button
    clear: gr.Button
    opened: gr.State
    blinded: gr.Checkbox
    steps: Steps


def build_worklist_page(room: Room, shared: Shared, on_open: Callable[[gr.State], None] | None = None) -> None:
    """Builds the page inside the current `gr.Blocks`.

    Args:
        room: what the page acts on.
        shared: the task, with which this page goes along; blinded reading, during which it shows no list; and the
            steps from case to case, which it guides.
        on_open: called once, now, with a state that holds an `Opened` whenever the reader opens a case; it attaches
            to the state's `change` what shows the case. Without it, rows have no button that opens them.
    """
    if room.blinded:
        gr.HTML(_SEALED)
        return
    lists = Worklists(room)
    with gr.Row(elem_classes="sr-filters") as intake:
        task = build_tasks(room, room.panels.default(), elem_id="list-task")
        shared.task.change(None, shared.task, task, js="(name) => name", **QUIET)
        files = gr.File(label="Images or a zip", file_count="multiple", elem_id="list-files", height=84)
        folder = gr.UploadButton("Choose a folder", file_count="directory", elem_id="list-folder", size="sm")
    with gr.Row(elem_classes="sr-filters") as controls:
        show = gr.Dropdown(list_filters(()), value="all", label="Show", elem_id="list-show", filterable=False)
        order = gr.Dropdown(ORDERS, value=Choice().order, label="Sort by", elem_id="list-order", filterable=False)
        watched = gr.Button("Watched folder", elem_id="list-watched", size="sm", visible=room.watch is not None)
        cancel = gr.Button("Cancel", elem_id="list-cancel", size="sm", interactive=False)
        clear = gr.Button("Clear the list", elem_id="list-clear", size="sm", interactive=False)
    message, progress = gr.HTML("", elem_id="list-message"), gr.HTML("", elem_id="list-progress")
    table = gr.HTML(
        draw_list(None, "", {}, Choice(), False, room.prints.offer).table,
        elem_id="list-table",
        js_on_load=tables.ON_LOAD,
    )
    with gr.Row(elem_classes="sr-pager"):
        before = gr.Button("Earlier rows", elem_id="list-before", size="sm")
        place = gr.HTML("", elem_id="list-place")
        after = gr.Button("Further rows", elem_id="list-after", size="sm")
    gr.HTML(_NOTE)
    said, rows = (message, progress, table, place), (intake, controls)
    states, opened = (gr.State(0), gr.State(None)), gr.State(None)
    page = _Page(task, show, order, *states, *said, *rows, cancel, clear, opened, shared.blinded, shared.steps)
    redraw = _wire_table(room, lists, page, opens=on_open is not None)
    _wire_intake(room, lists, page, (files, folder), redraw)
    if room.watch is not None:
        lists.watch(room.watch, room.panels.default())
        watched.click(lambda: (lists.watched, 0), None, [page.steps.key, page.page], **QUIET).then(*redraw, **_DRAWING)
    cancel.click(lists.cancel, page.steps.key, None, **QUIET)
    clear.click(lists.drop, page.steps.key, None, **QUIET).then(*redraw, **_DRAWING)
    for button, step in ((before, -1), (after, 1)):
        button.click(_stepping(step), page.page, page.page, **QUIET).then(*redraw, **_DRAWING).then(
            None, None, None, js=tables.bring_up("#list-table"), api_visibility="private"
        )
    if on_open is not None:
        _wire_opening(room, lists, page, redraw)
        on_open(page.opened)


def _stepping(step: int) -> Callable[[int], int]:
    return lambda page: max(0, page + step)  # too far is mended when the page is drawn


def _wire_table(room: Room, lists: Worklists, page: _Page, opens: bool) -> tuple:
    """Draws the list every second while rows come, and on every choice; returns how to draw it at other events."""

    def draw(  # noqa: PLR0913 - a value for each of `inputs`
        key: str | None,
        show: str,
        order: str,
        number: int,
        drawn: tuple | None,
        opened: Opened | None,
        blinded: bool,
        request: gr.Request,
    ) -> list:
        if blinded:
            hidden = [gr.Row(visible=False)] * 2
            sealed = ["", _SEALED, "", *hidden, gr.skip(), gr.skip(), number, None]
            return [*sealed, *_set_steps([], None), gr.skip(), gr.Timer(active=False)]
        found = lists.get(key)
        flags = load_flags(room.ledger.root)
        opened = _keep_open(opened, key)
        state = (key, show, order, number, found and (found.state, len(found.rows)), len(flags), opened)
        rest = gr.Timer(active=bool(found and found.active))
        if state == drawn:
            return [gr.skip()] * 13 + [rest]
        flagged = list_readers(flags, found.task) if found else {}
        title = room.panels.tasks[found.task].title if found else ""
        choice = Choice(show, order, number, opened.number if opened else 0)
        made = draw_list(found, title, flagged, choice, opens, room.prints.offer)
        room.note_seen(name_reader(request), found.task if found else "", made.images)
        steps = _set_steps(list_steps(found, flagged, show, order) if opens else [], opened)
        kept = (*state[:3], made.page, *state[4:])
        known = drawn is not None and drawn[0] == key
        filters = gr.skip() if known or not found else gr.Dropdown(list_filters(room.panels.tasks[found.task].labels))
        own = found if key != lists.watched else None  # the watched list is everybody's
        usable = *[gr.Row(visible=True)] * 2, _enable(own and own.active), _enable(own)
        return [made.progress, made.table, made.place, *usable, made.page, kept, *steps, filters, rest]

    inputs = [page.steps.key, page.show, page.order, page.page, page.drawn, page.opened, page.blinded]
    outputs = [
        page.progress,
        page.table,
        page.place,
        page.intake,
        page.controls,
        page.cancel,
        page.clear,
        page.page,
        page.drawn,
        *page.steps[:3],
        page.show,
        page.steps.timer,
    ]
    gr.on([page.steps.timer.tick, page.blinded.change], draw, inputs, outputs, **_DRAWING)
    for control in (page.show, page.order):
        control.input(lambda: 0, None, page.page, **QUIET).then(draw, inputs, outputs, **_DRAWING)
    return draw, inputs, outputs


def _enable(sense: object) -> gr.Button:
    """A button, to be pressed only where that makes sense."""
    return gr.Button(interactive=bool(sense))


def _keep_open(opened: Opened | None, key: str | None) -> Opened | None:
    """The case opened last, as long as its list is the one that is shown."""
    return opened if opened and opened.key == key else None


def _set_steps(numbers: Sequence[int], opened: Opened | None) -> list:
    """Values for the components of `Steps`."""
    number, place, sha256 = (opened.number, opened.place, opened.sha256) if opened else (None, 0, "")
    steps = (find_step(numbers, number, place, step) for step in (-1, 1))
    return [render_step(numbers, number, sha256), *(gr.Button(interactive=found is not None) for found in steps)]


def _wire_intake(
    room: Room, lists: Worklists, page: _Page, givers: tuple[gr.File, gr.UploadButton], redraw: tuple
) -> None:
    """Takes files in and draws at once: a tick that began before may have stopped the timer meanwhile."""

    def start(paths: list[str] | None, task: str, key: str | None) -> list:
        try:
            made = lists.start(paths, task, replaces=key)
        except SAYING as error:
            return [None, gr.skip(), gr.skip(), gr.skip(), render_error(str(error)), gr.skip()]
        return [None, made, "all", 0, "", gr.Timer(active=True)]

    for giver in givers:
        outputs = [giver, page.steps.key, page.show, page.page, page.message, page.steps.timer]
        giver.upload(start, [giver, page.task, page.steps.key], outputs, **QUIET).then(*redraw, **_DRAWING)


def _wire_opening(room: Room, lists: Worklists, page: _Page, redraw: tuple) -> None:
    """Opens the case of a row, or the one before or after the case opened last."""

    def list_cases(key: str | None, show: str, order: str) -> list[int]:
        found = lists.get(key)
        return list_steps(found, list_readers(load_flags(room.ledger.root), found.task), show, order) if found else []

    def open_case(key: str | None, number: int, numbers: list[int], last: Opened | None) -> list:
        try:
            task, sha256 = lists.open_case(key, number)
        except SAYING as error:
            return [gr.skip(), render_error(str(error)), gr.skip()]
        place = numbers.index(number) if number in numbers else 0
        return [Opened(task, sha256, last.times + 1 if last else 1, key or "", number, place), "", place // PAGE]

    def open_row(key: str | None, show: str, order: str, last: Opened | None, event: gr.EventData) -> list:
        return open_case(key, int(event.key), list_cases(key, show, order), last)

    def open_step(step: int, key: str | None, show: str, order: str, last: Opened | None, blinded: bool) -> list:
        numbers = [] if blinded else list_cases(key, show, order)
        here = _keep_open(last, key)
        number = find_step(numbers, here and here.number, here.place if here else 0, step)
        return [gr.skip()] * 3 if number is None else open_case(key, number, numbers, last)

    inputs, outputs = [page.steps.key, page.show, page.order, page.opened], [page.opened, page.message, page.page]
    page.table.click(open_row, inputs, outputs, **QUIET).then(*redraw, **_DRAWING)
    for button, step in ((page.steps.previous, -1), (page.steps.following, 1)):
        button.click(
            partial(open_step, step), [*inputs, page.blinded], outputs, **_DRAWING, trigger_mode="multiple"
        ).then(*redraw, **_DRAWING)
