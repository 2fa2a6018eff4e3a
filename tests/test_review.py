"""Flags read back: decisions reach training as they are shown, agreement is what references say, and exports hold."""

import csv
import dataclasses
import io
import json
import shlex
from types import SimpleNamespace

import gradio as gr
import numpy as np
import pandas as pd
import pytest
from scipy.stats import bootstrap
from sklearn.metrics import cohen_kappa_score

from evaluation.agreement import cohen_kappa as judge_kappa
from reading_room import agreements, relabels, review, review_view
from reading_room.review import Wanted
from reading_room.review_page import build_review_page
from reading_room.room import Room
from xray_models import flags as ledgers
from xray_models import phantom, train
from xray_models.file_names import hash_name
from xray_models.flags import Flag, FlagError, Ledger
from xray_models.images import from_pixels
from xray_models.layouts import list_label_folders, relabel
from xray_models.relabels import apply_relabels
from xray_models.tasks import TaskError, load_task

TASK = load_task("phantom")
IMAGES = [from_pixels(phantom.draw_phantom("Nodule", seed, 64).pixels) for seed in range(3)]


@pytest.fixture
def ledger(tmp_path):
    return Ledger(tmp_path / "flags")


def add(ledger, image, label, reader="AB", **more):
    flag = Flag(reader=reader, task="phantom", corrected_label=label, image_sha256=image.sha256, **more)
    return ledger.append(flag, image, TASK)


def in_training(ledger):
    """What `train --flags` makes of the ledger: label by image."""
    rows = {"path": "a", "label": "", "official": "", "sha256": "0" * 64, "group": [0], "split": "train"}
    applied = apply_relabels(pd.DataFrame(rows), ledger.root, TASK).iloc[1:]
    return dict(zip(applied["sha256"], applied["label"], strict=True))


def shown(ledger):
    """What the page says that training gets."""
    standing = relabels.list_relabels(review.load_flags(ledger.root), "phantom")
    return dict(zip(standing["image_sha256"], standing["corrected_label"], strict=True))


# --- decisions ---


def test_a_decision_is_a_new_row_and_training_follows(ledger):
    flag_id = add(ledger, IMAGES[0], "Effusion", comment="mine")
    before = (ledger.folder / "metadata.csv").read_bytes()
    review.decide(ledger, TASK, flag_id, "rejected", "Chief", "no fluid")
    assert (ledger.folder / "metadata.csv").read_bytes().startswith(before)
    flags = review.load_flags(ledger.root)
    assert list(flags["verdict"]) == ["decision", "rejected"]
    assert list(flags["decided_by"]) == ["", "Chief"]
    assert flags.iloc[0]["decides"] == flag_id
    assert shown(ledger) == in_training(ledger) == {}


def test_a_rejection_takes_an_earlier_acceptance_with_it(ledger):
    flag_id = add(ledger, IMAGES[0], "Effusion")
    review.decide(ledger, TASK, flag_id, "accepted", "Chief")
    assert shown(ledger) == in_training(ledger) == {IMAGES[0].sha256: "Effusion"}
    assert len(review.decide(ledger, TASK, flag_id, "rejected", "Chief")) == 2
    assert shown(ledger) == in_training(ledger) == {}
    review.decide(ledger, TASK, flag_id, "accepted", "Chief")
    assert shown(ledger) == in_training(ledger) == {IMAGES[0].sha256: "Effusion"}


@pytest.mark.parametrize("label", ["Effusion", "Normal", "Consolidation"])
def test_a_settled_label_is_the_one_that_training_gets(ledger, label):
    add(ledger, IMAGES[0], "Effusion", "AB")
    add(ledger, IMAGES[0], "Normal", "CD")
    for settled in ("Normal", label, "Effusion", label):  # changing one's mind counts
        review.adjudicate(ledger, TASK, IMAGES[0].sha256, settled, "Chief")
        assert shown(ledger) == in_training(ledger) == {IMAGES[0].sha256: settled}
        assert review.accept_labels(review.load_flags(ledger.root), "phantom") == {IMAGES[0].sha256: settled}


def test_any_order_of_decisions_is_shown_as_training_takes_it(ledger):
    rng = np.random.default_rng(0)
    ids = [add(ledger, IMAGES[k % 3], TASK.labels[k % 4], f"R{k % 2}") for k in range(6)]
    for _ in range(25):
        verdict = rng.choice(["accepted", "rejected"])
        review.decide(ledger, TASK, ids[rng.integers(len(ids))], verdict, "Chief")
        assert shown(ledger) == in_training(ledger)


@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        (lambda led, i: review.decide(led, TASK, "flag-x", "accepted", "C"), FlagError, "not in the ledger"),
        (lambda led, i: review.decide(led, TASK, i, "open", "C"), TaskError, "Valid: accepted, rejected"),
        (lambda led, i: review.decide(led, TASK, i, "accepted", " "), FlagError, "name is empty"),
        (lambda led, i: review.adjudicate(led, TASK, "0" * 64, "Normal", "C"), FlagError, "Nobody flagged"),
        (lambda led, i: review.adjudicate(led, TASK, IMAGES[0].sha256, "x", "C"), TaskError, "Unknown label"),
        (lambda led, i: review.adjudicate(led, TASK, IMAGES[0].sha256, "Normal", ""), FlagError, "name is empty"),
    ],
)
def test_a_senseless_decision_is_refused_and_leaves_nothing(ledger, call, error, says):
    flag_id = add(ledger, IMAGES[0], "Effusion")
    with pytest.raises(error, match=says):
        call(ledger, flag_id)
    assert len(ledgers.read_flags(ledger.root)) == 1


def take_back(ledger, image, flag_id, label="Normal", reader="AB"):
    add(ledger, image, label, reader, decides=flag_id, status="rejected", reason="withdrawn")


def test_what_was_taken_back_is_neither_open_nor_a_disagreement(ledger):
    add(ledger, IMAGES[0], "Effusion", "CD", consensus_label="Normal")
    take_back(ledger, IMAGES[0], add(ledger, IMAGES[0], "Normal", "AB", consensus_label="Normal"))
    take_back(ledger, IMAGES[1], add(ledger, IMAGES[1], "Normal", "AB"))
    flags = review.load_flags(ledger.root)
    assert list(flags["reader"]) == ["CD"]
    assert len(review.filter_flags(flags, Wanted(status="open"))) == 1
    assert list(agreements.gather_labels(flags, "phantom").columns) == ["reader CD", "the panel"]
    assert review.list_readers(flags, "phantom") == {IMAGES[0].sha256: ["CD"]}
    assert shown(ledger) == in_training(ledger) == {IMAGES[0].sha256: "Effusion"}
    assert len(json.loads(review.export_json(flags))) == 1
    assert len(review.load_flags(ledger.root, withdrawn=True)) == 5


def test_what_was_taken_back_is_not_decided(ledger):
    flag_id = add(ledger, IMAGES[0], "Normal")
    take_back(ledger, IMAGES[0], flag_id)
    with pytest.raises(FlagError, match="took it back"):
        review.decide(ledger, TASK, flag_id, "accepted", "C")
    with pytest.raises(FlagError, match="Nobody flagged"):
        review.adjudicate(ledger, TASK, IMAGES[0].sha256, "Normal", "C")
    add(ledger, IMAGES[0], "Nodule", "CD")
    review.adjudicate(ledger, TASK, IMAGES[0].sha256, "Normal", "C")  # nobody's label any more: a flag of its own
    assert shown(ledger) == in_training(ledger) == {IMAGES[0].sha256: "Normal"}
    assert review.list_readers(review.load_flags(ledger.root), "phantom") == {IMAGES[0].sha256: ["C", "CD"]}


def test_a_decision_is_not_decided(ledger):
    (row,) = review.decide(ledger, TASK, add(ledger, IMAGES[0], "Normal"), "accepted", "C")
    with pytest.raises(FlagError, match="decision on another flag"):
        review.decide(ledger, TASK, row, "rejected", "C")


def test_an_image_that_is_gone_or_another_is_not_decided(ledger):
    flag_id = add(ledger, IMAGES[0], "Normal")
    path = ledger.folder / f"{IMAGES[0].sha256}.png"
    path.write_bytes(phantom_png(9))
    with pytest.raises(FlagError, match="not the one that was flagged"):
        review.decide(ledger, TASK, flag_id, "accepted", "C")
    path.unlink()
    assert review.show_image(review.load_flags(ledger.root).iloc[0]) is None


def phantom_png(seed):
    from xray_models.images import encode_png

    return encode_png(from_pixels(phantom.draw_phantom("Normal", seed, 64).pixels))


def test_flags_are_newest_first_and_filtered(ledger):
    add(ledger, IMAGES[0], "Normal", "AB", created_at="2026-01-01T00:00:00.000+00:00")
    last = add(ledger, IMAGES[1], "Nodule", "CD", created_at="2026-01-02T00:00:00.000+00:00")
    flags = review.load_flags(ledger.root)
    assert flags["flag_id"].iloc[0] == last
    assert list(review.filter_flags(flags, Wanted(reader="AB"))["corrected_label"]) == ["Normal"]
    assert list(review.filter_flags(flags, Wanted("phantom", "CD", "Nodule", "open"))["flag_id"]) == [last]
    assert review.filter_flags(flags, Wanted(status="rejected")).empty
    assert review.list_readers(flags, "phantom") == {IMAGES[0].sha256: ["AB"], IMAGES[1].sha256: ["CD"]}


def test_no_ledger_is_no_flag(tmp_path):
    assert review.load_flags(tmp_path / "none").empty
    assert "No flag" in review_view.render_flags(review.load_flags(tmp_path / "none"), 0)


def test_two_labels_of_one_image_are_not_both_accepted(ledger):
    room = SimpleNamespace(ledger=ledger, panels=SimpleNamespace(tasks={"phantom": TASK}))
    first, second = add(ledger, IMAGES[0], "Normal", "AB"), add(ledger, IMAGES[0], "Effusion", "CD")
    review.answer(room, first, "accepted", "Chief")
    with pytest.raises(FlagError, match="with the label Normal. Reject that one first"):
        review.answer(room, second, "accepted", "Chief")
    review.answer(room, second, "rejected", "Chief")
    review.answer(room, add(ledger, IMAGES[0], "Normal", "EF"), "accepted", "Chief")  # one label, twice
    assert in_training(ledger) == {IMAGES[0].sha256: "Normal"}


def test_a_decision_that_stands_already_is_not_written_twice(ledger):
    room = SimpleNamespace(ledger=ledger, panels=SimpleNamespace(tasks={"phantom": TASK}))
    first, second = add(ledger, IMAGES[0], "Effusion", "AB"), add(ledger, IMAGES[0], "Normal", "CD")
    review.answer(room, first, "accepted", "Chief")
    with pytest.raises(FlagError, match="accepted already"):
        review.answer(room, first, "accepted", "Deputy")
    review.settle(room, first, "Effusion", "Chief")  # the second flag is still open
    with pytest.raises(FlagError, match="rejected already"):
        review.answer(room, second, "rejected", "Chief")
    rows = len(ledgers.read_flags(ledger.root))
    with pytest.raises(FlagError, match="has this label already"):
        review.settle(room, second, "Effusion", "Chief")
    assert len(ledgers.read_flags(ledger.root)) == rows


# --- agreement ---


def test_kappa_is_that_of_scikit_learn_and_of_the_evaluation():
    rng = np.random.default_rng(1)
    first, second = rng.integers(0, 4, 200), rng.integers(0, 4, 200)
    second[:120] = first[:120]
    labels = list("abcd")
    said = pd.DataFrame({"x": [labels[k] for k in first], "y": [labels[k] for k in second]})
    (kappa,) = agreements.compare_raters(said, labels)
    assert kappa.value == pytest.approx(cohen_kappa_score(first, second), abs=1e-12)
    assert kappa.value == pytest.approx(judge_kappa(first, second, 4), abs=1e-6)
    drawn = bootstrap(
        (first, second), cohen_kappa_score, paired=True, vectorized=False, n_resamples=1000, method="percentile", rng=0
    ).confidence_interval
    assert (kappa.low, kappa.high) == pytest.approx((drawn.low, drawn.high), abs=0.02)
    assert kappa.images == 200


def test_kappa_is_not_made_up():
    said = pd.DataFrame({"x": ["a", "a", None], "y": ["a", "a", "b"], "z": [None, None, "b"]})
    found = {(k.first, k.second): k for k in agreements.compare_raters(said, ["a", "b"])}
    assert found["x", "y"].value is None and found["x", "y"].images == 2
    alone = pd.DataFrame({"x": ["a"], "y": ["b"]})
    assert agreements.compare_raters(alone, ["a", "b"]) == [agreements.Kappa("x", "y", 1, None, None, None)]
    assert found["x", "z"] == agreements.Kappa("x", "z", 0, None, None, None)
    assert "not defined" in review_view.render_kappas(list(found.values()))
    assert "(no spread)" in review_view.render_kappas([agreements.Kappa("x", "y", 2, 0.0, 0.0, 0.0)])


def opinion(label):
    return {"label": label, "probs": dict.fromkeys(TASK.labels, 0.25), "revision": "r"}


def test_raters_are_readers_the_panel_and_models(ledger):
    more = {"mode": "blinded", "first_label": "Nodule", "consensus_label": "Normal"}
    own = add(ledger, IMAGES[0], "Effusion", "AB", opinions={"resnet18": opinion("Normal")}, **more)
    review.decide(ledger, TASK, own, "accepted", "Chief")
    flags = review.load_flags(ledger.root)
    last, first = (agreements.gather_labels(flags, "phantom", early).iloc[0].to_dict() for early in (False, True))
    assert last == {"reader AB": "Effusion", "the panel": "Normal", "ResNet-18": "Normal"}
    assert first == last | {"reader AB": "Nodule"}  # and Chief, who decided, is no reader of the image


def test_switches_are_counted_by_whether_the_panel_was_right(ledger):
    """By hand: image 0: the panel is right; AB follows, CD does not. Image 1: it is wrong; AB follows."""
    for image, panel in ((0, "Normal"), (1, "Nodule"), (2, "Nodule")):
        more = {"mode": "blinded", "consensus_label": panel}
        add(ledger, IMAGES[image], panel, "AB", first_label="Effusion", **more)
    add(ledger, IMAGES[0], "Effusion", "CD", first_label="Effusion", mode="blinded", consensus_label="Normal")
    add(ledger, IMAGES[1], "Nodule", "CD", first_label="Nodule", mode="blinded", consensus_label="Nodule")
    review.adjudicate(ledger, TASK, IMAGES[0].sha256, "Normal", "Chief")
    review.adjudicate(ledger, TASK, IMAGES[1].sha256, "Effusion", "Chief")
    flags = review.load_flags(ledger.root)
    found = agreements.count_switches(flags, review.accept_labels(flags, "phantom"), "phantom")
    assert [tuple(switch) for switch in found] == [
        ("all readers", True, 1, 2),
        ("all readers", False, 1, 1),
        ("AB", True, 1, 1),
        ("AB", False, 1, 1),
        ("CD", True, 0, 1),
        ("CD", False, 0, 0),
    ]
    low, high = found[0].interval
    assert (low, high) == pytest.approx((0.0945, 0.9055), abs=1e-3)  # Wilson for 1 of 2
    assert found[-1].interval is None
    html = review_view.render_switches(found)
    assert "<b>50 %</b> (9 to 91) · 1 of 2" in html and "no case" in html


def test_the_plot_has_every_figure_and_takes_the_pages_colours():
    said = pd.DataFrame({"x": list("aabb"), "y": list("abab"), "z": list("bbaa")})
    kappas = agreements.compare_raters(said, ["a", "b"])
    svg = agreements.draw_agreement(kappas, ["x", "y", "z"])
    assert ">0.00<" in svg and ">−1.00<" in svg
    assert "var(--text)" in svg and "var(--warn)" in svg and "#16181d" not in svg
    assert svg.startswith('<svg role="img"')
    long = "reader " + "long" * 9
    short = agreements.draw_agreement([agreements.Kappa(long, "y", 4, 0.5, 0.0, 1.0)], [long, "y"])
    assert ">reader longlonglong…<" in short


# --- what goes out ---


def test_json_has_values_as_they_are_and_no_folder(ledger, tmp_path):
    box = {"x": 1.0, "y": 2.0, "width": 3.0, "height": 4.0}
    add(ledger, IMAGES[0], "Normal", regions=(box,), opinions={"m": opinion("Normal")}, disagreement=0.5, comment="=1")
    text = review.export_json(review.load_flags(ledger.root))
    (record,) = json.loads(text)
    assert (record["regions"], record["disagreement"], record["seconds"], record["comment"]) == ([box], 0.5, None, "=1")
    assert record["opinions"]["m"]["label"] == "Normal"
    assert set(record) == {*ledgers.FIELDS, "verdict", "decided_by", "stands"}
    assert str(tmp_path) not in text


def test_relabels_are_what_training_reads(ledger, tmp_path):
    """An image flagged under its file's name comes out as that file, and `layouts.relabel` takes it."""
    data = phantom.write_dataset(tmp_path / "data", 8, seed=1, size=64)
    from xray_models.images import read_image

    files = sorted(data.rglob("*.png"))
    for path, label in ((files[0], "Effusion"), (files[1], "Normal")):
        image = read_image(path)
        add(ledger, image, label, source_name_hash=hash_name(path.name))
    other = read_image(files[2])
    add(ledger, other, "Normal", source_name_hash=hash_name("elsewhere.png"))
    found = relabels.export_relabels(review.load_flags(ledger.root), TASK, data)
    assert (found.matched, found.missing) == (2, 1)
    (tmp_path / "relabels.csv").write_text(found.text)
    listed = pd.DataFrame(list_label_folders(TASK, data))
    after = relabel(listed, tmp_path / "relabels.csv", TASK, data).set_index("path")["label"]
    assert (after[str(files[0].resolve())], after[str(files[1].resolve())]) == ("Effusion", "Normal")
    changed = after[after.to_numpy() != listed["label"].to_numpy()]
    assert set(changed.index) <= {str(path.resolve()) for path in files[:2]}


def test_a_file_of_the_same_name_with_other_pixels_is_not_relabelled(ledger, tmp_path):
    data = phantom.write_dataset(tmp_path / "data", 8, seed=1, size=64)
    path = next(data.rglob("*.png"))
    add(ledger, IMAGES[0], "Effusion", source_name_hash=hash_name(path.name))
    found = relabels.export_relabels(review.load_flags(ledger.root), TASK, data)
    assert (found.text, found.matched, found.missing) == ("file_name,label\n", 0, 1)


def test_without_the_data_it_says_what_to_do(ledger, tmp_path, monkeypatch):
    monkeypatch.setenv("XRAY_DATA", str(tmp_path / "none"))
    text, said = relabels.write_relabels(review.load_flags(ledger.root), TASK, ledger.root)
    assert text == ""
    assert "not on this machine" in said and f"--flags {ledger.root}" in said


def test_the_commands_are_ones_that_can_be_typed(ledger, tmp_path):
    first, second = relabels.list_commands(load_task("covid"), "resnet18", tmp_path / "my flags", None)
    options = train._parse(shlex.split(first)[3:])
    assert (options.task, options.model, options.flags) == ("covid", "resnet18", tmp_path / "my flags")
    assert str(options.out) == "checkpoints/covid/resnet18"
    from evaluation.run import _parse

    judged = _parse(shlex.split(second)[3:])
    assert (judged.task, judged.models, str(judged.data)) == ("covid", ["resnet18"], "data/covid")


def test_the_export_for_a_spreadsheet_is_the_rooms_own(tmp_path):
    room = Room(tmp_path / "flags")
    add(room.ledger, IMAGES[0], "Normal", comment="=HYPERLINK(1)")
    assert next(csv.DictReader(io.StringIO(room.export())))["comment"] == "'=HYPERLINK(1)"


# --- what is shown ---


def test_a_flag_of_a_task_that_is_gone_is_shown_and_not_decided(tmp_path):
    room = Room(tmp_path)
    gone = dataclasses.replace(TASK, name="chest")
    flag = Flag("AB", "chest", "Nodule", IMAGES[0].sha256)
    flag_id = room.ledger.append(flag, IMAGES[0], gone)
    with gr.Blocks() as app:
        build_review_page(room, gr.Checkbox())
    show = next(fn.fn for fn in app.fns.values() if fn.name == "show")
    html, _, labels = show(flag_id, 0, False)
    assert "Nodule" in html and labels.choices == []
    for work in (lambda: review.answer(room, flag_id, "accepted", "Chief"), lambda: settle(room, flag_id)):
        with pytest.raises(TaskError, match="Unknown task: 'chest'"):
            work()


def settle(room, flag_id):
    return review.settle(room, flag_id, "Nodule", "Chief")


def test_texts_from_outside_are_escaped(ledger, monkeypatch):
    bad = "<img src=x onerror=alert(1)>"
    monkeypatch.setattr(ledgers, "_is_box", lambda box: True)  # the row of another program
    add(ledger, IMAGES[0], "Normal", bad, comment=bad, regions=({"x": bad}, {"x": 1, "y": 2, "width": 3, "height": 4}))
    add(ledger, IMAGES[0], "Nodule", "CD")
    flags = review.load_flags(ledger.root)
    row = flags[flags["reader"] == bad].iloc[0].to_dict()
    html = review_view.render_flags(flags, 0) + review_view.render_detail(row, IMAGES[0], flags)
    assert bad not in html and "&lt;img src=x" in html
    assert html.count("<rect ") == 1 and 'viewBox="0 0 64 64"' in html
    assert "All that was said of this image" in html
    assert "not in the ledger’s folder" in review_view.render_detail(row, None, flags)


def test_status_is_a_word_and_a_sign_not_a_colour_alone(ledger):
    review.decide(ledger, TASK, add(ledger, IMAGES[0], "Normal"), "rejected", "Chief")
    html = review_view.render_flags(review.load_flags(ledger.root), 0)
    assert 'class="sr-mark sr-mark-bad">rejected<' in html and "by Chief" in html


def test_retraining_says_what_nobody_has_decided(ledger):
    add(ledger, IMAGES[0], "Effusion", consensus_label="Normal")
    standing = relabels.list_relabels(review.load_flags(ledger.root), "phantom")
    html = review_view.render_retraining(standing, ["python -m x --a '<b>'"])
    assert "1 of them nobody has decided yet" in html and "&lt;b&gt;" in html
    assert "nothing new" in review_view.render_retraining(standing.iloc[:0], [])


def test_the_page_stands_in_any_blocks_and_is_closed_where_readers_are_blinded(tmp_path):
    room = Room(tmp_path / "flags")
    add(room.ledger, IMAGES[0], "Normal")
    with gr.Blocks() as app:
        build_review_page(room, gr.Checkbox())
    assert all(fn.api_visibility == "private" for fn in app.fns.values())
    with gr.Blocks() as app:
        build_review_page(SimpleNamespace(blinded=True), gr.Checkbox())
    assert not app.fns
