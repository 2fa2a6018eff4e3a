"""Flags as they are shown: escaped, and by words as well as colours."""

import json
from itertools import combinations

import pytest

from reading_room import agreements, review, review_view
from reading_room.agreements import Kappa, Switch
from tests.flag_samples import IMAGES, TASK, add, opinion
from xray_models import flag_record
from xray_models import flags as ledgers


def test_no_ledger_is_no_flag(tmp_path):
    assert review.load_flags(tmp_path / "none").empty
    assert "No flag" in review_view.render_flags(review.load_flags(tmp_path / "none"), 0)


def test_texts_from_outside_are_escaped(ledger, monkeypatch):
    bad = "<img src=x onerror=alert(1)>"
    with monkeypatch.context() as patch:
        patch.setattr(flag_record, "_is_box", lambda box: True)  # the row of another program
        patch.setattr(ledgers, "check_boxes", lambda *_: None)
        boxes = ({"x": bad}, {"x": 1, "y": 2, "width": 3, "height": 4})
        add(ledger, IMAGES[0], "Normal", bad, comment=bad, regions=boxes)
    add(ledger, IMAGES[0], "Nodule", "CD")
    flags = review.load_flags(ledger.root)
    row = flags[flags["reader"] == bad].iloc[0].to_dict()
    html = review_view.render_flags(flags, 0) + review_view.render_detail(row, IMAGES[0], flags)
    assert bad not in html and "&lt;img src=x" in html
    assert html.count("<rect ") == 1 and 'viewBox="0 0 64 64"' in html
    assert "All that was said of this image" in html
    assert "not in the ledger’s folder" in review_view.render_detail(row, None, flags)


@pytest.mark.parametrize("edit", ["garbled", "[1, 2]", '{"m": "Normal", "x": {"label": 3}}', "NaN", "0,5"])
def test_cells_that_a_spreadsheet_changed_are_left_out_of_what_is_shown(ledger, edit):
    add(ledger, IMAGES[0], "Normal", opinions={"m": opinion("Nodule")}, disagreement=0.5, seconds=3.0)
    add(ledger, IMAGES[1], "Nodule", "CD", opinions={"m": opinion("Nodule")}, seconds=4.0)
    flags = review.load_flags(ledger.root)
    changed = ["opinions", "regions", "disagreement", "confidence", "seconds"]
    flags.loc[flags["corrected_label"] == "Normal", changed] = edit
    row = flags[flags["corrected_label"] == "Normal"].iloc[0].to_dict()
    html = review_view.render_flags(flags, 0) + review_view.render_detail(row, IMAGES[0], flags)
    assert (
        "No model had answered." in html and "not said how sure" in html and "Took" not in html and "<rect" not in html
    )
    assert list(agreements.gather_labels(flags, "phantom")["m"].dropna()) == ["Nodule"]
    text = review.export_json(flags)
    kept = {record["corrected_label"]: record["seconds"] for record in json.loads(text)}
    assert kept["Nodule"] == 4.0 and kept["Normal"] in (edit, json.loads(edit) if edit[0] in "[{" else edit)
    assert ": NaN" not in text


def test_status_is_a_word_and_a_sign_not_a_colour_alone(ledger):
    review.decide(ledger, TASK, add(ledger, IMAGES[0], "Normal"), "rejected", "Chief")
    html = review_view.render_flags(review.load_flags(ledger.root), 0)
    assert 'class="sr-mark sr-mark-bad">rejected<' in html and 'by <bdi translate="no">Chief<' in html


def test_the_shown_flag_says_whose_it_is_when_and_what_became_of_it(ledger):
    flag_id = add(ledger, IMAGES[0], "Normal", "Ann", seconds=3725.0, created_at="2026-11-13T23:59:59.000000+00:00")
    review.decide(ledger, TASK, flag_id, "rejected", "Chief", "blurred")
    flags = review.load_flags(ledger.root)
    html = review_view.render_detail(review.find_flag(flags, flag_id), IMAGES[0], flags, TASK.title)
    assert "Flagged by" in html and ">Ann</bdi>" in html and TASK.title in html and "62 min" in html
    assert '<span class="sr-whole">2026-11-13</span> 23:59</time> UTC' in html
    assert "rejected" in html[html.index("Status") : html.index("Flagged as")] and "by <bdi" in html


def test_a_decision_says_what_it_decides_and_nothing_that_only_its_flag_said(ledger):
    flag_id = add(ledger, IMAGES[0], "Normal", "Ann", reason="poor quality")
    review.decide(ledger, TASK, flag_id, "accepted", "Chief", "sharp enough")
    flags = review.load_flags(ledger.root)
    html = review_view.render_detail(flags.iloc[0].to_dict(), IMAGES[0], flags)
    facts = html[: html.index("</dl>")]
    assert "Decided by" in facts and ">Ann</bdi>" in facts and flag_id in facts and "sharp enough" in facts
    assert "sure" not in facts and "poor quality" not in facts


def test_who_took_a_flag_back_did_not_reject_it(ledger):
    flag_id = add(ledger, IMAGES[0], "Normal")
    add(ledger, IMAGES[0], "Normal", reason=flag_record.WITHDRAWN, status="rejected", decides=flag_id)
    html = review_view.render_flags(review.load_flags(ledger.root, withdrawn=True), 0)
    assert html.count("sr-mark-back") == 2 and "rejected" not in html


def test_flags_are_counted_apart_from_decisions_and_tasks_have_their_titles(ledger):
    ids = [add(ledger, image, "Normal") for image in IMAGES[:2]]
    review.decide(ledger, TASK, ids[0], "accepted", "Chief")
    html = review_view.render_flags(review.load_flags(ledger.root), 0, "", {"phantom": TASK.title})
    assert "<caption>2 flags and 1 decision, newest first</caption>" in html
    assert html.count(f">{TASK.title}</small>") == 3


def test_one_image_is_not_said_to_be_several(ledger):
    add(ledger, IMAGES[0], "Normal")
    html = review_view.render_retraining(review.load_flags(ledger.root), ["train"])
    assert "1 image gets the label" in html and "it counts until it is rejected" in html


def test_the_pairs_of_many_raters_are_folded_away_and_their_plot_keeps_a_size():
    few, many = (
        review_view.render_agreement([Kappa(*pair, 5, 0.5, 0.1, 0.9) for pair in combinations(names, 2)], names, [])
        for names in ("ab", "abcdefghi")
    )
    assert "<details>" not in few and "--raters: 2" in few
    assert "The figures of all 36 pairs" in many and "sr-many" in many


def test_a_readers_name_is_no_word_of_the_pages():
    """One who is called as a label is called so in every language."""
    switches = [Switch(name, kind, 0, 1) for name in ("all readers", "Normal") for kind in (True, False)]
    html = review_view.render_switches(switches)
    assert '<bdi translate="no">Normal</bdi>' in html and ">all readers<" in html
