"""The page's steps without a browser: what is sent, and what is not."""

import dataclasses
import re
import threading

import pytest

from reading_room import desk as desks
from reading_room import panels
from reading_room.blinding import SealedError
from reading_room.desk import Desk, Setting
from reading_room.room import Room
from reading_room.turns import OvertakenError
from xray_models import attribution
from xray_models.images import encode_png, from_pixels
from xray_models.panel import Panel


@pytest.fixture
def desk(untrained, tmp_path, monkeypatch):
    monkeypatch.setattr(panels, "load_tasks", lambda: {"phantom": untrained})
    return Desk(Room(tmp_path / "flags"))


@pytest.fixture
def path(tmp_path, image):
    file = tmp_path / "x.png"
    file.write_bytes(encode_png(image))
    return str(file)


def test_cards_fill_one_after_the_other(desk, path):
    views = list(desk.read_upload(path, Setting("phantom")))
    assert [view.cards.count("sr-ok") for view in views] == [0, 0, 1, 2, 3, 3, 3, 3]
    assert [view.cards.count("data-map") for view in views] == [0, 0, 0, 0, 0, 1, 2, 3]
    assert len({str(view.viewer) for view in views}) == 1  # the image is sent once
    assert not any(view.sealed for view in views)


def test_pictures_are_told_by_address_and_sent_in_no_step(desk, path):
    views = list(desk.read_upload(path, Setting("phantom")))
    assert not any("data:image" in str(view) for view in views)
    assert max(len(view.cards) for view in views) < 10_000
    assert len(set(re.findall(r"--image:url\((prints/\w{64})\)", "".join(view.cards for view in views)))) == 1
    told = set(re.findall(r"prints/\w{64}", views[-1].cards))
    assert len(told) >= 3  # the image, and maps: some may be alike
    again = list(desk.read_upload(path, Setting("phantom")))[-1]
    assert set(re.findall(r"prints/\w{64}", again.cards)) == told


def test_no_picture_is_offered_before_the_reader_has_committed(desk, path, monkeypatch):
    list(desk.read_upload(path, Setting("phantom", who="bob")))  # whose pictures are at hand
    monkeypatch.setattr(desk.room.prints, "offer", lambda _: pytest.fail("a picture was offered"))
    setting = Setting("phantom", who="ann", blinded=True)
    (view,) = desk.read_upload(path, setting)
    views = [view, *desk.draw_maps(view.shown, setting)]
    assert all(view.sealed and "prints/" not in str(view) for view in views)


def test_sealed_until_committed(desk, path, image, monkeypatch):
    monkeypatch.setattr(Panel, "ask", lambda *_: pytest.fail("the panel was asked"))
    setting = Setting("phantom", who="ann", blinded=True)
    (view,) = desk.read_upload(path, setting)
    assert view.sealed and "sr-ok" not in view.cards and "data-map" not in view.cards
    assert "sr-ok" not in str(list(desk.draw_maps(view.shown, setting)))
    with pytest.raises(SealedError, match="Choose your own label"):
        list(desk.commit(view.shown, None, 0.5, setting))
    monkeypatch.undo()


def test_another_readers_reading_does_not_open_the_seal(desk, path):
    list(desk.read_upload(path, Setting("phantom", who="bob")))  # the case is kept with its reading
    setting = Setting("phantom", who="ann", blinded=True)
    (view,) = desk.read_upload(path, setting)
    assert view.sealed
    assert "data-map" not in str(list(desk.draw_maps(view.shown, setting)))
    shown = list(desk.commit(view.shown, "Effusion", 0.9, setting))[-1]
    assert not shown.sealed and "Your reading, locked: <b>Effusion</b>, 90 %" in shown.consensus
    again = list(desk.read_upload(path, setting))
    assert len(again) == 8  # committed already: opened as before


def test_who_has_seen_the_opinions_cannot_read_blinded_any_more(desk, path):
    list(desk.read_upload(path, Setting("phantom", who="ann")))
    views = list(desk.read_upload(path, Setting("phantom", who="ann", blinded=True)))
    assert not any(view.sealed or view.shown.blinded for view in views)
    assert "Read openly" in views[-1].consensus
    (view,) = desk.read_upload(path, Setting("phantom", who="bob", blinded=True))
    assert view.sealed


def test_what_another_tab_has_shown_openly_cannot_be_locked_as_a_first_reading(desk, path, image):
    sealed = Setting("phantom", who="ann", blinded=True, page="1")
    (view,) = desk.read_upload(path, sealed)
    list(desk.read_upload(path, Setting("phantom", who="ann", page="2")))
    with pytest.raises(SealedError, match="meanwhile"):
        list(desk.commit(view.shown, "Effusion", 0.9, sealed))
    assert desk.room.commitments.get("ann", "phantom", image.sha256) is None
    again = list(desk.read_upload(path, sealed))[-1]
    assert not again.sealed and "Read openly" in again.consensus


def test_ranking_shows_its_caller_opinions(desk, path, image):
    desk.room.rank([path], "phantom", "ann")
    assert desk.room.commitments.has_seen("ann", "phantom", image.sha256)
    assert not desk.room.commitments.has_seen("bob", "phantom", image.sha256)


def test_an_image_can_be_flagged_and_asked_for_again_before_its_models_have_answered(desk, path, image):
    reading = desk.read_upload(path, Setting("phantom"))
    shown = next(reading).shown
    assert desk.room.cases.get("phantom", image.sha256).reading is None
    assert next(desk.read_again(shown, Setting("phantom"))).viewer["state"] == "case"
    record = {"task": "phantom", "image_sha256": image.sha256, "reader": "Bob", "corrected_label": "Effusion"}
    assert desk.room.flag(record).startswith("flag-")


def test_what_cannot_be_read_is_a_sentence(desk, tmp_path):
    bad = tmp_path / "bad.png"
    bad.write_text("no")
    (view,) = desk.read_upload(str(bad), Setting("phantom"))
    assert view.viewer["state"] == "error" and "PNG, JPEG" in view.viewer["message"]


def test_an_image_that_is_gone_is_a_sentence(desk, image):
    from reading_room.desk import Shown

    gone = Shown("phantom", from_pixels(image.pixels[:90]).sha256, 0.0)
    (view,) = desk.read_again(gone, Setting("phantom"))
    assert "Read it again" in view.viewer["message"]


def test_earlier_flags_come_after_the_image_and_never_before_the_commitment(desk, path, image):
    views = list(desk.read_upload(path, Setting("phantom")))
    assert {view.earlier for view in views} == {"", None}
    record = {"task": "phantom", "image_sha256": image.sha256, "reader": "Bob", "corrected_label": "Effusion"}
    desk.room.flag(record)
    views = list(desk.read_upload(path, Setting("phantom")))
    assert views[0].earlier == ""  # the image does not wait for the ledger
    assert "Bob" in views[1].earlier
    assert {view.earlier for view in views[2:]} == {None}  # a flag saved meanwhile stays told
    setting = Setting("phantom", who="ann", blinded=True)
    (view,) = desk.read_upload(path, setting)
    assert view.sealed and "Bob" not in str(view)
    assert "Bob" in list(desk.commit(view.shown, "Normal", 0.5, setting))[1].earlier


def test_maps_that_nobody_waits_for_any_more_are_not_drawn(desk, path, monkeypatch):
    shown = list(desk.read_upload(path, Setting("phantom")))[-1].shown
    check, explained, explain = desk.turns.take("page"), [], attribution.explain

    def overtaken(member, *rest):
        explained.append(member.name)
        if len(explained) == 2:
            desk.turns.take("page")
        return explain(member, *rest)

    monkeypatch.setattr(attribution, "explain", overtaken)
    drawn = []
    with pytest.raises(OvertakenError):
        for view in desk.draw_maps(shown, Setting("phantom", "occlusion", check=check)):
            drawn.append(view.cards.count("data-map"))
    assert set(drawn) == {0, 1} and drawn == sorted(drawn)
    assert len(explained) == 2


@pytest.mark.parametrize("answered", [2, 3])
def test_another_method_before_all_models_have_answered_goes_on_with_the_reading(desk, path, answered, image):
    reading = desk.read_upload(path, Setting("phantom"))
    shown = [next(reading) for _ in range(answered)][-1].shown  # overtaken here
    assert desk.room.cases.get("phantom", image.sha256).reading is None
    views = list(desk.draw_maps(shown, Setting("phantom", "grad_cam")))
    assert [view.cards.count("sr-ok") for view in views] == [0, 0, 1, 2, 3, 3, 3, 3]
    assert views[-1].cards.count("data-map") == 3 and "Grad-CAM" in views[-1].cards
    assert "still to answer" in views[3].consensus and "still to answer" not in views[-1].consensus
    assert all(view.viewer == views[0].viewer and view.shown == shown for view in views)


def test_another_method_leaves_no_consensus_of_an_overtaken_reading(desk, path):
    list(desk.read_upload(path, Setting("phantom")))  # by somebody: the reading is kept
    again = desk.read_upload(path, Setting("phantom", blinded=True))
    shown = [next(again) for _ in range(3)][-1].shown
    first, *_ = desk.draw_maps(shown, Setting("phantom", "grad_cam", blinded=True))
    assert first.cards.count("sr-ok") == 3 and "still to answer" not in first.consensus
    assert "Read openly" in first.consensus and (first.earlier, first.own) == (None, None)


def test_a_slow_map_says_how_far_it_is(desk, path, monkeypatch):
    shown = list(desk.read_upload(path, Setting("phantom")))[-1].shown
    explain, told = attribution.explain, threading.Event()

    def slowly(*given):
        *rest, step = given
        step(0.25)
        told.wait(60)
        return explain(*rest)

    monkeypatch.setattr(attribution, "explain", slowly)
    monkeypatch.setattr(desks, "_PAUSE", 0.01)
    for view in desk.draw_maps(shown, Setting("phantom", "occlusion")):
        if "drawing 25 %" in view.cards:
            told.set()
    assert told.is_set() and view.cards.count("data-map") == 3


def test_a_task_that_is_chosen_has_its_models_loaded(desk, monkeypatch):
    warmed = []
    monkeypatch.setattr(desk.room.panels, "warm", warmed.append)
    (view,) = desk.read_again(None, Setting("phantom"))
    assert warmed == ["phantom"] and view.shown is None


def test_a_model_may_join_or_leave_between_two_steps(desk, path, untrained):
    panels = desk.room.panels
    views = desk.read_upload(path, Setting("phantom"))
    assert next(views).cards.count("<article") == 3
    panels.add("phantom", dataclasses.replace(untrained.models[0], name="fourth"))
    last = list(views)[-1]
    assert last.cards.count("sr-ok") == 4 and last.cards.count("data-map") == 4
    panels.remove("phantom", "fourth")
    *_, drawn = desk.draw_maps(last.shown, Setting("phantom", method="grad_cam"))
    assert (
        drawn.cards.count("sr-ok") == 4 and drawn.cards.count("data-map") == 3
    )  # what it said stays; it draws no more
