"""The forms beside the viewer: the reader's own reading, before the panel's, and the flag. Layout and wiring only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import gradio as gr

from reading_room import flagging
from reading_room.blinding import SealedError
from reading_room.desk import SAYING, Desk, Shown
from reading_room.readers import name_reader, show_login, sign
from reading_room.room import Room
from reading_room.wiring import FROM_LINK, QUIET, download_as
from xray_models.flags import REASONS
from xray_models.tasks import Task

if TYPE_CHECKING:
    from reading_room.syncing import HubCopy

_IN_TURN: dict[str, Any] = {**QUIET, "concurrency_id": "flags"}  # an undo waits for the flag before it
CONFIDENCE = 80  # per cent; where the sliders stand for a new image
_BYTE_ORDER_MARK = "\ufeff"  # without it, spreadsheets on Windows take UTF-8 for something else
_PAUSE = 10.0  # seconds between two looks whether what was saved is on the Hub
_STATUS = "document.getElementById('flag-status')"
_WITH_REGIONS = f"""(...sent) => {{
  {_STATUS}?.setAttribute("aria-busy", "true"); // what it says is of what was asked before
  return [...sent.slice(0, -1), globalThis.secondRead?.regions ?? ""];
}}"""
_ANSWERED = f"() => {{ {_STATUS}?.removeAttribute('aria-busy'); }}"


class FlagForm(NamedTuple):
    """The form for a flag: what the reader thinks instead, and the ledger's download."""

    group: gr.Group
    label: gr.Radio
    confidence: gr.Slider
    reason: gr.Dropdown
    reader: gr.Textbox
    comment: gr.Textbox
    save: gr.Button
    download: gr.Button
    table: gr.Textbox
    boxes: gr.Textbox


class Answer(NamedTuple):
    """What is said of the reader's flag, with the way back; `notice` is what was said last, as the server knows it."""

    status: gr.HTML
    undo: gr.Button
    last: gr.State
    notice: gr.State


class CommitForm(NamedTuple):
    """The form for the reader's own reading, before the panel's."""

    group: gr.Group
    label: gr.Radio
    confidence: gr.Slider
    save: gr.Button


def build_commit_form(task: Task) -> CommitForm:
    """Adds the form for the reader's own reading; hidden until an image is read blinded."""
    with gr.Group(elem_classes="sr-form sr-commit", visible="hidden") as group:
        label = gr.Radio(offer_labels(task), label="Your own reading first: the label is", elem_id="commit-label")
        with gr.Row(equal_height=True):
            confidence = gr.Slider(
                0, 100, CONFIDENCE, step=5, label="Your confidence, %", elem_id="commit-confidence", scale=3
            )
            save = gr.Button("Lock my reading", variant="primary", elem_id="commit-save", scale=1, min_width=150)
    return CommitForm(group, label, confidence, save)


def build_flag_form(room: Room, task: str) -> FlagForm:
    """Adds the flag form, with the labels of a task."""
    with gr.Group(elem_classes="sr-form") as group:
        label = gr.Radio(offer_labels(room.panels.tasks[task]), label="Flag: the label should be", elem_id="flag-label")
        with gr.Row(equal_height=True):
            confidence = gr.Slider(
                0, 100, CONFIDENCE, step=5, label="Confidence, %", elem_id="flag-confidence", scale=3
            )
            reason = gr.Dropdown(
                list(REASONS), value=REASONS[0], label="Reason", elem_id="flag-reason", scale=2, min_width=130
            )
            reader = gr.Textbox(
                label="Reader",
                placeholder="name or initials",
                elem_id="flag-reader",
                max_lines=1,
                max_length=80,
                scale=2,
                min_width=110,
            )
        with gr.Row(equal_height=True):
            comment = gr.Textbox(
                label="Comment (nothing of the patient)",
                elem_id="flag-comment",
                max_lines=3,
                max_length=4000,
                scale=4,
                min_width=180,
            )
            save = gr.Button("Save flag", variant="primary", elem_id="flag-save", scale=1, min_width=96)
            download = gr.Button("flags.csv", elem_id="flag-download", scale=1, min_width=88, visible=not room.blinded)
    table, boxes = (gr.Textbox(visible="hidden") for _ in range(2))
    show_login(reader)
    return FlagForm(group, label, confidence, reason, reader, comment, save, download, table, boxes)


def build_answer() -> Answer:
    """Adds the place where it is said what became of a flag; the button shows where there is one to undo."""
    last, notice = gr.State(""), gr.State("")
    with gr.Row(elem_classes="sr-answer"):
        status = gr.HTML("", elem_id="flag-status")
        undo = gr.Button("Undo", elem_id="flag-undo", size="sm", min_width=64)
    return Answer(status, undo, last, notice)


def offer_labels(task: Task) -> list[tuple[str, str]]:
    """Labels as people read them, and as they are stored."""
    return [(label.replace("_", " "), label) for label in task.labels]


def wire_flag_form(
    desk: Desk, form: FlagForm, shown: gr.State, answer: Answer, earlier: gr.HTML, blinded: gr.Checkbox
) -> None:
    """Joins the flag form to the ledger: save by button or Enter, undo, and the table as a download."""

    def save_flag(  # noqa: PLR0913 - gradio passes one argument a component
        shown: Shown | None,
        label: str | None,
        confidence: float,
        reason: str,
        reader: str,
        comment: str,
        boxes: str,
        request: gr.Request,
    ) -> list[Any]:
        fields = {
            "corrected_label": label,
            "confidence": confidence / 100,
            "reason": reason,
            "reader": sign(request, reader),
            "comment": comment,
        }
        who = name_reader(request)
        said, flag_id = flagging.save_flag(desk, shown, fields, boxes, who)
        if not flag_id:
            return [said, said, *[gr.skip()] * 4]
        return [said, said, flagging.show_earlier(desk, shown, who), flag_id, None, ""]

    def undo_flag(shown: Shown | None, last: str, request: gr.Request) -> tuple[str, str, str]:
        who = name_reader(request)
        said = flagging.undo_flag(desk, shown, last, who)
        return said, said, flagging.show_earlier(desk, shown, who)

    def export(blinded: bool) -> str:
        try:
            if blinded:
                raise SealedError("The table of flags holds opinions. It is given out while you do not read blinded.")
            return _BYTE_ORDER_MARK + desk.room.export()
        except SAYING as error:
            raise gr.Error(str(error), print_exception=False) from error

    sent = [shown, form.label, form.confidence, form.reason, form.reader, form.comment, form.boxes]
    triggers = [form.save.click, form.reader.submit, form.comment.submit]
    said = [answer.status, answer.notice, earlier]
    filled = [*said, answer.last, form.label, form.comment]
    saved = gr.on(triggers, save_flag, sent, filled, js=_WITH_REGIONS, **_IN_TURN)
    saved.then(None, None, None, js=_ANSWERED, api_visibility="private")
    undone = answer.undo.click(undo_flag, [shown, answer.last], said, **_IN_TURN)
    if desk.room.hub_copy:
        wire_following(desk.room.hub_copy, answer.status, answer.notice, [saved, undone])
    form.download.click(export, blinded, form.table, js=FROM_LINK, **QUIET).success(
        None, form.table, None, js=download_as("flags.csv", "text/csv"), api_visibility="private"
    )


def wire_following(copy: HubCopy, status: gr.HTML, notice: gr.State, events: list[Any]) -> None:
    """Has the last notice say when its row is on the Hub, too; looks only while one waits and is shown.

    Args:
        copy: the ledger's.
        status: where notices are shown.
        notice: the last of them.
        events: those that write one.
    """
    timer = gr.Timer(_PAUSE, active=False)

    def follow(notice: str, shown: str) -> tuple[Any, Any, gr.Timer]:
        """`shown` is what the page has by now: another image clears it."""
        if notice != shown:
            return gr.skip(), gr.skip(), gr.Timer(active=False)
        now = copy.renew(notice)
        said = gr.skip() if now == notice else now
        return said, said, gr.Timer(active=copy.awaits(now))

    for event in events:
        event.then(lambda notice: gr.Timer(active=copy.awaits(notice)), notice, timer, **QUIET)
    timer.tick(follow, [notice, status], [status, notice, timer], **_IN_TURN)
