"""Worklists: what comes in is bounded, what comes out is ranked, and nothing of a file's name is kept."""

import struct
import tempfile
import threading
import time
import zipfile
from types import SimpleNamespace

import gradio as gr
import numpy as np
import pytest

from reading_room import panels, sources, worklists
from reading_room.intake import Cases, IntakeError
from reading_room.prints import Prints
from reading_room.room import Room
from reading_room.sources import take_files, unpack
from reading_room.wiring import Shared, Steps
from reading_room.worklist import Progress, Row, choose_rows
from reading_room.worklist_page import build_worklist_page
from reading_room.worklist_view import Choice, draw_list, find_step, list_steps, render_progress, render_step
from reading_room.worklists import Worklists
from xray_models import phantom
from xray_models.images import encode_png, from_pixels, read_image
from xray_models.panel import Panel
from xray_models.readings import Consensus, Reading
from xray_models.tasks import TaskError


def png(seed, label="Nodule"):
    return encode_png(from_pixels(phantom.draw_phantom(label, seed, 64).pixels))


def zip_of(files, path, **options):
    with zipfile.ZipFile(path, "w", **options) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


@pytest.fixture
def folder(tmp_path):
    own = tmp_path / "list"
    own.mkdir()
    return own


# --- files in ---


def test_files_and_zips_come_in_under_neutral_names(tmp_path, folder):
    packed = zip_of({"a/DOE.png": png(1), "__MACOSX/a": b"x", ".DS_Store": b"x", "a/": b""}, tmp_path / "DOE.zip")
    single = tmp_path / "ROE.png"
    single.write_bytes(png(2))
    taken = take_files([str(packed), str(single), str(tmp_path / ".hidden")], folder)
    read = list(unpack(taken.sources))
    assert [source.path.read_bytes() for source in read] == [png(1), png(2)]
    assert taken.aside == 3
    assert all(source.name_hash.startswith("name-") for source in read)
    assert len({source.name_hash for source in read}) == 2
    assert not any("OE" in path.name for path in folder.rglob("*"))


def test_an_upload_outlives_gradios_own_copy(tmp_path, folder):
    upload = tmp_path / "x.png"
    upload.write_bytes(png(1))
    (source,) = take_files([upload], folder).sources
    upload.unlink()
    assert source.path.read_bytes() == png(1)


@pytest.mark.parametrize("name", ["../../evil.png", "/etc/evil.png", "..\\evil.png", "C:\\evil.png"])
def test_no_name_in_a_zip_becomes_a_path(tmp_path, folder, name):
    taken = take_files([zip_of({name: png(1)}, tmp_path / "z.zip")], folder)
    (source,) = unpack(taken.sources)
    assert source.path.parent == folder
    assert source.path.is_file()
    assert [path.name for path in tmp_path.rglob("*evil*")] == []


def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path, folder, monkeypatch):
    bomb = zip_of({f"{k}.png": bytes(2**22) for k in range(4)}, tmp_path / "z.zip", compression=zipfile.ZIP_DEFLATED)
    assert bomb.stat().st_size < 2**16
    monkeypatch.setattr(sources, "BYTE_LIMIT", 2**23)
    with pytest.raises(IntakeError, match="Send them in parts"):
        take_files([bomb], folder)
    assert sum(path.stat().st_size for path in folder.rglob("*")) < 2**16


def test_a_zip_that_lies_about_a_size_gives_no_more_than_it_says(tmp_path, folder):
    path = zip_of({"a.png": bytes(2**20)}, tmp_path / "z.zip", compression=zipfile.ZIP_DEFLATED)
    data = bytearray(path.read_bytes())
    place = data.rindex(b"PK\x01\x02") + 24  # the unpacked size in the table of contents
    data[place : place + 4] = struct.pack("<I", 1000)
    path.write_bytes(data)
    (source,) = unpack(take_files([path], folder).sources)
    assert source.problem or source.path.stat().st_size <= 1000


def test_a_table_of_contents_that_would_fill_the_memory_is_refused(tmp_path, folder, monkeypatch):
    monkeypatch.setattr(sources, "_CONTENTS_LIMIT", 1000)
    with pytest.raises(IntakeError, match="far more than"):
        take_files([zip_of({f"{k}.png": b"" for k in range(50)}, tmp_path / "z.zip")], folder)


def test_too_many_files_are_refused(tmp_path, folder, monkeypatch):
    monkeypatch.setattr(sources, "FILE_LIMIT", 3)
    with pytest.raises(IntakeError, match="4 files at once; at most 3"):
        take_files([zip_of({f"{k}.png": b"" for k in range(4)}, tmp_path / "z.zip")], folder)


def test_what_cannot_be_unpacked_says_why(tmp_path, folder):
    locked = zip_of({"a.png": png(1)}, tmp_path / "locked.zip")
    data = bytearray(locked.read_bytes())
    data[data.rindex(b"PK\x01\x02") + 8] |= 1
    locked.write_bytes(data)
    broken = tmp_path / "broken.zip"
    broken.write_bytes(b"PK\x03\x04" + bytes(100))
    damaged = zip_of({"a.png": png(1)}, tmp_path / "damaged.zip")
    data = bytearray(damaged.read_bytes())
    data[60] ^= 0xFF
    damaged.write_bytes(data)
    problems = [source.problem for source in unpack(take_files([locked, broken, damaged], folder).sources)]
    assert "password" in problems[0]
    assert "damaged or cut off" in problems[1]
    assert "damaged" in problems[2]


@pytest.mark.parametrize("place", [b"PK\x01\x02", b"PK\x03\x04"])
def test_a_zip_whose_names_are_damaged_says_so(tmp_path, folder, place):
    data = bytearray(zip_of({"ü.png": png(1)}, tmp_path / "z.zip").read_bytes())
    data[data.index("ü".encode(), data.index(place))] = 0xFF
    (tmp_path / "z.zip").write_bytes(data)
    (source,) = unpack(take_files([tmp_path / "z.zip"], folder).sources)
    assert "damaged" in source.problem


def test_a_zip_of_a_later_version_says_so(tmp_path, folder):
    data = bytearray(zip_of({"a.png": png(1)}, tmp_path / "z.zip").read_bytes())
    data[data.index(b"PK\x01\x02") + 6] = 99
    (tmp_path / "z.zip").write_bytes(data)
    (source,) = unpack(take_files([tmp_path / "z.zip"], folder).sources)
    assert "Pack it again" in source.problem


def test_nothing_is_a_sentence(folder):
    with pytest.raises(IntakeError, match="no file to read"):
        take_files([], folder)


# --- reading ---


@pytest.fixture
def room(untrained):
    panel = Panel.load(untrained, device="cpu")
    panels = SimpleNamespace(tasks={"phantom": untrained}, get=lambda task: panel, default=lambda: "phantom")
    return SimpleNamespace(panels=panels, cases=Cases(), blinded=False, panel=panel)


@pytest.fixture
def lists(room, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    made = Worklists(room)
    yield made
    for key in list(made._lists):
        made.drop(key)


def wait(found, seconds=60):
    deadline = time.monotonic() + seconds
    while found.active and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not found.active


def test_a_list_is_read_ranked_and_opened(lists, room, tmp_path):
    files = {f"DOE{k}.png": png(k, phantom.LABELS[k % 4]) for k in range(11)} | {"notes.txt": b"hello"}
    again = dict.fromkeys(("again.png", *(f"later{k}.png" for k in range(10))), files["DOE3.png"])
    key = lists.start([zip_of({**files, **again}, tmp_path / "z.zip")], "phantom")
    found = lists.get(key)
    wait(found)
    assert found.state == "done"
    assert [row.number for row in found.rows] == list(range(1, 24))
    assert found.rows[11].problem.startswith("The file is not an image")
    assert [(row.twin, row.reading) for row in found.rows[12:]] == [(4, found.rows[3].reading)] * 11
    ranked = choose_rows(found.rows, {}, "all", "disagreement")
    amounts = [row.consensus.disagreement for row in ranked if row.consensus]
    assert amounts == sorted(amounts, reverse=True)
    assert ranked[-1].number == 12
    task, sha256 = lists.open_case(key, 3)
    case = room.cases.get(task, sha256)
    assert case.image.sha256 == found.rows[2].sha256 == from_pixels(phantom.draw_phantom("Nodule", 2, 64).pixels).sha256
    assert case.reading is found.rows[2].reading
    html = draw_list(found, "T", {sha256: ["A<B"]}, Choice(), opens=True, offer=Prints().offer).table
    assert "DOE" not in html
    assert "A&lt;B" in html
    assert html.count('data-action="open"') == 22
    assert html.count('<img src="prints/') == 22 and "data:" not in html


def test_the_readings_are_the_panels_own(lists, room, tmp_path):
    key = lists.start([zip_of({f"{k}.png": png(k) for k in range(3)}, tmp_path / "z.zip")], "phantom")
    wait(lists.get(key))
    for row, seed in zip(lists.get(key).rows, range(3), strict=True):
        direct = room.panel.read(from_pixels(phantom.draw_phantom("Nodule", seed, 64).pixels))
        assert row.consensus.disagreement == pytest.approx(direct.consensus.disagreement, abs=1e-5)
        assert row.consensus.label == direct.consensus.label


def test_a_list_can_be_cancelled_and_its_rows_stay(lists, room, tmp_path, monkeypatch):
    begun, go = threading.Event(), threading.Event()
    real = room.panel.read_many

    def slowly(images):
        begun.set()
        assert go.wait(30)
        return real(images)

    monkeypatch.setattr(room.panel, "read_many", slowly)
    key = lists.start([zip_of({f"{k}.png": png(k) for k in range(30)}, tmp_path / "z.zip")], "phantom")
    assert begun.wait(30)
    lists.get(key).cancel()
    go.set()
    wait(lists.get(key))
    assert lists.get(key).state == "cancelled"
    assert 0 < len(lists.get(key).rows) < 30


def test_only_who_knows_the_key_sees_a_list_and_clearing_removes_its_files(lists, tmp_path):
    key = lists.start([zip_of({"a.png": png(1)}, tmp_path / "z.zip")], "phantom")
    wait(lists.get(key))
    place = lists.get(key).folder
    assert len(key) >= 20
    assert lists.get("") is lists.get(None) is lists.get("guess") is None
    assert place.is_dir()
    assert place.stat().st_mode & 0o077 == 0
    lists.drop(key)
    assert not place.exists()
    with pytest.raises(IntakeError, match="not at hand any more"):
        lists.open_case(key, 1)


def test_a_list_that_nobody_looks_at_goes(lists, tmp_path, monkeypatch):
    monkeypatch.setattr(worklists, "KEEP", 0.3)
    key = lists.start([zip_of({"a.txt": b"x"}, tmp_path / "z.zip")], "phantom")
    deadline = time.monotonic() + 20
    while key in lists._lists and time.monotonic() < deadline:
        time.sleep(0.05)
    assert lists.get(key) is None
    assert not list(tmp_path.glob("second-read-list-*"))


def test_a_refused_list_changes_nothing(lists, tmp_path):
    key = lists.start([zip_of({"a.png": png(1)}, tmp_path / "z.zip")], "phantom")
    with pytest.raises(IntakeError):
        lists.start([], "phantom", replaces=key)
    with pytest.raises(TaskError, match="Unknown task"):
        lists.start([], "fantom")
    assert lists.get(key)
    assert len(list(tmp_path.glob("second-read-list-*"))) == 1


# --- what is shown ---


def row(number, label="a", disagreement=0.1, novelty=0.5, sha256="s"):
    said = Consensus(label, {label: 0.9, "z": 0.1}, {label: 2}, disagreement, (label,), novelty, 2, 2)
    return Row(number, sha256, "", Reading("t", {}, (), said))


ROWS = [row(1, "a", 0.1), row(2, "b", 0.5, novelty=1.5, sha256="f"), row(3, "a", 0.3), Row(4, problem="broken")]


@pytest.mark.parametrize(
    ("show", "numbers"),
    [
        ("all", [2, 3, 1, 4]),
        ("differ", [2, 3]),
        ("odd", [2]),
        ("flagged", [2]),
        ("unflagged", [3, 1]),
        ("unread", [4]),
        ("label:a", [3, 1]),
    ],
)
def test_filters(show, numbers):
    assert [r.number for r in choose_rows(ROWS, {"f": ["AB"]}, show, "disagreement")] == numbers


def test_the_most_doubtful_come_first():
    sure, torn, unsure = ({"a": p, "z": 1 - p} for p in (0.99, 0.5, 0.7))
    rows = [
        Row(number, "", "", Reading("t", {}, (), Consensus("a", probs, {"a": 2}, 0.1, ("a",), 0.5, 2, 2)))
        for number, probs in enumerate((sure, torn, unsure), start=1)
    ]
    assert [r.number for r in choose_rows(rows, {}, "all", "doubt")] == [2, 3, 1]
    assert [r.consensus.doubt for r in rows] == pytest.approx([0.0808, 1, 0.8813], abs=1e-4)


@pytest.mark.parametrize(("order", "numbers"), [("number", [1, 2, 3, 4]), ("consensus", [3, 1, 2, 4])])
def test_orders(order, numbers):
    assert [r.number for r in choose_rows(ROWS, {}, "all", order)] == numbers


def test_an_unknown_choice_is_refused():
    with pytest.raises(TaskError, match="Unknown order"):
        choose_rows(ROWS, {}, "all", "size")
    with pytest.raises(TaskError, match="Unknown filter"):
        choose_rows(ROWS, {}, "some", "number")


def test_progress_says_how_long_and_what_was_left_aside():
    html = render_progress(Progress("reading", 3, 10, 30.4), "T<", 2)
    assert "T&lt; · Reading: 3 of 10 · about 30 s left · 2 hidden files left aside" in html
    assert '<progress max="10" value="3" aria-label="files read">' in html


def test_a_page_holds_few_rows_and_one_too_far_is_mended():
    many = SimpleNamespace(rows=[row(k) for k in range(1, 101)], progress=lambda: Progress("done", 100, 100, None))
    many.aside, many.active = 0, False
    drawn = draw_list(many, "T", {}, Choice(page=9), opens=False, offer=str)
    assert drawn.page == 2
    assert drawn.table.count("<tr") == 1 + 20 == 1 + drawn.table.count("doubt 0.47<")
    assert "81 to 100 of 100" in drawn.place


def test_broken_files_are_rows_that_say_why():
    found = SimpleNamespace(
        rows=[Row(1, problem="<b>")], progress=lambda: Progress("done", 1, 1, None), aside=0, active=False
    )
    html = draw_list(found, "T", {}, Choice(), opens=True, offer=str).table
    assert "Not read</span> &lt;b&gt;" in html
    assert "data-action" not in html


def test_steps_go_from_case_to_case_as_the_table_shows_them():
    listed = SimpleNamespace(rows=ROWS)
    assert list_steps(listed, {}, "all", "disagreement") == [2, 3, 1]  # 4 is broken
    assert list_steps(listed, {"f": ["Ann"]}, "unflagged", "number") == [1, 3]
    assert list_steps(None, {}, "all", "doubt") == []
    numbers = [7, 3, 9]
    assert [find_step(numbers, None, 0, step) for step in (-1, 1)] == [None, 7]
    assert [find_step(numbers, 7, 0, step) for step in (-1, 1)] == [None, 3]
    assert [find_step(numbers, 3, 0, step) for step in (-1, 1)] == [7, 9]  # it moved since it was opened
    assert [find_step(numbers, 9, 2, step) for step in (-1, 1)] == [3, None]
    assert [find_step(numbers, 5, 1, step) for step in (-1, 1)] == [7, 3]  # 5 stood second and is filtered out now
    assert [find_step(numbers, 5, 8, step) for step in (-1, 1)] == [9, None]
    assert [find_step([], 5, 1, step) for step in (-1, 1)] == [None, None]


def test_the_first_page_is_told_which_case_it_shows():
    assert render_step([], 1, "s") == ""
    assert render_step([1], None, "").count("1 case<") == 2
    said = render_step([4, 1], 1, '"s')
    assert "Case 1 · 2 of 2" in said and "<span hidden>2 cases" in said and 'data-sha256="&quot;s"' in said
    assert "Case 5 · 1 other<" in render_step([1], 5, "s")


def furnish(room):
    """The room, and what the page needs of the first one."""
    steps = Steps(gr.HTML(), gr.Button(), gr.Button(), gr.BrowserState(), gr.Timer(1))
    return room, Shared(gr.Dropdown(), gr.Checkbox(), steps, gr.HTML())


def test_the_page_stands_in_any_blocks_and_is_closed_where_readers_are_blinded(tmp_path):
    opened = []
    with gr.Blocks() as app:
        build_worklist_page(*furnish(Room(tmp_path)), opened.append)
    assert isinstance(opened[0], gr.State)
    assert all(fn.api_visibility == "private" for fn in app.fns.values())
    with gr.Blocks() as app:
        build_worklist_page(*furnish(Room(tmp_path, blinded=True)))
    assert not app.fns


def test_whose_rows_are_drawn_for_a_reader_reads_their_images_blinded_no_more(untrained, tmp_path, monkeypatch):
    monkeypatch.setattr(panels, "load_tasks", lambda: {"phantom": untrained})
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    room = Room(tmp_path / "flags")
    with gr.Blocks() as app:
        build_worklist_page(*furnish(room))
    by_name = {fn.name: fn.fn for fn in app.fns.values() if fn.fn}
    (tmp_path / "a.png").write_bytes(png(1))
    key = by_name["start"]([str(tmp_path / "a.png")], "phantom", None)[1]
    seen, deadline = room.commitments.has_seen, time.monotonic() + 60

    def draw(reader, blinded=False):
        request = gr.Request(session_hash=reader)
        return by_name["draw"](key, "all", "doubt", 0, None, None, blinded, request)

    while "<tbody" not in draw("ann")[1] and time.monotonic() < deadline:
        time.sleep(0.05)
    sealed = draw("bob", blinded=True)
    assert [row.visible for row in sealed[3:5]] == [False, False]  # the files' row, too: nothing is listed
    sha256 = read_image(tmp_path / "a.png").sha256
    assert [seen(f"session {reader}", "phantom", sha256) for reader in ("ann", "bob")] == [True, False]


def test_a_batch_holds_few_large_images():
    from reading_room.worklist import _batch

    large = from_pixels(np.zeros((5000, 4000), np.uint8))
    small = from_pixels(np.zeros((40, 40), np.uint8))
    assert [len(part) for part in _batch(enumerate([large] * 5))] == [2, 2, 1]
    assert [len(part) for part in _batch(enumerate([small] * 20))] == [8, 8, 4]


def test_a_list_is_drawn_when_its_files_are_in_and_not_only_by_the_timer(tmp_path):
    with gr.Blocks() as app:
        build_worklist_page(*furnish(Room(tmp_path)))
    events = app.config["dependencies"]
    tick = next(event for event in events if event["targets"][0][1] == "tick")
    uploads = [event["id"] for event in events if event["targets"] and event["targets"][0][1] == "upload"]
    drawn = {event["trigger_after"]: event["outputs"] for event in events if event["trigger_after"] is not None}
    assert len(uploads) == 2
    assert all(drawn.get(upload) == tick["outputs"] for upload in uploads)
