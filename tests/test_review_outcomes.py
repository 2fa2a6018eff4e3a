"""What comes of flags: exports that hold, relabels that training reads, commands that can be typed."""

import csv
import io
import json
import shlex

import pandas as pd

from reading_room import relabels, review, review_view
from reading_room.room import Room
from tests.flag_samples import IMAGES, TASK, add, opinion
from xray_models import flags as ledgers
from xray_models import phantom, train
from xray_models.corrections import relabel
from xray_models.file_names import hash_name
from xray_models.layouts import list_label_folders
from xray_models.tasks import load_task


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
    listed["sha256"] = [read_image(path).sha256 for path in listed["path"]]
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


def test_retraining_says_what_nobody_has_decided(ledger):
    add(ledger, IMAGES[0], "Effusion", consensus_label="Normal")
    standing = relabels.list_relabels(review.load_flags(ledger.root), "phantom")
    html = review_view.render_retraining(standing, ["python -m x --a '<b>'"])
    assert "1 of them nobody has decided yet" in html and "&lt;b&gt;" in html
    assert "nothing new" in review_view.render_retraining(standing.iloc[:0], [])
