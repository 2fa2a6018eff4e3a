"""The flag form's work without a browser: saved, taken back, and told again."""

import csv
import threading

import pytest

from reading_room import flagging, panels
from reading_room.desk import Desk, Setting, Shown
from reading_room.intake import Case
from reading_room.review import decide
from reading_room.room import Room
from reading_room.withdrawals import Withdrawals
from xray_models.flags import FlagError
from xray_models.images import encode_png, from_pixels

FIELDS = {"corrected_label": "Nodule", "confidence": 0.5, "reason": "wrong label", "reader": "AB", "comment": ""}


@pytest.fixture
def desk(untrained, tmp_path, monkeypatch):
    monkeypatch.setattr(panels, "load_tasks", lambda: {"phantom": untrained})
    return Desk(Room(tmp_path / "flags"))


@pytest.fixture
def path(tmp_path, image):
    file = tmp_path / "x.png"
    file.write_bytes(encode_png(image))
    return str(file)


@pytest.fixture
def shown(desk, path):
    return list(desk.read_upload(path, Setting("phantom", who="ann")))[-1].shown


def rows(desk):
    return [row for file in desk.room.ledger.root.glob("*/metadata.csv") for row in csv.DictReader(file.open())]


def test_a_flag_is_of_the_image_that_was_in_view_or_not_saved(desk, shown, image):
    """Label, comment and boxes are those of the click; the next image may be open when the flag has its turn."""
    box = '{"x": 1, "y": 2, "width": 3, "height": 4}'
    saved = flagging.save_flag(desk, shown, FIELDS, f'{{"sha256": "{image.sha256}", "boxes": [{box}]}}', "")
    assert saved.flag_id and rows(desk)[-1]["regions"] == f"[{box}]"
    said, flag_id = flagging.save_flag(desk, shown, FIELDS, f'{{"sha256": "{"0" * 64}", "boxes": [{box}]}}', "")
    assert not flag_id and "another image was opened" in said and len(rows(desk)) == 1
    bad = f'{{"sha256": "{image.sha256}", "boxes": [{{"x": "<"}}]}}'
    said, flag_id = flagging.save_flag(desk, shown, FIELDS, bad, "")
    assert not flag_id and "boxes" in said


def test_what_cannot_be_saved_is_a_sentence(desk, shown):
    assert "Read one first" in flagging.save_flag(desk, None, FIELDS, "", "").said
    assert "choose the label" in flagging.save_flag(desk, shown, FIELDS | {"corrected_label": None}, "", "").said
    assert "enter a name or initials" in flagging.save_flag(desk, shown, FIELDS | {"reader": ""}, "", "").said
    assert rows(desk) == []


def test_a_blinded_flag_needs_the_commitment_and_takes_it_along(desk, path):
    setting = Setting("phantom", who="ann", blinded=True)
    (view,) = desk.read_upload(path, setting)
    said, flag_id = flagging.save_flag(desk, view.shown, FIELDS, "", "ann")
    assert not flag_id and "lock your own label" in said
    list(desk.commit(view.shown, "Effusion", 0.9, setting))
    assert flagging.save_flag(desk, view.shown, FIELDS, "", "ann").flag_id
    assert (rows(desk)[-1]["mode"], rows(desk)[-1]["first_label"]) == ("blinded", "Effusion")


def test_an_undo_is_a_row_and_is_told(desk, shown):
    _, flag_id = flagging.save_flag(desk, shown, FIELDS, "", "ann")
    assert ">open<" in flagging.show_earlier(desk, shown, "ann")
    said = flagging.undo_flag(desk, shown, flag_id, "ann")
    assert "Withdrawn: <b>Nodule</b>" in said and flag_id in said
    flag, back = rows(desk)
    assert (back["decides"], back["status"], back["reason"], back["reader"]) == (flag_id, "rejected", "withdrawn", "AB")
    assert flag["status"] == "open"  # as it was written
    assert ">withdrawn<" in flagging.show_earlier(desk, shown, "ann")


def test_an_undo_waits_for_a_decision_and_stands_on_what_it_left(desk, shown):
    _, flag_id = flagging.save_flag(desk, shown, FIELDS, "", "ann")
    said = []
    undo = threading.Thread(target=lambda: said.append(flagging.undo_flag(desk, shown, flag_id, "ann")))
    with desk.room.deciding:
        undo.start()
        undo.join(0.2)
        assert undo.is_alive() and len(rows(desk)) == 1
        decide(desk.room.ledger, desk.room.panels.tasks["phantom"], flag_id, "accepted", "Chief")
    undo.join(30)
    assert "accepted by Chief meanwhile" in said[0] and len(rows(desk)) == 2


def test_what_cannot_be_undone_is_a_sentence_and_leaves_nothing(desk, shown, image):
    assert "nothing to undo" in flagging.undo_flag(desk, shown, "", "ann")
    _, flag_id = flagging.save_flag(desk, shown, FIELDS, "", "ann")
    assert "by the reader who saved it" in flagging.undo_flag(desk, shown, flag_id, "bob")
    for other in (None, shown._replace(sha256="0" * 64), shown._replace(task="covid")):
        assert "no flag of this image" in flagging.undo_flag(desk, other, flag_id, "ann")
    assert len(rows(desk)) == 1
    flagging.undo_flag(desk, shown, flag_id, "ann")
    assert "withdrawn already" in flagging.undo_flag(desk, shown, flag_id, "ann")
    assert len(rows(desk)) == 2


def test_the_last_flag_of_the_image_is_undone_by_a_page_that_does_not_know_it(desk, shown, path, image):
    first, second = (flagging.save_flag(desk, shown, FIELDS, "", "ann").flag_id for _ in range(2))
    other = from_pixels(image.pixels[:90])
    desk.room.cases.offer("phantom", Case(other, ""))
    elsewhere = flagging.save_flag(desk, Shown("phantom", other.sha256, 0.0), FIELDS, "", "ann").flag_id

    def tell(who):
        return list(desk.read_upload(path, Setting("phantom", who=who)))[1].own

    assert "Your flag: <b>Nodule</b>" in tell("ann") and second in tell("ann")
    assert tell("bob") == tell("") == ""
    assert second in flagging.undo_flag(desk, shown, "", "ann")
    assert first in tell("ann")
    assert first in flagging.undo_flag(desk, shown, elsewhere, "ann")  # the page was at another image meanwhile
    assert tell("ann") == "" and "nothing to undo" in flagging.undo_flag(desk, shown, "", "ann")
    assert len(rows(desk)) == 5


def test_the_flag_before_is_undone_after_the_last_one(desk, shown):
    first, second = (flagging.save_flag(desk, shown, FIELDS, "", "ann").flag_id for _ in range(2))
    for flag_id in (second, first):  # the page knows the one that it saved last
        assert flag_id in flagging.undo_flag(desk, shown, second, "ann")
    assert "withdrawn already" in flagging.undo_flag(desk, shown, second, "ann")
    assert len(rows(desk)) == 4


def test_withdrawn_is_said_only_of_what_is_on_the_disk(desk, shown, monkeypatch):
    _, flag_id = flagging.save_flag(desk, shown, FIELDS, "", "ann")

    def refuse(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", refuse)
        said = flagging.undo_flag(desk, shown, flag_id, "ann")
    assert "Not undone." in said and "No space left" in said
    assert len(rows(desk)) == 1 and ">open<" in flagging.show_earlier(desk, shown, "ann")
    assert "Withdrawn" in flagging.undo_flag(desk, shown, flag_id, "ann")


def test_earlier_flags_are_not_told_before_the_commitment(desk, shown, path, image):
    flagging.save_flag(desk, shown, FIELDS, "", "ann")
    sealed = shown._replace(blinded=True)
    assert flagging.show_earlier(desk, sealed, "bob") == flagging.show_earlier(desk, None, "bob") == ""
    list(desk.commit(sealed, "Normal", 0.5, Setting("phantom", who="bob", blinded=True)))
    assert "AB" in flagging.show_earlier(desk, sealed, "bob")
    other = Shown("phantom", from_pixels(image.pixels[:90]).sha256, 0.0)
    assert flagging.show_earlier(desk, other, "bob") == ""


def test_an_id_that_is_taken_is_refused_so_that_nobody_undoes_anothers_flag(desk, shown):
    _, flag_id = flagging.save_flag(desk, shown, FIELDS, "", "ann")
    record = {"task": shown.task, "image_sha256": shown.sha256, "flag_id": flag_id} | FIELDS
    assert desk.room.flag(record, "ann") == flag_id  # sent twice, it is one flag
    for other in ({"corrected_label": "Normal"}, {"comment": "large"}, {"confidence": 1.0}):
        for who in ("ann", "bob"):
            with pytest.raises(FlagError, match=f"flag_id '{flag_id}' is that of a flag in the ledger"):
                desk.room.flag(record | other, who)
    assert {row["corrected_label"] for row in rows(desk)} == {"Nodule"}
    desk.room.withdrawals = Withdrawals(desk.room.ledger, desk.room.history)  # as after a restart
    with pytest.raises(FlagError, match=f"flag_id '{flag_id}' is that of a flag in the ledger"):
        desk.room.flag(record, "bob")
    with pytest.raises(FlagError, match="by the reader who saved it"):
        desk.room.withdraw(flag_id, "bob")


def test_an_id_is_of_one_flag_where_nobody_has_a_name(desk, shown):
    record = {"task": shown.task, "image_sha256": shown.sha256, "flag_id": "abc"} | FIELDS
    for _ in range(2):
        assert desk.room.flag(record) == desk.room.flag(record) == "abc"
        with pytest.raises(FlagError, match="flag_id 'abc' is that of a flag in the ledger"):
            desk.room.flag(record | {"corrected_label": "Normal"})
        desk.room.withdrawals = Withdrawals(desk.room.ledger, desk.room.history)  # as after a restart
    for odd in (["abc"], 3):
        with pytest.raises(FlagError, match="it must be text"):
            desk.room.flag(record | {"flag_id": odd})
