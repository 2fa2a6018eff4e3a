"""A watched folder: what is whole is read once, what is half written waits, and what lies there is left alone."""

import errno
import os
import shutil
import threading
import time
import types

import pytest

from reading_room import sources, watching
from reading_room.intake import IntakeError
from reading_room.sources import Taken
from reading_room.watching import Watch
from reading_room.worklist import Worklist
from reading_room.worklist_view import Choice, draw_list
from tests.test_worklist_page import lists, png, room, wait, zip_of

__all__ = ["lists", "room"]  # fixtures


@pytest.fixture
def inbox(tmp_path):
    folder = tmp_path / "inbox"
    (folder / "ward").mkdir(parents=True)
    return folder


@pytest.fixture
def watch(inbox, tmp_path):
    own = tmp_path / "own"
    own.mkdir()
    return Watch(inbox, Worklist("phantom", Taken([], 0), own))


def test_a_file_is_taken_once_and_only_when_it_is_whole(watch, inbox):
    (inbox / "DOE.png").write_bytes(png(1)[:100])
    assert watch.look() == 0  # seen for the first time
    (inbox / "DOE.png").write_bytes(png(1))
    assert watch.look() == 0  # it has grown
    assert watch.look() == 1
    assert watch.look() == 0
    assert watch.made.sources[0].path.read_bytes() == png(1)
    assert (inbox / "DOE.png").read_bytes() == png(1)


def test_subfolders_and_zips_count_and_hidden_files_and_links_do_not(watch, inbox, tmp_path):
    (inbox / "ward" / "a.png").write_bytes(png(1))
    zip_of({"b.png": png(2), "c.png": png(3)}, inbox / "z.zip")
    (inbox / ".part").write_bytes(png(4))
    (inbox / "empty.png").write_bytes(b"")
    (tmp_path / "other.png").write_bytes(png(5))
    (inbox / "link.png").symlink_to(tmp_path / "other.png")
    watch.look()
    assert watch.look() == 3
    assert not any(part in str(source.path) for source in watch.made.sources for part in ("ward", "a.png", "b.png"))


def test_a_file_that_is_written_anew_is_another_case_and_the_first_stays(watch, inbox):
    (inbox / "a.png").write_bytes(png(1))
    watch.look()
    watch.look()
    with (inbox / "a.png").open("r+b") as file:
        file.write(png(2))
        file.truncate()
    watch.look()
    assert watch.look() == 1
    assert [source.path.read_bytes() for source in watch.made.sources] == [png(1), png(2)]


def test_a_full_list_takes_no_more_and_says_so_once(watch, inbox, monkeypatch, caplog):
    monkeypatch.setattr(watching, "FILE_LIMIT", 2)
    for seed in range(4):
        (inbox / f"{seed}.png").write_bytes(png(seed))
    watch.look()
    assert [watch.look(), watch.look(), watch.look()] == [2, 0, 0]
    assert caplog.text.count("the watched list is full") == 1


def test_a_full_list_says_so_on_the_page(watch, inbox, monkeypatch):
    monkeypatch.setattr(watching, "FILE_LIMIT", 1)
    monkeypatch.setattr(watch.made, "fill", lambda panel: None)
    for seed in range(2):
        (inbox / f"{seed}.png").write_bytes(png(seed))
    said, stop = [], threading.Event()

    def wait(pause):
        said.append(draw_list(watch.made, "T", {}, Choice(), opens=False, offer=str).progress)
        return stop.set() if len(said) == 2 else None

    monkeypatch.setattr(stop, "wait", wait)
    watch.run(lambda: None, stop)
    assert "Watching for files" in said[0]
    assert "The list is full, no more files are taken: 0 of 1" in said[1]


def test_a_list_is_full_when_the_next_file_has_too_many_bytes_for_it(watch, inbox, monkeypatch, caplog):
    monkeypatch.setattr(watching, "BYTE_LIMIT", 2 * len(png(1)) + 9)
    for seed in range(1, 5):
        (inbox / f"{seed}.png").write_bytes(png(1))
    watch.look()
    assert [watch.look(), watch.look()] == [2, 0]
    assert len([path for path in watch.made.folder.rglob("*") if path.is_file()]) == 2
    assert caplog.text.count("the watched list is full: 2 files") == 1
    stop = threading.Event()
    monkeypatch.setattr(stop, "wait", lambda pause: stop.set())
    watch.run(lambda: None, stop)
    assert watch.made.state == "full"


def test_a_zip_that_the_list_has_no_room_for_is_a_row_and_the_next_file_is_taken(watch, inbox, monkeypatch):
    monkeypatch.setattr(watching, "FILE_LIMIT", 4)
    (inbox / "a.png").write_bytes(png(1))
    zip_of({f"{k}.png": png(k) for k in range(4)}, inbox / "b.zip")
    (inbox / "c.png").write_bytes(png(2))
    watch.look()
    assert watch.look() == 3
    assert [bool(source.problem) for source in watch.made.sources] == [False, True, False]
    assert watch.made.sources[1].problem.startswith("The list has too little room left for this zip.")


def test_a_folder_that_vanishes_during_a_look_takes_nothing_else_with_it(watch, inbox, monkeypatch, caplog):
    (inbox / "a.png").write_bytes(png(1))
    (inbox / "ward" / "b.png").write_bytes(png(2))
    watch.look()
    scandir = os.scandir

    def vanish(folder):
        if str(folder) == str(inbox / "ward"):
            shutil.rmtree(folder, ignore_errors=True)
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", vanish)
    assert [watch.look(), watch.look()] == [1, 0]
    monkeypatch.undo()
    shutil.rmtree(inbox)
    assert [watch.look(), watch.look()] == [0, 0]  # a share that comes and goes
    (inbox / "ward").mkdir(parents=True)
    (inbox / "ward" / "c.png").write_bytes(png(3))
    assert [watch.look(), watch.look()] == [0, 1]
    said = [record.message for record in caplog.records if "cannot be looked into" in record.message]
    assert len(said) == 2 and "ward" not in str(said)  # in three looks


@pytest.mark.parametrize("at", ["panel", "reading"])
def test_a_watch_that_fails_says_that_it_stopped(lists, inbox, monkeypatch, caplog, at):
    def fail(*_):
        raise RuntimeError("Doe_Jane.png")  # no name of a file is logged

    (inbox / "a.png").write_bytes(png(1))
    monkeypatch.setattr(watching.Watch.run, "__defaults__", (0.05,))
    monkeypatch.setattr(*((lists._room.panels, "get") if at == "panel" else (Worklist, "_add")), fail)
    stop = lists.watch(inbox, "phantom")
    found, deadline = lists.get(lists.watched), time.monotonic() + 30
    while found.state != "stopped" and time.monotonic() < deadline:
        time.sleep(0.02)
    stop.set()
    assert (found.state, found.active) == ("stopped", False)
    assert "the folder is watched no more (RuntimeError)" in caplog.text and "Doe" not in caplog.text


def test_what_cannot_be_copied_now_is_taken_later_and_said_once(watch, inbox, monkeypatch, caplog):
    def fail(given, own):
        raise OSError(errno.ENOSPC, "No space left on device", str(given))

    (inbox / "DOE.png").write_bytes(png(1))
    watch.look()
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "copyfile", fail)
        assert [watch.look(), watch.look()] == [0, 0]
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda folder: types.SimpleNamespace(free=0))
        assert [watch.look(), watch.look()] == [0, 0]
    assert watch.made.sources == () and not list(watch.made.folder.iterdir())
    assert [watch.look(), watch.look()] == [1, 0]
    assert watch.made.sources[0].problem == ""
    (said,) = caplog.messages
    assert said.endswith("is tried again: No space left on device") and "DOE" not in said


def test_one_file_that_is_refused_takes_no_other_with_it_and_leaves_nothing(watch, inbox, monkeypatch):
    monkeypatch.setattr(sources, "FILE_LIMIT", 2)
    (inbox / "a.png").write_bytes(png(1))
    zip_of({f"{k}.png": png(k) for k in range(3)}, inbox / "many.zip")
    (inbox / os.fsdecode(b"caf\xe9.png")).write_bytes(png(4))  # a name of another encoding
    watch.look()
    assert [watch.look(), watch.look()] == [3, 0]
    assert sorted(source.problem for source in watch.made.sources) == [
        "",
        "",
        "3 files at once; at most 2. Send them in parts.",
    ]
    assert len([path for path in watch.made.folder.rglob("*") if path.is_file()]) == 2


def test_what_is_not_a_folder_is_refused(inbox, tmp_path, lists):
    with pytest.raises(IntakeError, match="is not a folder"):
        lists.watch(inbox / "nowhere", "phantom")
    assert not list(tmp_path.glob("second-read-list-*"))


def test_the_watched_list_grows_is_read_and_stays(lists, inbox, monkeypatch):
    monkeypatch.setattr(watching.Watch.run, "__defaults__", (0.05,))
    (inbox / "a.png").write_bytes(png(1))
    stop = lists.watch(inbox, "phantom")
    found = lists.get(lists.watched)

    def wait_for(count):
        deadline = time.monotonic() + 60
        while (len(found.rows), found.state) != (count, "watching") and time.monotonic() < deadline:
            time.sleep(0.02)
        assert (len(found.rows), found.state) == (count, "watching")

    wait_for(1)
    (inbox / "b.txt").write_text("hello")
    (inbox / "c.png").write_bytes(png(2))
    wait_for(3)
    assert [row.number for row in found.rows] == [1, 2, 3]
    assert [bool(row.problem) for row in found.rows] == [False, True, False]
    assert lists.open_case(lists.watched, 3)[1] == found.rows[2].sha256
    lists.cancel(lists.watched)
    lists.drop(lists.watched)
    assert lists.get(lists.watched) is found and found.folder.is_dir()
    key = lists.start([str(inbox / "c.png")], "phantom")  # one's own list beside it
    wait(lists.get(key))
    stop.set()


def test_the_watch_ends_when_it_is_told(watch):
    stop = threading.Event()
    stop.set()
    watch.run(lambda: None, stop)
    assert watch.made.sources == ()


def test_models_that_join_meanwhile_read_what_comes_next(lists, inbox, monkeypatch):
    panels, used, stop = ["first", "second"], [], threading.Event()

    def fill(panel):
        used.append(panel)
        (inbox / "b.png").write_bytes(png(2))

    def wait(pause):
        return stop.set() if len(used) == 2 else None

    monkeypatch.setattr(lists._room.panels, "get", lambda task: panels.pop(0))
    watch = Watch(inbox, Worklist("phantom", Taken([], 0), inbox.parent))
    monkeypatch.setattr(watch.made, "fill", fill)
    monkeypatch.setattr(stop, "wait", wait)
    (inbox / "a.png").write_bytes(png(1))
    lists._watch(watch, stop)
    assert used == ["first", "second"]
