"""The review page, built and asked."""

import dataclasses
from types import SimpleNamespace

import gradio as gr
import pytest

from reading_room import review
from reading_room.review_page import build_review_page
from reading_room.room import Room
from tests.flag_samples import IMAGES, TASK, add
from xray_models.flags import Flag
from xray_models.tasks import TaskError


def test_a_flag_of_a_task_that_is_gone_is_shown_and_not_decided(tmp_path):
    room = Room(tmp_path)
    gone = dataclasses.replace(TASK, name="chest")
    flag = Flag("AB", "chest", "Nodule", IMAGES[0].sha256)
    flag_id = room.ledger.append(flag, IMAGES[0], gone)
    with gr.Blocks() as app:
        build_review_page(room, gr.Checkbox(), lambda opened: None)
    show = next(fn.fn for fn in app.fns.values() if fn.name == "show")
    html, _, labels = show(flag_id, 0, False)
    assert "Nodule" in html and labels.choices == [] and "Open in the viewer" not in html
    for work in (lambda: review.answer(room, flag_id, "accepted", "Chief"), lambda: settle(room, flag_id)):
        with pytest.raises(TaskError, match="Unknown task: 'chest'"):
            work()


def settle(room, flag_id):
    return review.settle(room, flag_id, "Nodule", "Chief")


def test_the_page_stands_in_any_blocks_and_is_closed_where_readers_are_blinded(tmp_path):
    room = Room(tmp_path / "flags")
    add(room.ledger, IMAGES[0], "Normal")
    with gr.Blocks() as app:
        build_review_page(room, gr.Checkbox(), lambda opened: None)
    assert all(fn.api_visibility == "private" for fn in app.fns.values())
    with gr.Blocks() as app:
        build_review_page(SimpleNamespace(blinded=True), gr.Checkbox(), lambda opened: None)
    assert not app.fns


def test_a_flagged_image_is_opened_in_the_viewer_as_often_as_it_is_asked_for(tmp_path):
    room, opened = Room(tmp_path), []
    flag_id = add(room.ledger, IMAGES[0], "Normal", source_name_hash="a" * 16)
    with gr.Blocks() as app:
        build_review_page(room, gr.Checkbox(), opened.append)
    show, reopen = (next(fn.fn for fn in app.fns.values() if fn.name == name) for name in ("show", "offer_case"))
    assert f'data-action="open" data-key="{flag_id}"' in show(flag_id, 0, False)[0]
    asked = SimpleNamespace(key=flag_id)
    first, said = reopen(None, asked)
    assert (first.task, first.sha256, said) == ("phantom", IMAGES[0].sha256, "")
    case = room.cases.get(first.task, first.sha256)
    assert (case.image.pixels == IMAGES[0].pixels).all() and case.name_hash == "a" * 16
    assert reopen(first, asked)[0] != first
    next(tmp_path.glob("*/*.png")).unlink()
    kept, said = reopen(first, asked)
    assert kept == gr.skip() and "Not opened." in said and "not in the ledger" in said
    assert len(opened) == 1


def test_what_came_of_a_decision_is_said_inside_its_form_which_stays_in_sight(tmp_path):
    with gr.Blocks() as app:
        build_review_page(Room(tmp_path), gr.Checkbox(), lambda opened: None)
    block = next(block for block in app.blocks.values() if block.elem_id == "review-message")
    above = []
    while block := block.parent:
        above += block.elem_classes or []
    assert "sr-form" in above


def test_what_was_decided_is_said_and_what_retraining_would_change_drawn_anew(tmp_path):
    room = Room(tmp_path)
    flag_id, other = (add(room.ledger, image, "Normal") for image in IMAGES[:2])
    with gr.Blocks() as app:
        build_review_page(room, gr.Checkbox(), lambda opened: None)
    by_name = {fn.name: fn for fn in app.fns.values()}
    request = gr.Request(session_hash="s")
    done = by_name["settle"].fn(f"{flag_id} open", "Lung_Opacity", "Chief", "", 0, request)[0]
    assert "Unknown label" in done
    done = by_name["settle"].fn(f"{flag_id} open", "Nodule", "Chief", "", 0, request)[0]
    assert 'role="status">Settled as <b>Nodule</b> · 2 rows' in done
    accept, reject = (fn.fn for fn in app.fns.values() if fn.name == "decide")
    assert 'role="status">Accepted · ' in accept(other, "Chief", "", 0, request)[0]
    assert 'role="status">Rejected · ' in reject(other, "Chief", "", 0, request)[0]
    written = by_name["settle"].outputs[2]
    drawing = [fn for fn in app.fns.values() if (written._id, "change") in fn.targets]
    assert "retraining" in [block.elem_id for fn in drawing for block in fn.outputs]


def test_where_nobody_has_flagged_anything_it_says_where_flags_come_from(tmp_path):
    room = Room(tmp_path)
    with gr.Blocks() as app:
        build_review_page(room, gr.Checkbox(), lambda opened: None)
    draw = next(fn.fn for fn in app.fns.values() if fn.name == "draw" and len(fn.inputs) == 8)
    assert "There is no flag yet." in draw("", "AB", "", "", 0, "", 0, False)[0]
    add(room.ledger, IMAGES[0], "Normal", "CD")
    assert "No flag fits this filter." in draw("", "AB", "", "", 0, "", 0, False)[0]


def test_from_flag_to_flag_of_the_list_that_the_filter_leaves(tmp_path):
    room = Room(tmp_path)
    ids = [add(room.ledger, image, "Normal", reader) for image, reader in zip(IMAGES, ("AB", "CD", "AB"), strict=True)]
    with gr.Blocks() as app:
        build_review_page(room, gr.Checkbox(), lambda opened: None)
    newer, older = (fn.fn for fn in app.fns.values() if fn.name == "go")
    assert older("", "AB", "", "", ids[2])[:2] == [ids[0], 0]
    assert "There is no newer flag in this list." in newer("", "AB", "", "", ids[2])[2]


def test_the_flags_are_drawn_anew_whenever_their_page_is_chosen(tmp_path):
    with gr.Blocks() as app, gr.Tabs(), gr.Tab("Review") as tab:
        build_review_page(Room(tmp_path), gr.Checkbox(), lambda opened: None)(tab)
    events = [fn for fn in app.fns.values() if (tab._id, "select") in fn.targets]
    assert len(events) == 1 and events[0].fn(3) == 4
