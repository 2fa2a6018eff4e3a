"""Decisions on flags: each is a new row, and training follows what is shown."""

import json
import os
import threading
import time
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from reading_room import agreements, relabels, review
from reading_room.review import Wanted
from tests.flag_samples import IMAGES, TASK, add, opinion
from xray_models import flags as ledgers
from xray_models import phantom
from xray_models.flags import FlagError, LedgerError
from xray_models.images import from_pixels
from xray_models.relabels import apply_relabels
from xray_models.tasks import TaskError


def in_training(ledger):
    """What `train --flags` makes of the ledger: label by image."""
    rows = {"path": "a", "label": "", "official": "", "sha256": "0" * 64, "group": [0], "split": "train"}
    applied = apply_relabels(pd.DataFrame(rows), ledger.root, TASK).iloc[1:]
    return dict(zip(applied["sha256"], applied["label"], strict=True))


def shown(ledger):
    """What the page says that training gets."""
    standing = relabels.list_relabels(review.load_flags(ledger.root), "phantom")
    return dict(zip(standing["image_sha256"], standing["corrected_label"], strict=True))


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


def test_a_decision_holds_the_opinions_that_the_flag_was_made_with(ledger):
    given = {"opinions": {"m": opinion("Normal")}, "consensus_label": "Normal", "disagreement": 0.25}
    flag_id = add(ledger, IMAGES[0], "Effusion", source_name_hash="name-1", **given)
    review.decide(ledger, TASK, flag_id, "accepted", "Chief", "so it is")
    decision = review.load_flags(ledger.root).iloc[0]
    assert json.loads(decision["opinions"]) == given["opinions"]
    assert (decision["consensus_label"], decision["disagreement"]) == ("Normal", "0.25")
    assert (decision["corrected_label"], decision["source_name_hash"]) == ("Effusion", "name-1")
    assert (decision["reader"], decision["comment"], decision["status"]) == ("Chief", "so it is", "accepted")


def test_a_rejection_takes_an_earlier_acceptance_with_it(ledger):
    flag_id = add(ledger, IMAGES[0], "Effusion")
    review.decide(ledger, TASK, flag_id, "accepted", "Chief")
    assert shown(ledger) == in_training(ledger) == {IMAGES[0].sha256: "Effusion"}
    assert len(review.decide(ledger, TASK, flag_id, "rejected", "Chief")) == 2
    assert shown(ledger) == in_training(ledger) == {}
    review.decide(ledger, TASK, flag_id, "accepted", "Chief")
    assert shown(ledger) == in_training(ledger) == {IMAGES[0].sha256: "Effusion"}
    assert len(review.decide(ledger, TASK, flag_id, "rejected", "Chief")) == 2  # the first acceptance is settled
    assert shown(ledger) == in_training(ledger) == {}


@pytest.mark.parametrize("label", ["Effusion", "Normal", "Consolidation"])
def test_a_settled_label_is_the_one_that_training_gets(ledger, label):
    add(ledger, IMAGES[0], "Effusion", "AB")
    add(ledger, IMAGES[0], "Normal", "CD")
    for settled in ("Normal", label, "Effusion", label):  # changing one's mind counts
        review.adjudicate(ledger, TASK, IMAGES[0].sha256, settled, "Chief")
        assert shown(ledger) == in_training(ledger) == {IMAGES[0].sha256: settled}
        assert review.accept_labels(review.load_flags(ledger.root), "phantom") == {IMAGES[0].sha256: settled}


def test_a_flag_that_nobody_looked_at_undoes_no_decision(ledger):
    add(ledger, IMAGES[0], "Effusion", "AB")
    review.adjudicate(ledger, TASK, IMAGES[0].sha256, "Nodule", "Chief")
    late = add(ledger, IMAGES[0], "Normal", "ZZ")
    assert in_training(ledger) == {IMAGES[0].sha256: "Nodule"}
    review.adjudicate(ledger, TASK, IMAGES[0].sha256, "Normal", "Chief")
    assert in_training(ledger) == {IMAGES[0].sha256: "Normal"} and late


def test_settling_accepts_all_flags_with_the_label_and_rejects_all_others(ledger):
    for reader, label in (("AB", "Normal"), ("CD", "Normal"), ("EF", "Effusion"), ("GH", "Normal"), ("IJ", "Nodule")):
        add(ledger, IMAGES[0], label, reader)
    assert len(review.adjudicate(ledger, TASK, IMAGES[0].sha256, "Normal", "Chief")) == 5
    flags = review.load_flags(ledger.root)
    verdicts = dict(zip(flags["reader"], flags["verdict"], strict=True)) | {"Chief": ""}
    said = {"AB": "accepted", "CD": "accepted", "EF": "rejected", "GH": "accepted", "IJ": "rejected", "Chief": ""}
    assert verdicts == said


def test_a_label_is_settled_whole_or_not_at_all(ledger, monkeypatch):
    for reader, label in (("AB", "Normal"), ("CD", "Effusion"), ("EF", "Nodule")):
        add(ledger, IMAGES[0], label, reader)
    written, real = [], os.write
    monkeypatch.setattr(os, "write", lambda number, data: written.append(data) or real(number, data))
    assert len(review.adjudicate(ledger, TASK, IMAGES[0].sha256, "Effusion", "Chief")) == 3
    assert [data.count(b"Chief") for data in written] == [3]
    monkeypatch.setattr(os, "write", lambda number, data: real(number, data[:-1]))
    with pytest.raises(LedgerError, match="the disk is full"):
        review.adjudicate(ledger, TASK, IMAGES[0].sha256, "Nodule", "Chief")
    monkeypatch.undo()
    assert shown(ledger) == in_training(ledger) == {IMAGES[0].sha256: "Effusion"}


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
    assert list(flags.index) == [0, 1] and "index" not in flags
    assert list(review.filter_flags(flags, Wanted(reader="AB"))["corrected_label"]) == ["Normal"]
    assert list(review.filter_flags(flags, Wanted("phantom", "CD", "Nodule", "open"))["flag_id"]) == [last]
    assert review.filter_flags(flags, Wanted(status="rejected")).empty
    assert review.list_readers(flags, "phantom") == {IMAGES[0].sha256: ["AB"], IMAGES[1].sha256: ["CD"]}


@pytest.fixture
def room(ledger):
    return SimpleNamespace(ledger=ledger, panels=SimpleNamespace(tasks={"phantom": TASK}), deciding=threading.Lock())


def test_two_labels_of_one_image_are_not_both_accepted(ledger, room):
    first, second = add(ledger, IMAGES[0], "Normal", "AB"), add(ledger, IMAGES[0], "Effusion", "CD")
    review.answer(room, first, "accepted", "Chief")
    with pytest.raises(FlagError, match="with the label Normal. Reject that one first"):
        review.answer(room, second, "accepted", "Chief")
    review.answer(room, second, "rejected", "Chief")
    review.answer(room, add(ledger, IMAGES[0], "Normal", "EF"), "accepted", "Chief")  # one label, twice
    assert in_training(ledger) == {IMAGES[0].sha256: "Normal"}


def test_two_reviewers_at_once_do_not_both_accept(ledger, room, monkeypatch):
    both = [add(ledger, IMAGES[0], "Normal", "AB"), add(ledger, IMAGES[0], "Effusion", "CD")]
    load, refused = review.load_flags, []

    def load_slowly(root, **options):
        flags = load(root, **options)
        time.sleep(0.1)
        return flags

    def accept(flag_id):
        try:
            review.answer(room, flag_id, "accepted", "Chief")
        except FlagError as error:
            refused.append(str(error))

    monkeypatch.setattr(review, "load_flags", load_slowly)
    threads = [threading.Thread(target=accept, args=(flag_id,)) for flag_id in both]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(refused) == 1 and "Another flag of this image is accepted" in refused[0]
    assert len(in_training(ledger)) == 1


def test_a_decision_on_what_is_no_more_is_not_written(ledger, room):
    flag_id = add(ledger, IMAGES[0], "Normal", "AB")
    review.answer(room, flag_id, "accepted", "Chief", seen="open")
    for decide in (
        lambda: review.answer(room, flag_id, "rejected", "Deputy", seen="open"),
        lambda: review.settle(room, flag_id, "Effusion", "Deputy", seen="open"),
    ):
        with pytest.raises(FlagError, match="This flag was accepted meanwhile"):
            decide()
    assert in_training(ledger) == {IMAGES[0].sha256: "Normal"}
    review.answer(room, flag_id, "rejected", "Deputy", seen="accepted")
    assert in_training(ledger) == {}


def test_a_decision_that_stands_already_is_not_written_twice(ledger, room):
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


def test_steps_go_from_a_flag_that_has_left_the_list_to_the_next_one_in_it(ledger):
    ids = [add(ledger, IMAGES[0], "Normal", created_at=f"2026-11-0{day}T00:00:00+00:00") for day in (1, 2, 3)]
    review.decide(ledger, TASK, ids[1], "accepted", "Chief")
    flags = review.load_flags(ledger.root)
    opened = review.filter_flags(flags, Wanted(status="open"))
    assert review.step_flag(flags, opened, ids[1], 1) == (ids[0], 1)
    assert review.step_flag(flags, opened, ids[1], -1) == (ids[2], 0)
    assert review.step_flag(flags, flags, ids[2], 1) == (ids[1], 2)  # the newest row of all is the decision
    assert review.step_flag(flags, flags, ids[2], -1) == review.step_flag(flags, flags, "gone", 1) == ("", 0)
