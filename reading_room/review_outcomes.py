"""Below the flags: how far readers and models agree, what goes out, and what retraining would change.

Layout and wiring only.
"""

from __future__ import annotations

from html import escape

import gradio as gr

from reading_room import agreements, relabels, review, review_view
from reading_room.cards import title_of
from reading_room.room import Room
from reading_room.wiring import FROM_LINK, QUIET, download_as

_AGREEMENT_NOTE = (
    '<p class="sr-quiet">Only flagged images count, and images are flagged because something seemed wrong: expect less '
    "agreement here than on all images. Intervals: images drawn again with replacement, 2000 times. No spread: every "
    "draw gives the same figure, as a few images may; that is no certainty. A reader who had seen the panel’s word "
    "before giving a label is not independent of it.</p>"
)
_RETRAINING_NOTE = (
    '<p class="sr-quiet">The first command replaces the model’s weights, so copy its folder first. Images of the test '
    "split keep their labels: the figures of the second compare with those on the models page.</p>"
)
_EXPORT_NOTE = (
    '<p class="sr-quiet">flags.csv opens in a spreadsheet: cells that could run as formulas start with an apostrophe. '
    "flags.json has opinions and regions as they are. relabels.csv corrects images of "
    "the test split, too, and is for <code>train --labels</code>.</p>"
)


def build_outcomes(room: Room, tasks: list, written: gr.State, blinded: gr.Checkbox) -> gr.Column:
    """Builds the three folds inside the current `gr.Blocks`.

    Args:
        room: whose ledger they tell of.
        tasks: title and name of each task.
        written: changes with every decision.
        blinded: the switch for blinded reading; whoever shows the folds hides them while it is on.

    Returns:
        What holds them, to be hidden as a whole: they are full of opinions, as the flags are.
    """
    known = review.load_flags(room.ledger.root)["task"]
    first = str(known.iloc[0]) if len(known) and known.iloc[0] in room.panels.tasks else room.panels.default()
    with gr.Column(elem_id="review-more") as folds:
        with gr.Accordion("Agreement between readers and models", open=False, elem_id="review-agreement"):
            _build_agreement(room, tasks, first)
        with gr.Accordion("Export", open=False, elem_id="review-out"):
            _build_exports(room, tasks, first)
        with gr.Accordion("What would retraining change?", open=False, elem_id="review-retraining"):
            _build_retraining(room, tasks, first, (written, blinded))
    return folds


def _build_agreement(room: Room, tasks: list, first: str) -> None:
    with gr.Row(elem_classes="sr-filters"):
        task = gr.Dropdown(tasks, value=first, label="Task", elem_id="agreement-task", filterable=False)
        words = [("their last word", False), ("before the panel spoke (blinded readings)", True)]
        early = gr.Radio(words, value=False, label="Readers’ labels", elem_id="agreement-early")
        draw = gr.Button("Compare", elem_id="agreement-draw", size="sm")
    result = gr.HTML("", elem_id="agreement")
    gr.HTML(_AGREEMENT_NOTE)

    def compare(task: str, early: bool) -> str:
        flags, known = review.load_flags(room.ledger.root), room.panels.tasks[task]
        said = agreements.gather_labels(flags, task, early)
        kappas = agreements.compare_raters(said, known.labels)
        switches = agreements.count_switches(flags, review.accept_labels(flags, task), task)
        return review_view.render_agreement(kappas, list(said.columns), switches)

    gr.on([draw.click, task.input, early.input], compare, [task, early], result, **QUIET)


def _build_exports(room: Room, tasks: list, first: str) -> None:
    gr.HTML(_EXPORT_NOTE)
    with gr.Row(elem_classes="sr-filters"):
        table = gr.Button("flags.csv", elem_id="out-csv", size="sm")
        plain = gr.Button("flags.json", elem_id="out-json", size="sm")
        task = gr.Dropdown(tasks, value=first, label="Task of the relabels", elem_id="out-task", filterable=False)
        lines = gr.Button("relabels.csv", elem_id="out-relabels", size="sm")
    message, text = gr.HTML("", elem_id="out-message"), gr.Textbox(visible="hidden")

    def write_relabels(name: str) -> tuple[str, str]:
        root = room.ledger.root
        text, said = relabels.write_relabels(review.load_flags(root), room.panels.tasks[name], root)
        return text, f'<p class="sr-quiet" role="status">{escape(said)}</p>'

    def write_json() -> str:
        return review.export_json(review.load_flags(room.ledger.root))

    for button, work, outputs, name, kind in (
        (table, room.export, text, "flags.csv", "text/csv"),
        (plain, write_json, text, "flags.json", "application/json"),
        (lines, write_relabels, [text, message], "relabels.csv", "text/csv"),
    ):
        script = download_as(name, kind)
        given = task if button is lines else None
        button.click(work, given, outputs, **QUIET).success(None, text, None, js=script, api_visibility="private")


def _build_retraining(room: Room, tasks: list, first: str, states: tuple[gr.State, gr.Checkbox]) -> None:
    def list_names(task: str) -> list[tuple[str, str]]:
        return [(title_of(ref.name), ref.name) for ref in room.panels.tasks[task].models]

    def draw(task: str, model: str | None, _: int, blinded: bool) -> str:
        known = room.panels.tasks[task]
        if blinded or not model or model not in dict(list_names(task)).values():
            return ""
        commands = relabels.list_commands(known, model, room.ledger.root, relabels.find_data(known))
        standing = relabels.list_relabels(review.load_flags(room.ledger.root), task)
        return review_view.render_retraining(standing, commands)

    with gr.Row(elem_classes="sr-filters"):
        task = gr.Dropdown(tasks, value=first, label="Task", elem_id="retraining-task", filterable=False)
        names = list_names(first)
        model = gr.Dropdown(names, value=names[0][1] if names else None, label="Model", elem_id="retraining-model")
    result = gr.HTML("", elem_id="retraining")
    gr.HTML(_RETRAINING_NOTE)

    def show_models(task: str) -> dict:
        names = list_names(task)
        return gr.update(choices=names, value=names[0][1] if names else None)

    task.input(show_models, task, model, **QUIET)
    gr.on(None, draw, [task, model, *states], result, js=FROM_LINK, **QUIET)
