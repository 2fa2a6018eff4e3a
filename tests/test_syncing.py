"""The ledger's copy on the Hub, with the real client: what goes up, what comes back, and what the page says of it."""

import csv
import io
import os
import shutil
import subprocess
import sys
import tempfile
import time

import pytest

import dashboard
from reading_room import app as apps
from reading_room import flagging, panels, review, review_page, syncing
from reading_room.desk import Desk, Setting
from reading_room.room import Room
from reading_room.scratch import sweep
from reading_room.syncing import HubCopy
from tests.hub_server import TOKEN, Blob, Fault, open_hub
from tests.test_languages import Texts, knows
from xray_models.flags import Flag, Ledger, read_flags
from xray_models.hub_client import HashDiffers, HubError, create_repository
from xray_models.images import encode_png, from_pixels, read_image
from xray_models.spaces import FLAGS_VARIABLE
from xray_models.tasks import load_task

TASK = load_task("phantom")
REPO = "me/flags"


@pytest.fixture
def hub(tmp_path, monkeypatch):
    with open_hub(monkeypatch, tmp_path / "cache") as hub:
        yield hub


def put(ledger, image, label="Effusion", **fields):
    return ledger.append(Flag("AB", "phantom", label, image.sha256, **fields), image, TASK)


def there(hub):
    return hub.repos["dataset", REPO]


def count_commits(hub):
    return len(hub.seen("POST", f"/datasets/{REPO}/commit/"))


def ids_there(hub):
    files = [blob.content.decode() for path, blob in there(hub).files.items() if path.endswith("metadata.csv")]
    return sorted(row["flag_id"] for text in files for row in csv.DictReader(io.StringIO(text)))


def ids_here(ledger):
    return sorted(read_flags(ledger.root)["flag_id"])


def cut(ledger, rows):
    """The ledger's file as it was when it had fewer rows; its writer is gone."""
    path = ledger.folder / "metadata.csv"
    return path, b"".join(path.read_bytes().splitlines(keepends=True)[: rows + 1])


def let_go(ledger):
    """What a process that ends does to its files."""
    os.close(ledger._file)
    ledger._file = None


# --- up ---


def test_a_flag_reaches_a_private_data_set_that_loads_as_images_with_their_new_labels(hub, ledger, image, tmp_path):
    from datasets import load_dataset

    other = from_pixels(image.pixels[:90])
    put(ledger, image, "Effusion", comment='two lines,\n"quoted"')
    put(ledger, other, "Normal")
    (ledger.folder / "notes.txt").write_text("not of the ledger")
    HubCopy(ledger, REPO).update()
    assert there(hub).private
    name = ledger.folder.name
    expected = {f"{name}/metadata.csv", f"{name}/{image.sha256}.png", f"{name}/{other.sha256}.png"}
    assert set(there(hub).files) - {".gitattributes"} == expected
    for path, blob in there(hub).files.items():
        (tmp_path / "data" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "data" / path).write_bytes(blob.content)
    rows = load_dataset("imagefolder", data_dir=str(tmp_path / "data"), cache_dir=str(tmp_path / "hf"))["train"]
    assert [(row["corrected_label"], row["image"].size) for row in rows] == [
        ("Effusion", image.pixels.shape[::-1]),
        ("Normal", other.pixels.shape[::-1]),
    ]


def test_rounds_without_a_new_row_make_no_commit_and_ask_nothing(hub, ledger, image):
    copy = HubCopy(ledger, REPO)
    put(ledger, image)
    copy.update()
    asked = len(hub.requests)
    copy.update()
    assert (count_commits(hub), len(hub.requests)) == (1, asked)
    put(ledger, image, "Normal")
    copy.update()
    assert count_commits(hub) == 2
    assert len(hub.seen("POST", "/lfs/objects/batch")) == 1  # the image that is there is not offered again
    assert ids_there(hub) == ids_here(ledger)


def test_half_a_row_stays_here_until_it_is_whole(hub, ledger, image):
    put(ledger, image)
    path = ledger.folder / "metadata.csv"
    whole = path.read_bytes()
    line = whole.splitlines(keepends=True)[1].replace(b"flag-", b"next-")
    copy = HubCopy(ledger, REPO)
    path.write_bytes(whole + line[:-40])
    copy.update()
    assert there(hub).files[f"{path.parent.name}/metadata.csv"].content == whole
    path.write_bytes(whole + line)
    copy.update()
    assert there(hub).files[f"{path.parent.name}/metadata.csv"].content == whole + line


def test_a_busy_hub_is_asked_again_and_nothing_is_lost(hub, ledger, image):
    hub.faults = [
        Fault("POST", "/api/repos/create", status=503),
        Fault("GET", "/tree/", status=429, headers={"Retry-After": "17"}),
        Fault("PUT", "/lfs/", status=500),
        Fault("POST", "/commit/", status=503, times=2),
    ]
    put(ledger, image)
    HubCopy(ledger, REPO).update()
    assert not any(fault.times for fault in hub.faults) and max(hub.waits) >= 17
    assert ids_there(hub) == ids_here(ledger)


def test_a_round_that_fails_is_said_once_and_the_next_one_makes_up_for_it(hub, ledger, image, caplog):
    copy = HubCopy(ledger, REPO)
    row = put(ledger, image, comment="Mrs Smith")
    hub.faults = [Fault("POST", "/commit/", status=503, times=10)]
    for _ in range(2):
        copy._attempt()
    assert "answered 503 for 'me/flags', again and again" in copy.reason
    assert copy.awaits(copy.render(row)) and "not on the Hub yet <small>the Hub answered 503" in copy.render(row)
    said = [record.getMessage() for record in caplog.records if record.getMessage().startswith("flags stay")]
    assert len(said) == 1
    assert not any(word in caplog.text for word in (TOKEN, "Smith", image.sha256))
    copy._attempt()
    assert copy.reason == "" and ids_there(hub) == [row]
    assert "> · on the Hub<" in copy.render(row)


def test_without_a_token_the_reason_names_the_fix(hub, ledger, image, monkeypatch):
    monkeypatch.delenv("HF_TOKEN")
    put(ledger, image)
    copy = HubCopy(ledger, REPO)
    copy._attempt()
    assert "hf auth login" in copy.reason


def test_flags_do_not_go_where_others_see_them(hub, ledger, image):
    copy = HubCopy(ledger, REPO)
    put(ledger, image)
    create_repository(copy.api, REPO, public=True, repo_type="dataset")
    with pytest.raises(HubError, match="is public, and flags are not"):
        copy.update()
    assert count_commits(hub) == 0


def test_a_part_that_is_broken_keeps_no_other_back(hub, ledger, image):
    row = put(ledger, image)
    (ledger.root / "by-hand").mkdir()
    (ledger.root / "by-hand" / "metadata.csv").write_text("file_name,flag_id\n../../x.png,flag-1\n")
    copy = HubCopy(ledger, REPO)
    with pytest.raises(HubError, match=r"by-hand/metadata.csv is not a file of the flag ledger"):
        copy.update()
    assert ids_there(hub) == [row] and not copy.awaits(copy.render(row))


def test_a_part_goes_up_from_its_writer_or_once_that_is_gone(hub, tmp_path, ledger, image):
    row = put(ledger, image)
    other = Ledger(ledger.root)
    own = put(other, image)
    copy = HubCopy(other, REPO)
    copy.update()
    assert ids_there(hub) == [own]
    let_go(ledger)
    copy.update()
    assert ids_there(hub) == sorted([own, row])


def test_many_images_go_in_several_commits_and_their_rows_in_the_last(hub, ledger, image, monkeypatch):
    monkeypatch.setattr(syncing, "_AT_ONCE", 2)
    for height in (60, 70, 80, 90, 100):
        put(ledger, from_pixels(image.pixels[:height]))
    HubCopy(ledger, REPO).update()
    held = [sorted(path[-4:] for path in files) for files in there(hub).commits.values()]
    assert [files.count(".png") for files in held] == [0, 2, 4, 5]
    assert [files.count(".csv") for files in held] == [0, 0, 0, 1]


# --- down ---


def test_an_empty_folder_gets_the_rows_back(hub, ledger, image):
    rows = [put(ledger, image), put(ledger, from_pixels(image.pixels[:90]), comment="ünï, \n"), put(ledger, image)]
    HubCopy(ledger, REPO).update()
    before = read_flags(ledger.root).drop(columns="path")
    shutil.rmtree(ledger.root)
    again = Ledger(ledger.root)
    HubCopy(again, REPO).update()
    assert read_flags(again.root).drop(columns="path").equals(before)
    assert ids_here(again) == sorted(rows)
    assert len(hub.seen("POST", "/preupload/")) == 1  # what came from there is not offered back
    found = read_flags(again.root).iloc[0]
    assert read_image(found["path"]).sha256 == found["image_sha256"]
    assert not list(again.root.rglob("*.draft"))


def test_what_is_fetched_lies_where_a_later_process_sweeps(hub, ledger, image, tmp_path, monkeypatch):
    put(ledger, image)
    HubCopy(ledger, REPO).update()
    shutil.rmtree(ledger.root)
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    with monkeypatch.context() as killed:
        killed.setattr(os, "getpid", lambda: dead.pid)
        killed.setattr(shutil, "rmtree", lambda *_, **__: None)  # before it could tidy up
        HubCopy(Ledger(ledger.root), REPO).update()
    assert list(scratch.rglob("*.png"))
    sweep()
    assert not list(scratch.iterdir())


def test_rows_of_two_machines_meet_on_both(hub, tmp_path, image):
    one, two = (Ledger(tmp_path / name) for name in ("one", "two"))
    first, second = put(one, image), put(two, image, "Normal")
    HubCopy(one, REPO).update()
    HubCopy(two, REPO).update()
    assert ids_there(hub) == ids_here(two) == sorted([first, second])
    let_go(one)
    HubCopy(Ledger(one.root), REPO).update()
    assert ids_here(one) == sorted([first, second]) and count_commits(hub) == 2


@pytest.mark.parametrize("side", ["here", "there"])
def test_the_longer_file_counts(hub, ledger, image, side):
    rows = [put(ledger, image), put(ledger, image, "Normal")]
    HubCopy(ledger, REPO).update()
    let_go(ledger)
    path, short = cut(ledger, 1)
    whole = path.read_bytes()
    if side == "there":
        path.write_bytes(short)
    else:
        repo = there(hub)
        repo.commit(repo.files | {f"{path.parent.name}/metadata.csv": Blob(short, False)})
    copy = HubCopy(Ledger(ledger.root), REPO)
    copy.update()
    copy.update()
    assert ids_there(hub) == ids_here(ledger) == sorted(rows)
    assert path.read_bytes() == whole


def test_a_file_with_rows_of_its_own_on_both_sides_loses_none(hub, ledger, image):
    other = from_pixels(image.pixels[:90])
    both, mine = put(ledger, image), put(ledger, image, "Normal")
    HubCopy(ledger, REPO).update()
    let_go(ledger)
    path, short = cut(ledger, 1)
    theirs = Ledger(ledger.root.with_name("theirs"))
    extra = put(theirs, other, "Nodule", comment='a, "b"\nc')
    line = (theirs.folder / "metadata.csv").read_bytes().split(b"\n", 1)[1]
    repo, name = there(hub), path.parent.name
    repo.commit(
        repo.files
        | {
            f"{name}/metadata.csv": Blob(short + line, False),
            f"{name}/{other.sha256}.png": Blob(encode_png(other), True),
        }
    )
    HubCopy(Ledger(ledger.root), REPO).update()
    assert ids_there(hub) == ids_here(ledger) == sorted([both, mine, extra])
    found = read_flags(ledger.root).set_index("flag_id").loc[extra]
    assert (found["comment"], read_image(found["path"]).sha256) == ('a, "b"\nc', other.sha256)
    commits = count_commits(hub)
    HubCopy(Ledger(ledger.root), REPO).update()
    assert count_commits(hub) == commits


def test_what_arrives_changed_or_is_no_ledger_is_not_taken(hub, ledger, image):
    put(ledger, image)
    HubCopy(ledger, REPO).update()
    shutil.rmtree(ledger.root)
    hub.faults = [Fault("GET", "/storage/", corrupt=True)]
    copy = HubCopy(Ledger(ledger.root), REPO)
    with pytest.raises(HashDiffers, match="did not arrive as the Hub lists it"):
        copy.update()
    assert ids_here(ledger) == []
    copy.update()
    assert len(ids_here(ledger)) == 1


def test_a_file_of_others_in_the_data_set_is_left_out_and_keeps_no_flag_from_it(hub, ledger, image, caplog):
    HubCopy(ledger, REPO).update()
    repo = there(hub)
    repo.commit(repo.files | {"data/metadata.csv": Blob(b"file_name,text\n../x.png,words\n", False)})
    put(ledger, image)
    HubCopy(ledger, REPO).update()
    assert "data/metadata.csv of me/flags is not a file of the flag ledger" in caplog.text
    assert not (ledger.root / "data").exists()
    assert {path for path in there(hub).files if path.endswith("metadata.csv")} == {
        "data/metadata.csv",
        f"{ledger.folder.name}/metadata.csv",
    }


# --- the thread ---


def test_closing_sends_what_is_left_and_waits_no_longer_than_it_says(hub, ledger, image, monkeypatch):
    copy = HubCopy(ledger, REPO)
    copy.begin()
    row = put(ledger, image)
    copy.close()
    assert ids_there(hub) == [row]
    monkeypatch.setattr(copy, "update", lambda: syncing.threading.Event().wait(5))
    started = time.monotonic()
    copy.begin(0.1)
    copy.close(0.1)
    assert time.monotonic() - started < 3


def test_rounds_go_on_after_an_error_that_nobody_foresaw(ledger, monkeypatch):
    copy, seen = HubCopy(ledger, REPO), []

    def update():
        seen.append(1)
        if len(seen) < 3:
            raise RuntimeError("with something of a row in it")

    monkeypatch.setattr(syncing, "PERIOD", 0.01)
    monkeypatch.setattr(copy, "update", update)
    copy.begin()
    assert "RuntimeError" in copy.reason and "something" not in copy.reason
    deadline = time.monotonic() + 5
    while len(seen) < 3 and time.monotonic() < deadline:
        syncing.threading.Event().wait(0.01)
    copy.close()
    assert len(seen) >= 3 and copy.reason == ""


# --- the page and the commands ---


def test_what_the_page_says_has_a_turkish_phrase(hub, ledger, image, monkeypatch):
    def say(copy, fault=None):
        hub.faults = [fault] if fault else []
        copy._attempt()
        return copy.render("flag-1")

    put(ledger, image)
    copy = HubCopy(ledger, REPO)
    said = [copy.render("flag-1")]
    said += [say(copy, Fault("POST", "/repos/create", status=status, times=9)) for status in (401, 403, 503)]
    (ledger.root / "x").mkdir()
    (ledger.root / "x" / "metadata.csv").write_text("a\nb\n")
    said.append(say(copy))
    there(hub).private = False
    said.append(say(HubCopy(Ledger(ledger.root), REPO)))
    there(hub).private = True
    shutil.rmtree(ledger.root)
    said.append(say(HubCopy(Ledger(ledger.root), REPO), Fault("GET", "/storage/", corrupt=True)))
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    said.append(say(HubCopy(ledger, REPO)))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    said.append(say(HubCopy(ledger, REPO)))
    monkeypatch.setattr(copy, "update", lambda: 1 / 0)
    said.append(say(copy))
    copy._rows = frozenset(["flag-1"])
    said.append(copy.render("flag-1"))
    assert len(set(said)) == len(said) == 11
    texts = [text.strip(" ·") for html in said for text in Texts(html).found]
    assert [text for text in texts if not knows(text)] == []


@pytest.fixture
def desk(untrained, tmp_path, monkeypatch):
    monkeypatch.setattr(panels, "load_tasks", lambda: {"phantom": untrained})
    return Desk(Room(tmp_path / "flags"))


def test_the_page_tells_saved_here_from_on_the_hub(hub, desk, image, tmp_path):
    (tmp_path / "x.png").write_bytes(encode_png(image))
    shown = list(desk.read_upload(str(tmp_path / "x.png"), Setting("phantom", who="ann")))[-1].shown
    fields = {"corrected_label": "Nodule", "confidence": 0.5, "reason": "wrong label", "reader": "AB", "comment": ""}
    said, flag_id = flagging.save_flag(desk, shown, fields, "", "ann")
    assert said.endswith(f"Saved as <b>Nodule</b> · {flag_id}</p>")
    desk.room.hub_copy = copy = HubCopy(desk.room.ledger, REPO)
    said, flag_id = flagging.save_flag(desk, shown, fields, "", "ann")
    assert f" · {flag_id}<span" in said and said.endswith("> · here, on the Hub in ≤ 5 min</span></p>")
    assert copy.awaits(said) and copy.renew(said) == said
    copy.update()
    assert not copy.awaits(said)
    assert copy.renew(said) == said.replace("here, on the Hub in ≤ 5 min", "on the Hub")
    back = flagging.undo_flag(desk, shown, flag_id, "ann")
    assert back.endswith("> · here, on the Hub in ≤ 5 min</span></p>") and copy.awaits(back)
    copy.update()
    assert copy.renew(back).endswith("> · on the Hub</span></p>")
    _, flag_id = flagging.save_flag(desk, shown, fields, "", "ann")
    said, notice, count, comment = review_page._say(
        desk.room, lambda: review.answer(desk.room, flag_id, "accepted", "Chief", ""), "Accepted", 1
    )
    assert said == notice and count == 2 and copy.awaits(said)
    copy.update()
    assert copy.renew(said).endswith("> · on the Hub</span></p>")
    assert syncing.PERIOD < 60 * syncing.MINUTES


def test_nothing_is_asked_unless_told_and_a_space_tells_it(hub, monkeypatch, tmp_path, untrained):
    monkeypatch.delenv(FLAGS_VARIABLE, raising=False)
    assert dashboard.parse([]).sync is None
    monkeypatch.setenv(FLAGS_VARIABLE, "")
    assert dashboard.parse([]).sync is None
    monkeypatch.setenv(FLAGS_VARIABLE, "me/room-flags")
    assert dashboard.parse([]).sync == "me/room-flags"
    assert dashboard.parse(["--sync", REPO]).sync == REPO
    monkeypatch.setattr(panels, "load_tasks", lambda: {"phantom": untrained})
    plain, synced = (apps.build_app(tmp_path / "flags", "phantom", sync=sync) for sync in (None, REPO))
    assert plain.room.hub_copy is None and synced.room.hub_copy.repo == REPO
    assert len(synced.fns) > len(plain.fns)
    assert not hub.requests


@pytest.mark.parametrize("name", ["flags", "a/b/c", "me/fl ags"])
def test_a_name_that_cannot_be_is_a_sentence(name, tmp_path, capsys):
    assert dashboard.main(["--task", "bone", "--flags", str(tmp_path), "--sync", name]) == 2
    assert repr(name) in capsys.readouterr().err
