import csv
import errno
import io
import json
import os
import shutil
import signal
import subprocess
import sys
from unittest import mock

import pytest

from xray_models import flags, phantom
from xray_models.file_names import hash_name
from xray_models.flags import Flag, FlagError, Ledger, LedgerError
from xray_models.images import from_pixels, read_image
from xray_models.rows import is_written
from xray_models.tasks import TaskError, load_task

TASK = load_task("phantom")


def flag(image, **changes):
    fields = {"reader": "AB", "task": "phantom", "corrected_label": "Nodule", "image_sha256": image.sha256}
    return Flag(**{**fields, **changes})


def load_as_data_set(folder, tmp_path):
    from datasets import load_dataset

    return load_dataset("imagefolder", data_dir=str(folder), cache_dir=str(tmp_path / "hf"))["train"]


def test_a_flag_comes_back_whole(tmp_path, image):
    opinions = {"resnet18": {"label": "Normal", "probs": {"Normal": 0.75}, "revision": "abc"}}
    boxes = ({"x": 3.0, "y": 4.0, "width": 10.0, "height": 12.5},)
    comment = 'two lines,\n"quoted"; ünïcode'
    given_flag = flag(image, comment=comment, opinions=opinions, regions=boxes, confidence=0.8, disagreement=0.25)
    flag_id = Ledger(tmp_path).append(given_flag, image, TASK)
    row = flags.read_flags(tmp_path).iloc[0]
    assert row["flag_id"] == flag_id
    assert row["comment"] == comment
    assert json.loads(row["opinions"]) == opinions
    assert json.loads(row["regions"]) == [dict(boxes[0])]
    assert float(row["confidence"]) == 0.8
    assert row["created_at"].endswith("+00:00")
    assert read_image(row["path"]).sha256 == image.sha256 == row["image_sha256"]


def test_of_one_id_what_was_written_first_counts_wherever_it_lies(tmp_path, image):
    early, late = Ledger(tmp_path), Ledger(tmp_path)
    early.folder, late.folder = tmp_path / "1", tmp_path / "2"
    late.append(flag(image, flag_id="flag-1", comment="first"), image, TASK)
    early.append(flag(image, flag_id="flag-1", comment="in its place"), image, TASK)
    assert list(flags.read_flags(tmp_path)["comment"]) == ["first"]


def test_the_ledger_is_a_data_set(tmp_path, image):
    """Several processes' folders, empty and number-like texts, one image flagged twice."""
    other = from_pixels(phantom.draw_phantom("Normal", 9, 96).pixels)
    first, second = Ledger(tmp_path / "flags"), Ledger(tmp_path / "flags")
    first.append(flag(image, comment="", reader="007"), image, TASK)
    second.append(flag(image, comment="12", reader="NA", corrected_label="Normal", disagreement=0.5), image, TASK)
    second.append(flag(other, comment="seen", corrected_label="Effusion"), other, TASK)
    rows = load_as_data_set(tmp_path / "flags", tmp_path)
    assert sorted(rows["corrected_label"]) == ["Effusion", "Nodule", "Normal"]
    assert rows[0]["image"].size in ((160, 160), (96, 96))
    assert sorted(flags.read_flags(tmp_path / "flags")["reader"]) == ["007", "AB", "NA"]


def test_the_same_id_twice_is_one_flag(tmp_path, image):
    ledger = Ledger(tmp_path)
    for _ in range(2):
        assert ledger.append(flag(image, flag_id="flag-1"), image, TASK) == "flag-1"
    read = flags.read_flags(tmp_path)
    assert list(read.index) == [0]
    assert list(read.columns) == [*flags.FIELDS, "path"]


@pytest.mark.parametrize(
    ("changes", "error", "says"),
    [
        ({"corrected_label": "nodule"}, TaskError, "Valid: Normal"),
        ({"comment": "x" * 4001}, FlagError, "at most 4000"),
        ({"image_sha256": "0" * 64}, FlagError, "another image"),
        ({"decides": "x" * 140_000}, FlagError, "at most 100000"),
        ({"seconds": -1.0}, FlagError, "seconds is -1.0; it must be 0 or more"),
        ({"regions": ({"x": 0, "y": 0, "width": 0, "height": 5},)}, FlagError, "160 pixels wide and 160 high"),
        ({"regions": ({"x": -1, "y": 0, "width": 5, "height": 5},)}, FlagError, "lies in the image"),
        ({"regions": ({"x": 0, "y": 150, "width": 5, "height": 11},)}, FlagError, "lies in the image"),
    ],
)
def test_a_senseless_flag_is_refused_and_leaves_nothing(tmp_path, image, changes, error, says):
    with pytest.raises(error, match=says):
        Ledger(tmp_path / "flags").append(flag(image, **changes), image, TASK)
    assert not (tmp_path / "flags").exists()


def test_nothing_of_the_file_is_kept_but_pixels(tmp_path, image):
    name_hash = hash_name("MUELLER_ANNA_19700101.dcm")
    Ledger(tmp_path).append(flag(image, source_name_hash=name_hash), image, TASK)
    kept = b"".join(path.read_bytes() + path.name.encode() for path in tmp_path.rglob("*") if path.is_file())
    assert b"MUELLER" not in kept
    assert hash_name("MUELLER_ANNA_19700101.dcm") == name_hash != hash_name("x.dcm")


def test_a_full_disk_is_said_and_leaves_no_half_row(tmp_path, image, monkeypatch):
    ledger = Ledger(tmp_path)
    ledger.append(flag(image), image, TASK)
    real = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: real(descriptor, data[:20]))
    with pytest.raises(LedgerError, match="not saved"):
        ledger.append(flag(image, comment="lost"), image, TASK)
    monkeypatch.undo()
    ledger.append(flag(image, comment="kept"), image, TASK)
    assert list(flags.read_flags(tmp_path)["comment"]) == ["", "kept"]


@pytest.mark.parametrize(
    ("number", "advice"),
    [
        (errno.ENOSPC, "Free the disk and retry."),
        (errno.EDQUOT, "Free the disk and retry."),
        (errno.EACCES, "has to let it write"),
        (errno.EROFS, "has to let it write"),
        (errno.EIO, "Retry; if that fails as well"),
    ],
)
def test_what_to_do_fits_what_the_disk_says(tmp_path, image, monkeypatch, number, advice):
    ledger = Ledger(tmp_path / "flags")
    refuse = mock.Mock(side_effect=OSError(number, os.strerror(number)))
    monkeypatch.setattr(type(tmp_path), "mkdir", refuse)
    with pytest.raises(LedgerError, match=rf"^the flag is not saved: {os.strerror(number)}\. .*{advice}"):
        ledger.append(flag(image), image, TASK)
    refuse.assert_called_once()


def test_what_belongs_together_is_written_whole_or_not_at_all(tmp_path, image, monkeypatch):
    ledger = Ledger(tmp_path)
    ids = ledger.append_all([flag(image, comment="1"), flag(image, comment="2")], image, TASK)
    assert list(flags.read_flags(tmp_path)["flag_id"]) == ids
    with pytest.raises(TaskError, match="Unknown label"):
        ledger.append_all([flag(image), flag(image, corrected_label="x")], image, TASK)
    real = os.write
    monkeypatch.setattr(os, "write", lambda number, data: real(number, data[: data.index(b"\n") + 5]))
    with pytest.raises(LedgerError, match="the disk is full"):
        ledger.append_all([flag(image, comment="3"), flag(image, comment="4")], image, TASK)
    monkeypatch.undo()
    assert ledger.append(flag(image, comment="5"), image, TASK)
    assert list(flags.read_flags(tmp_path)["comment"]) == ["1", "2", "5"]


def test_rows_of_a_later_program_are_kept_and_told_once(tmp_path, image, caplog):
    ledger = Ledger(tmp_path)
    ledger.append(flag(image, comment="ours"), image, TASK)
    (tmp_path / "later").mkdir()
    later = tmp_path / "later" / "metadata.csv"
    later.write_text("file_name,flag_id,created_at,comment,mood,schema_version\nx.png,flag-9,2099,theirs,good,3\n")
    before = later.read_bytes()
    for _ in range(2):
        read = flags.read_flags(tmp_path)
        assert read["comment"].tolist() == ["ours", "theirs"]
        assert flags.list_later(read) == [3]
    Ledger(tmp_path)
    assert later.read_bytes() == before
    (said,) = (record.getMessage() for record in caplog.records)
    assert f"flags in {tmp_path} were written with version 3" in said and "knows version 1" in said
    assert "update this program" in said


def test_rows_of_this_version_and_of_none_are_not_later(tmp_path, image, caplog):
    Ledger(tmp_path).append(flag(image), image, TASK)
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "metadata.csv").write_text("file_name,flag_id\nx.png,flag-1\n")
    assert flags.list_later(flags.read_flags(tmp_path)) == []
    assert not caplog.records


def test_a_first_flag_that_the_disk_refuses_leaves_a_ledger_that_loads(tmp_path, image, monkeypatch):
    folder = tmp_path / "flags"
    Ledger(folder).append(flag(image, comment="one"), image, TASK)
    ledger = Ledger(folder)
    monkeypatch.setattr(os, "write", lambda *_: 0)
    with pytest.raises(LedgerError, match="not saved"):
        ledger.append(flag(image, comment="lost"), image, TASK)
    monkeypatch.undo()
    assert len(load_as_data_set(folder, tmp_path)) == 1
    ledger.append(flag(image, comment="two"), image, TASK)
    assert list(flags.read_flags(folder)["comment"]) == ["one", "two"]


def test_a_writers_file_is_locked_from_its_first_moment(tmp_path, image, monkeypatch):
    """Whoever looks whether a writer lives can neither keep it from writing nor find its file without a lock."""
    ledger, seen = Ledger(tmp_path), []

    def look(file, real=os.fsync):
        seen.extend(is_written(path) for path in tmp_path.glob("*/metadata.csv"))
        real(file)

    monkeypatch.setattr(os, "fsync", look)
    ledger.append(flag(image), image, TASK)
    assert seen and all(seen)


def test_the_export_cannot_run_as_a_formula(tmp_path, image):
    Ledger(tmp_path).append(flag(image, comment="=HYPERLINK(1)", reader="@x"), image, TASK)
    row = next(csv.DictReader(io.StringIO(flags.export_csv(tmp_path))))
    assert list(row) == flags.FIELDS  # and no number of the row before them
    assert row["comment"] == "'=HYPERLINK(1)"
    assert row["reader"] == "'@x"


WRITER = """
import sys
from pathlib import Path
from xray_models.flags import Flag, Ledger
from xray_models.images import from_pixels
from xray_models.tasks import load_task
import numpy as np
image = from_pixels(np.full((40, 40), int(sys.argv[2]), np.uint8))
ledger, task = Ledger(Path(sys.argv[1])), load_task("phantom")
for number in range(500):
    comment = "text, with \\n lines " * 200  # rows of several pages
    flag = Flag(reader=sys.argv[2], task="phantom", corrected_label="Nodule", image_sha256=image.sha256,
                comment=comment, flag_id=f"flag-{sys.argv[2]}-{number}")
    print(ledger.append(flag, image, task), flush=True)
"""


def test_two_processes_one_killed_lose_nothing_that_was_acknowledged(tmp_path):
    folder = tmp_path / "flags"
    start = [sys.executable, "-c", WRITER, str(folder)]
    killed, lives = (subprocess.Popen([*start, str(k)], stdout=subprocess.PIPE, text=True) for k in (1, 2))
    acknowledged = [killed.stdout.readline().strip() for _ in range(150)]
    os.kill(killed.pid, signal.SIGKILL)
    acknowledged += killed.stdout.read().split()
    acknowledged += lives.communicate(timeout=120)[0].split()
    assert killed.wait() == -signal.SIGKILL
    assert 650 <= len(acknowledged) < 1000
    rows = flags.read_flags(folder)
    assert set(acknowledged) <= set(rows["flag_id"])
    assert len(rows) - len(acknowledged) in (0, 1)  # one may be on the disk whose word did not get out
    assert not rows["flag_id"].duplicated().any()
    assert rows["comment"].map(len).eq(len("text, with \n lines " * 200)).all()
    Ledger(folder)  # mends what the killed process left
    assert len(load_as_data_set(folder, tmp_path)) == len(rows)


def test_a_row_is_appended_and_nothing_is_written_anew(tmp_path, image, monkeypatch):
    """So that a flag takes no longer in a large ledger than in a small one."""
    ledger = Ledger(tmp_path)
    ledger.append(flag(image), image, TASK)
    file = ledger.folder / "metadata.csv"
    inode, first = file.stat().st_ino, file.read_bytes()
    written = []
    monkeypatch.setattr(os, "write", lambda number, data, real=os.write: written.append(data) or real(number, data))
    ledger.append(flag(image), image, TASK)
    assert file.stat().st_ino == inode
    assert file.read_bytes() == first + b"".join(written)
    assert len(written) == 1 and written[0].count(image.sha256.encode()) == 2  # the row alone: no head, no earlier row


@pytest.mark.parametrize("lose", ["an editor", "a person"])
def test_a_flag_is_saved_where_it_can_be_read_though_its_file_was_replaced(lose, tmp_path, image):
    ledger = Ledger(tmp_path)
    kept = [ledger.append(flag(image, comment="before"), image, TASK)]
    table = ledger.folder / "metadata.csv"
    if lose == "an editor":  # which saves a copy and renames it
        table.with_suffix(".tmp").write_bytes(table.read_bytes())
        table.with_suffix(".tmp").rename(table)
    else:
        shutil.rmtree(ledger.folder)
        kept = []
    kept += [ledger.append(flag(image, comment=comment), image, TASK) for comment in ("after", "and then")]
    rows = flags.read_flags(tmp_path)
    assert list(rows["flag_id"]) == kept
    assert all(read_image(path).sha256 == image.sha256 for path in rows["path"])
    assert len(list(tmp_path.iterdir())) == (2 if lose == "an editor" else 1)


def test_a_table_that_is_not_utf8_any_more_is_named(tmp_path, image):
    ledger = Ledger(tmp_path)
    ledger.append(flag(image, reader="Müller"), image, TASK)
    table = ledger.folder / "metadata.csv"
    table.write_bytes(table.read_text("utf-8").encode("cp1252"))
    with pytest.raises(LedgerError, match=f"{table} cannot be read: .*Save it as UTF-8"):
        flags.read_flags(tmp_path)
