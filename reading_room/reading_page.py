"""The first page: an image in, the viewer, every model's card, the forms. Layout and wiring only."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import gradio as gr
from gradio.context import Context

from reading_room import cards, tables
from reading_room.desk import SAYING, Desk, Setting, Shown, View
from reading_room.drafts import TAKE, find_draft
from reading_room.forms import (
    CONFIDENCE,
    CommitForm,
    build_answer,
    build_commit_form,
    build_flag_form,
    offer_labels,
    wire_flag_form,
)
from reading_room.notice import build_notice
from reading_room.readers import build_sign_in, name_reader
from reading_room.room import Room
from reading_room.turns import until_overtaken
from reading_room.viewer import build_viewer
from reading_room.wiring import FROM_LINK, QUIET, READING, Shared, Steps, build_tasks
from xray_models.fields import choose
from xray_models.flags import REASONS
from xray_models.methods import DEFAULT, TITLES
from xray_models.tasks import TaskError

_BRAND = '<div class="sr-brand"><h1>Second Read</h1><span>every model’s opinion, side by side</span></div>'
DISCLAIMER = (
    '<p class="sr-disclaimer"><span>Research and teaching only: not a medical device.</span> <span>A heatmap shows '
    "what moved a model’s score, not where disease is.</span></p>"
)


class Controls(NamedTuple):
    """How the reader sets a reading: components of the page's head, in the order in which handlers take them."""

    task: gr.Dropdown
    method: gr.Dropdown
    blinded: gr.Checkbox


class Stand(NamedTuple):
    """What a reading fills, in the order of `_fill` and, from the first label on, of `_clear`."""

    viewer: gr.HTML
    consensus: gr.HTML
    cards: gr.HTML
    shown: gr.State
    commit_form: gr.Group
    flag_form: gr.Group
    earlier: gr.HTML
    status: gr.HTML
    own_label: gr.Radio
    own_confidence: gr.Slider
    label: gr.Radio
    confidence: gr.Slider
    reason: gr.Dropdown
    comment: gr.Textbox
    offered: gr.State


def build_reading_page(room: Room, task: str) -> tuple[Shared, Callable[[gr.State], None]]:
    """Builds the page inside the current `gr.Blocks`.

    Args:
        room: what the page acts on.
        task: the task that it opens with.

    Returns:
        What of it other pages go by; and what makes it show the case that a state names, whenever the state changes.
        The state holds None, or something with `task` and `sha256` of a case of the room.
    """
    desk = Desk(room)
    start = desk.empty(task)
    shown = gr.State(None)
    build_notice()
    with gr.Row(elem_classes="sr-head", equal_height=True):
        gr.HTML(_BRAND)
        tasks = build_tasks(room, task, elem_id="task", container=False)
        file = gr.UploadButton("Open image", elem_id="file", size="sm", variant="primary")
        example = gr.Button("Synthetic example", elem_id="example", size="sm")
        blinded = gr.Checkbox(room.blinded, label="Read blinded", elem_id="blinded", interactive=not room.blinded)
        build_sign_in()
        gr.HTML(DISCLAIMER, elem_classes="sr-aside")
    with gr.Row(elem_classes="sr-main"):
        with gr.Column(elem_classes="sr-left"):
            viewer = build_viewer()
        with gr.Column(elem_classes="sr-right"):
            consensus = gr.HTML(start.consensus, elem_id="consensus")
            methods = [(title, name) for name, title in TITLES.items()]
            with gr.Row(elem_classes="sr-setting", equal_height=True):
                method = gr.Dropdown(methods, value=DEFAULT, label="Heatmap by", elem_id="method", filterable=False)
                steps = _build_steps()
            with gr.Column(elem_classes="sr-scroll"):
                cards_html = gr.HTML(start.cards, elem_id="cards", js_on_load=tables.ON_LOAD)
            earlier = gr.HTML("", elem_id="flag-earlier")
            commit = build_commit_form(room.panels.tasks[task])
            flag = build_flag_form(room, task)
            answer = build_answer()
    controls = Controls(tasks, method, blinded)
    entries = (commit.label, commit.confidence, flag.label, flag.confidence, flag.reason, flag.comment, gr.State(task))
    stand = Stand(viewer, consensus, cards_html, shown, commit.group, flag.group, earlier, answer.status, *entries)
    _wire_reading(desk, controls, stand, file, example)
    _wire_link(desk, controls, stand, _wire_draft(desk, controls, stand))
    _wire_commit_form(desk, controls, stand, commit)
    wire_flag_form(desk, flag, shown, answer, earlier, blinded)
    return Shared(tasks, blinded, steps, cards_html), lambda opened: _wire_opening(desk, controls, stand, opened)


def _build_steps() -> Steps:
    with gr.Row(elem_id="steps"):
        previous = gr.Button("Previous", elem_id="case-previous", size="sm")
        place = gr.HTML("", elem_id="case-place")
        following = gr.Button("Next", elem_id="case-next", size="sm")
    return Steps(place, previous, following, gr.BrowserState(None, storage_key="second-read-worklist"), gr.Timer(1))


def _take_turn(
    desk: Desk, request: gr.Request | None, task: str, method: str, blinded: bool = False, shown: Shown | None = None
) -> Setting:
    """How the page is set; whatever it asked for before ends. `shown` is what it goes on to show, if it does."""
    page = str(request.session_hash or "") if request else ""
    check = desk.turns.take(page, shown and (shown.task, shown.sha256))
    return Setting(task, method, name_reader(request), blinded, check, page)


def _show(
    desk: Desk, views: Iterator[View], setting: Setting, shown: Shown | None, before: Sequence[Any] = ()
) -> Iterator[list[Any]]:
    """Views as values for the components of `Stand`, until the page asks for another.

    Args:
        desk: the page's.
        views: what it shows, step by step.
        setting: how it is set.
        shown: what it has shown until now.
        before: values that come first in every step.
    """

    def fill() -> Iterator[list[Any]]:
        last = shown
        for view in views:
            desk.turns.note(setting.page, setting.check, view.shown and (view.shown.task, view.shown.sha256))
            yield [*before, *_fill(view), *_clear(desk, last, view.shown)]
            last = view.shown or last

    nothing = [gr.skip()] * (len(before) + len(Stand._fields))
    return until_overtaken(fill(), setting.check, nothing)


def _fill(view: View) -> list[Any]:
    """A view as values for the components of `Stand`, without the entries of the forms."""
    there, hidden = gr.update(visible=True), gr.update(visible="hidden")
    return [*view[:4], *((there, hidden) if view.sealed else (hidden, there)), *_tell(view)]


def _tell(view: View) -> list[Any]:
    """What a view says of earlier flags and of the reader's own."""
    return [gr.skip() if text is None else text for text in (view.earlier, view.own)]


def _clear(desk: Desk, last: Shown | None, now: Shown | None) -> list[Any]:
    """The forms' entries anew for another image or task: what was said of one image must not be saved with the next."""
    if now is None or (last and last[:2] == now[:2]):
        return [gr.skip()] * 7
    label = _offer(desk, now.task, last.task if last else "")
    own = last is not None and last.sha256 == now.sha256  # the comment is about this image, whatever the task
    return _empty_forms(desk, now.task, label, gr.skip() if own else "")


def _offer(desk: Desk, task: str, before: str = "") -> Any:
    """A task's labels, none chosen. To give the choices of `before` again would not take back a choice."""
    tasks = desk.room.panels.tasks
    same = before and tasks[before].labels == tasks[task].labels
    return None if same else gr.update(choices=offer_labels(tasks[task]), value=None)


def _empty_forms(desk: Desk, task: str, label: Any, comment: Any = "") -> list[Any]:
    return [label, CONFIDENCE, label, CONFIDENCE, REASONS[0], comment, task]


def _wire_reading(desk: Desk, controls: Controls, stand: Stand, file: gr.UploadButton, example: gr.Button) -> None:
    def renew_labels(task: str, offered: str) -> list:
        if task == offered:  # a list says so whenever it is left
            return [gr.skip()] * 3
        return [*[_offer(desk, task, offered)] * 2, task]

    def read_upload(
        path: str | None, shown: Shown | None, task: str, method: str, blinded: bool, request: gr.Request
    ) -> Iterator[list]:
        setting = _take_turn(desk, request, task, method, blinded)
        yield from _show(desk, desk.read_upload(path, setting), setting, shown)

    def read_again(shown: Shown | None, task: str, method: str, blinded: bool, request: gr.Request) -> Iterator[list]:
        if desk.shows(shown, task, request.session_hash or ""):
            yield [gr.skip()] * len(stand)
            return
        setting = _take_turn(desk, request, task, method, blinded or bool(shown and shown.blinded))
        yield from _show(desk, desk.read_again(shown, setting), setting, shown)

    def read_example(shown: Shown | None, method: str, blinded: bool, request: gr.Request) -> Iterator[list]:
        setting = _take_turn(desk, request, "phantom", method, blinded)
        yield from _show(desk, desk.read_example(setting), setting, shown, ["phantom"])

    def draw_maps(shown: Shown | None, task: str, method: str, blinded: bool, request: gr.Request) -> Iterator[list]:
        setting = _take_turn(desk, request, task, method, blinded, shown)
        views = ([view.consensus, view.cards, *_tell(view)] for view in desk.draw_maps(shown, setting))
        yield from until_overtaken(views, setting.check, [gr.skip()] * len(drawn))

    file.upload(read_upload, [file, stand.shown, *controls], list(stand), js=FROM_LINK, **READING)
    labels = [stand.own_label, stand.label, stand.offered]
    controls.task.input(renew_labels, [controls.task, stand.offered], labels, **QUIET).then(
        read_again, [stand.shown, *controls], list(stand), js=FROM_LINK, **READING
    )
    # not `input`, which a list gives twice for one choice by mouse
    drawn = [stand.consensus, stand.cards, stand.earlier, stand.status]
    controls.method.change(draw_maps, [stand.shown, *controls], drawn, js=FROM_LINK, **READING)
    sent = [stand.shown, controls.method, controls.blinded]
    example.click(read_example, sent, [controls.task, *stand], js=FROM_LINK, **READING)


def _wire_draft(desk: Desk, controls: Controls, stand: Stand) -> gr.Textbox:
    """Opens again what was in front of the reader before a reload; returns what holds it, for other events."""

    def reopen(text: str, shown: Shown | None, method: str, blinded: bool, request: gr.Request) -> Iterator[list]:
        draft = find_draft(desk.room, text, name_reader(request))
        if draft is None:
            yield [gr.skip()] * (1 + len(stand))
            return
        setting = _take_turn(desk, request, draft.task, method, blinded)
        views = desk.read_again(Shown(draft.task, draft.sha256, 0.0), setting)
        said = {
            "label": gr.update(choices=offer_labels(desk.room.panels.tasks[draft.task]), value=draft.label),
            "comment": draft.comment,
        }
        for values in _show(desk, views, setting, shown, [draft.task]):
            filled = dict(zip(("task", *Stand._fields), values, strict=True))
            if isinstance(filled["shown"], Shown):  # and not overtaken by another image, or gone
                filled |= said | {"viewer": filled["viewer"] | {"boxes": draft.boxes}}
                said = {}
            yield list(filled.values())

    draft = gr.Textbox(visible="hidden")
    sent = [draft, stand.shown, controls.method, controls.blinded]
    draft.change(reopen, sent, [controls.task, *stand], js=FROM_LINK, **READING)
    assert Context.root_block is not None, "pages are built within the app"
    Context.root_block.load(None, None, draft, js=TAKE, api_visibility="private")
    return draft


def _wire_link(desk: Desk, controls: Controls, stand: Stand, draft: gr.Textbox) -> None:
    def follow_link(task: str, draft: str, request: gr.Request) -> list[Any]:
        named = request.query_params.get("task") or task
        if named == task or find_draft(desk.room, draft, name_reader(request)):
            return [gr.skip()] * (1 + len(stand))
        try:
            choose("task", named, desk.room.panels.tasks)
        except TaskError as error:
            return [gr.skip(), *_fill(desk.empty(task, str(error))), *[gr.skip()] * 7]
        desk.room.panels.warm(named)
        return [named, *_fill(desk.empty(named)), *_empty_forms(desk, named, _offer(desk, named))]

    assert Context.root_block is not None, "pages are built within the app"
    script = f"(task, draft) => [task, ({TAKE})()]"
    Context.root_block.load(follow_link, [controls.task, draft], [controls.task, *stand], js=script, **QUIET)


def _wire_opening(desk: Desk, controls: Controls, stand: Stand, opened: gr.State) -> None:
    def open_case(case: Any, shown: Shown | None, method: str, blinded: bool, request: gr.Request) -> Iterator[list]:
        if case is None:
            yield [gr.skip()] * (1 + len(stand))
            return
        wanted = Shown(case.task, case.sha256, 0.0)
        setting = _take_turn(desk, request, case.task, method, blinded)
        yield from _show(desk, desk.read_again(wanted, setting), setting, shown, [case.task])

    sent = [opened, stand.shown, controls.method, controls.blinded]
    opened.change(open_case, sent, [controls.task, *stand], js=FROM_LINK, **READING)


def _wire_commit_form(desk: Desk, controls: Controls, stand: Stand, form: CommitForm) -> None:
    def lock(
        shown: Shown | None, label: str | None, confidence: float, method: str, request: gr.Request
    ) -> Iterator[list]:
        setting = _take_turn(desk, request, shown.task if shown else "", method, True)
        try:
            yield from _show(desk, desk.commit(shown, label, confidence / 100, setting), setting, shown)
        except SAYING as error:
            said = cards.render_error(str(error), "Not locked.")
            yield [said if part is stand.status else gr.skip() for part in stand]

    asked = [stand.shown, form.label, form.confidence, controls.method]
    form.save.click(lock, asked, list(stand), **READING)
