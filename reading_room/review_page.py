"""The review page: every flag with its image and the opinions of then; decisions, agreement, and what goes out.

Layout and wiring only.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import gradio as gr

from reading_room import review, review_view, tables
from reading_room.cards import plain, render_error
from reading_room.desk import SAYING
from reading_room.forms import wire_following
from reading_room.intake import Case
from reading_room.readers import show_login, sign
from reading_room.review import Wanted
from reading_room.review_outcomes import build_outcomes
from reading_room.room import Room
from reading_room.wiring import FROM_LINK, QUIET, Reopened
from xray_models import flags as ledgers
from xray_models.fields import choose

_SEALED = '<p class="sr-none">Flags are not shown while you read blinded: they hold opinions.</p>'
_NOTHING = '<p class="sr-none">Look at a flag: its image, and the opinions as they were then, appear here.</p>'
_BELOW = "getComputedStyle(document.querySelector('.sr-beside')).position === 'static'"  # as `pages.css` decides
_SCROLL = """
let last = '';
watch('value', () => {
  const shown = element.querySelector('[data-flag]')?.dataset.flag ?? '';
  if (BELOW && shown && shown !== last) element.scrollIntoView({behavior: 'auto'});
  else setTimeout(() => document.querySelector('#review-message [role]')?.scrollIntoView({block: 'nearest'}));
  last = shown;
});
""".replace("BELOW", _BELOW)  # only to another flag: what decided one, and what came of it, stay in sight
_IN_SIGHT = (
    "watch('value', () => setTimeout(() => element.querySelector('[role]')?.scrollIntoView({block: 'nearest'})));"
)
_WHAT_IS_SHOWN = """(_, ...sent) => {
  const {flag, verdict} = document.querySelector('#review-detail [data-flag]')?.dataset ?? {};
  return [`${flag ?? ''} ${verdict ?? ''}`, ...sent];
}"""  # and not what is chosen: that can be another flag by the time that a decision has its turn
_BACK_TO_IT = f"() => {{ if ({_BELOW}) document.querySelector('#review-detail')?.scrollIntoView(); }}"


class _Filters(NamedTuple):
    task: gr.Dropdown
    reader: gr.Dropdown
    label: gr.Dropdown
    status: gr.Dropdown


class _Verdict(NamedTuple):
    """The form with which a flag is decided."""

    reader: gr.Textbox
    comment: gr.Textbox
    accept: gr.Button
    reject: gr.Button
    label: gr.Radio
    settle: gr.Button
    message: gr.HTML
    newer: gr.Button
    older: gr.Button


def build_review_page(
    room: Room, blinded: gr.Checkbox, on_open: Callable[[gr.State], None]
) -> Callable[[gr.Tab], object] | None:
    """Builds the page inside the current `gr.Blocks`.

    Args:
        room: whose ledger is shown, and gets the decisions.
        blinded: the switch for blinded reading; no flag is shown while it is on.
        on_open: called once, now, with a state that holds a `Reopened` whenever the reader opens a flagged image; it
            attaches to the state's `change` what shows the case.

    Returns:
        What draws the flags anew whenever the page's tab is chosen; None where none are shown.
    """
    if room.blinded:
        gr.HTML(_SEALED)
        return None
    chosen, number, written = gr.State(""), gr.State(0), gr.State(0)
    tasks = [("All", ""), *room.panels.offer()]
    statuses = [("All", ""), *((name.capitalize(), name) for name in review.STATUSES)]
    with gr.Row(elem_classes="sr-filters") as controls:
        filters = _Filters(
            gr.Dropdown(tasks, value="", label="Task", elem_id="review-task", filterable=False, min_width=150),
            gr.Dropdown([("All", "")], value="", label="Reader", elem_id="review-reader", min_width=150),
            gr.Dropdown([("All", "")], value="", label="Flagged as", elem_id="review-label", min_width=150),
            gr.Dropdown(statuses, value="", label="Status", elem_id="review-status", filterable=False, min_width=150),
        )
        fresh = gr.Button("Load anew", elem_id="review-fresh", size="sm", min_width=110)
    with gr.Row(elem_classes="sr-review"):
        with gr.Column(scale=6, min_width=320):
            table = gr.HTML("", elem_id="review-table", js_on_load=tables.ON_LOAD)
            with gr.Row(elem_classes="sr-pager"):
                before = gr.Button("Newer", elem_id="review-before", size="sm", min_width=110)
                place = gr.HTML("", elem_id="review-place")
                after = gr.Button("Older", elem_id="review-after", size="sm", min_width=110)
        with gr.Column(scale=5, min_width=320, elem_classes="sr-beside"):
            detail = gr.HTML(_NOTHING, elem_id="review-detail", js_on_load=tables.ON_LOAD + _SCROLL)
            form, verdict = _build_verdict()
    for button, step in ((before, -1), (after, 1)):
        button.click(_stepping(step), number, number, **QUIET).then(
            None, None, None, js=tables.bring_up("#review-table"), api_visibility="private"
        )
    gr.on([filter.input for filter in filters], lambda: 0, None, number, **QUIET)
    draw_anew: dict[str, Any] = {"fn": lambda count: count + 1, "inputs": written, "outputs": written, **QUIET}
    fresh.click(**draw_anew)
    _wire_detail(room, table, (chosen, written, blinded), (detail, form, verdict))
    _wire_opening(room, detail, verdict.message, on_open)
    _wire_verdict(room, verdict, written)
    _wire_steps(room, verdict, filters, (chosen, number))
    more = build_outcomes(room, tasks[1:], written, blinded)
    _wire_list(room, filters, (number, chosen, written, blinded), (table, place), (controls, more))
    return lambda tab: tab.select(**draw_anew)


def _stepping(step: int) -> Callable[[int], int]:
    return lambda page: max(0, page + step)  # too far is mended when the page is drawn


def _build_verdict() -> tuple[gr.Group, _Verdict]:
    with gr.Group(visible=False, elem_classes="sr-form") as form:  # no id: gradio would say it twice
        with gr.Row(equal_height=True):
            reader = gr.Textbox(
                label="You decide as",
                placeholder="name or initials",
                elem_id="review-me",
                max_lines=1,
                max_length=80,
                min_width=140,
            )
            comment = gr.Textbox(
                label="Why (nothing of the patient)",
                elem_id="review-why",
                max_lines=3,
                max_length=4000,
                scale=2,
                min_width=180,
            )
        with gr.Row(equal_height=True):
            accept = gr.Button("Accept the flag", variant="primary", elem_id="review-accept", min_width=130)
            reject = gr.Button("Reject the flag", elem_id="review-reject", min_width=130)
        with gr.Row(equal_height=True):
            label = gr.Radio([], label="Or settle the label between readers", elem_id="review-settled", scale=4)
            settle = gr.Button("Settle", elem_id="review-settle", min_width=130)
        message = gr.HTML("", elem_id="review-message", js_on_load=_IN_SIGHT)
        with gr.Row(equal_height=True):
            newer = gr.Button("Newer flag", elem_id="review-newer", size="sm", min_width=130)
            older = gr.Button("Older flag", elem_id="review-older", size="sm", min_width=130)
    show_login(reader)
    return form, _Verdict(reader, comment, accept, reject, label, settle, message, newer, older)


def _wire_list(room: Room, filters: _Filters, states: tuple, shown: tuple, open_only: tuple) -> None:
    """Draws the flags when the page is opened, and whenever a filter, the page, the choice or the ledger changes.

    `open_only`: the row of filters and the column below the list, which are not there while one reads blinded.
    """
    titles = {name: task.title for name, task in room.panels.tasks.items()}

    def draw(task: str, reader: str, label: str, status: str, page: int, chosen: str, _: int, blinded: bool) -> list:
        if blinded:
            return [_SEALED, "", page, gr.skip(), gr.skip(), gr.Row(visible=False), gr.Column(visible=False)]
        flags = review.load_flags(room.ledger.root, withdrawn=True)
        wanted = review.filter_flags(flags, Wanted(task, reader or "", label or "", status))
        page = tables.shift_page(page, 0, len(wanted), review_view.PAGE)
        readers = [("All", ""), *((name, name) for name in sorted(set(flags["reader"])))]
        labels = [("All", ""), *((n.replace("_", " "), n) for n in sorted(set(flags["corrected_label"])))]
        place = tables.render_place(page, review_view.PAGE, len(wanted))
        html = review_view.NO_FLAG if flags.empty else review_view.render_flags(wanted, page, chosen, titles)
        seen = gr.Row(visible=True), gr.Column(visible=True)
        return [html, place, page, gr.Dropdown(readers), gr.Dropdown(labels), *seen]

    outputs = [*shown, states[0], filters.reader, filters.label, *open_only]
    gr.on(None, draw, [*filters, *states], outputs, js=FROM_LINK, **QUIET)


def _wire_detail(room: Room, table: gr.HTML, states: tuple, outputs: tuple) -> None:
    chosen, written, blinded = states
    detail, form, verdict = outputs

    def show(flag_id: str, _: int, blinded: bool) -> list:
        if not flag_id or blinded:
            return ["" if blinded else _NOTHING, gr.Group(visible=False), gr.skip()]
        flags = review.load_flags(room.ledger.root, withdrawn=True)
        try:
            row = review.find_flag(flags, flag_id)
        except ledgers.FlagError as error:
            return [render_error(str(error), "Not shown."), gr.Group(visible=False), gr.skip()]
        same = (flags["image_sha256"] == row["image_sha256"]) & (flags["task"] == row["task"])
        task = room.panels.tasks.get(row["task"])  # none where the flag is older than the tasks of now
        labels = [(label.replace("_", " "), label) for label in (task.labels if task else ())]
        html = review_view.render_detail(row, review.show_image(row), flags[same], task.title if task else None)
        undecided = not row["decides"] and row["verdict"] != "withdrawn"
        return [html, gr.Group(visible=undecided), gr.Radio(labels, value=None)]

    def choose(event: gr.EventData) -> tuple[str, str, str]:
        return event.key, "", ""

    picked = table.click(choose, None, [chosen, verdict.message, verdict.comment], **QUIET)
    picked.then(None, None, None, js=_BACK_TO_IT, api_visibility="private")  # also to the flag that is shown already
    events = [chosen.change, written.change, blinded.change]
    gr.on(events, show, [*states], [detail, form, verdict.label], js=FROM_LINK, **QUIET)


def _wire_opening(room: Room, detail: gr.HTML, message: gr.HTML, on_open: Callable[[gr.State], None]) -> None:
    def offer_case(last: Reopened | None, event: gr.EventData) -> tuple:
        try:
            row = review.find_flag(review.load_flags(room.ledger.root, withdrawn=True), event.key)
            choose("task", row["task"], room.panels.tasks)
            case = Case(review.open_image(row), row["source_name_hash"])
        except SAYING as error:
            return gr.skip(), render_error(str(error), "Not opened.")
        room.cases.offer(row["task"], case)
        return Reopened(row["task"], case.image.sha256, last.times + 1 if last else 1), ""

    opened = gr.State(None)
    detail.click(offer_case, opened, [opened, message], **QUIET)
    on_open(opened)


def _wire_verdict(room: Room, form: _Verdict, written: gr.State) -> None:
    def settle(shown: str, label: str | None, reader: str, comment: str, count: int, request: gr.Request) -> tuple:
        (flag_id, _, seen), me = shown.partition(" "), sign(request, reader)
        if not label:
            said = render_error("Choose the label that the image shall have.", "Not saved:")
            return said, said, gr.skip(), gr.skip()
        done = f"Settled as <b>{plain(label)}</b>"
        return _say(room, lambda: review.settle(room, flag_id, label, me, comment, seen), done, count)

    def deciding(verdict: str) -> Callable:
        def decide(shown: str, reader: str, comment: str, count: int, request: gr.Request) -> tuple:
            (flag_id, _, seen), me = shown.partition(" "), sign(request, reader)
            work = partial(review.answer, room, flag_id, verdict, me, comment, seen)
            return _say(room, work, verdict.capitalize(), count)

        return decide

    notice, shown = gr.State(""), gr.Textbox(visible="hidden")
    outputs = [form.message, notice, written, form.comment]
    sent = [form.reader, form.comment, written]
    events = [
        button.click(deciding(verdict), [shown, *sent], outputs, js=_WHAT_IS_SHOWN, **QUIET)
        for button, verdict in ((form.accept, "accepted"), (form.reject, "rejected"))
    ]
    events.append(form.settle.click(settle, [shown, form.label, *sent], outputs, js=_WHAT_IS_SHOWN, **QUIET))
    if room.hub_copy:
        wire_following(room.hub_copy, form.message, notice, events)


def _wire_steps(room: Room, form: _Verdict, filters: _Filters, states: tuple) -> None:
    """From flag to flag of the list, without going back to it."""

    def stepping(step: int, name: str) -> Callable:
        def go(task: str, reader: str, label: str, status: str, chosen: str) -> list:
            flags = review.load_flags(room.ledger.root, withdrawn=True)
            wanted = review.filter_flags(flags, Wanted(task, reader or "", label or "", status))
            found, row = review.step_flag(flags, wanted, chosen, step)
            if not found:
                said = f'<p class="sr-back" role="status">There is no {name} flag in this list.</p>'
                return [gr.skip(), gr.skip(), said, gr.skip()]
            return [found, row // review_view.PAGE, "", ""]

        return go

    for button, step, name in ((form.newer, -1, "newer"), (form.older, 1, "older")):
        button.click(stepping(step, name), [*filters, states[0]], [*states, form.message, form.comment], **QUIET)


def _say(room: Room, work: Callable[[], list[str]], done: str, count: int) -> tuple:
    """Does what the reader decided; says so once it is on the disk, or why it is not. `done` is HTML."""
    try:
        made = work()
    except SAYING as error:
        said = render_error(str(error), "Not saved:")
        return said, said, gr.skip(), gr.skip()
    rows = f"{len(made)} rows" if len(made) > 1 else made[0]
    where = room.hub_copy.render(made[-1]) if room.hub_copy else ""
    said = f'<p class="sr-saved" role="status">{done} · {rows}{where}</p>'
    return said, said, count + 1, ""
