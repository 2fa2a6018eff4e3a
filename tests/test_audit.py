import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from evaluation import audit
from evaluation.audit import audit_dataset, raise_alarms, write_audit
from xray_models import arrays
from xray_models.datasets import open_dataset
from xray_models.tasks import load_task


def picture(path: Path, seed: int) -> None:
    """Writes soft clouds, different for each seed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    cells = np.random.default_rng(seed).integers(0, 256, (8, 8), np.uint8)
    Image.fromarray(cells).resize((64, 64), Image.Resampling.BICUBIC).save(path)


@pytest.fixture(scope="module")
def scans(tmp_path_factory):
    """Brain scans as published, with every fault that an audit looks for."""
    folder, task = tmp_path_factory.mktemp("scans"), load_task("brain")
    for k, label in enumerate(task.labels):
        for i in range(30):
            picture(folder / ("Testing" if i < 6 else "Training") / label / f"{i}.png", 100 * k + i)
    training, testing = folder / "Training", folder / "Testing"
    Image.open(training / "glioma" / "10.png").resize((80, 80)).save(testing / "glioma" / "again.png")
    turned = Image.open(training / "notumor" / "10.png").transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    turned.save(testing / "notumor" / "mirrored.png")
    Image.open(training / "glioma" / "20.png").resize((70, 70)).save(training / "meningioma" / "torn.png")
    for label in ("meningioma", "pituitary"):
        shutil.copy(training / "glioma" / "25.png", training / label / "equal.png")
    return task, folder


@pytest.fixture(scope="module")
def audited(scans):
    task, folder = scans
    return audit_dataset(task, open_dataset(task, folder))


def test_twins_of_both_splits_are_counted_and_listed(audited):
    twins = audited.found["twins"]
    assert twins["official"] == {"test": 26, "copies": 2, "mirrored": 1, "related": 2, "unsplit": 0}
    assert twins["split"]["related"] == twins["split"]["copies"] == 0
    assert (twins["pairs"], twins["mirrored"]) == (3, 1)
    pairs = audited.twins.set_index("image")
    assert set(pairs.index) == {"Testing/glioma/again.png", "Testing/notumor/mirrored.png"}
    mirrored = pairs.loc["Testing/notumor/mirrored.png"]
    assert mirrored["twin"] == "Training/notumor/10.png"
    assert mirrored["mirrored"]
    assert (mirrored["image_official"], mirrored["twin_official"]) == ("test", "train")
    assert mirrored["image_split"] == mirrored["twin_split"]


def test_the_publishers_split_in_use_is_no_better(scans):
    task, folder = scans
    official = audit_dataset(task, open_dataset(task, folder, split="official")).found["twins"]
    assert official["split"] == {key: official["official"][key] for key in official["split"]}


def test_contradictions_are_listed_once(audited):
    table = audited.contradictions
    assert list(table.columns) == audit.CONTRADICTIONS
    identical = table[table["kind"] == "identical"]
    assert len(identical) == 2
    assert set(identical["image"]) | set(identical["other"]) == {
        "Training/glioma/25.png",
        "Training/meningioma/equal.png",
        "Training/pituitary/equal.png",
    }
    assert (table["image_label"] != table["other_label"]).all()
    near = table[table["kind"] == "near-copy"]
    assert near[["image", "other"]].to_numpy().tolist() == [["Training/glioma/20.png", "Training/meningioma/torn.png"]]
    torn = audited.found["contradictions"]
    assert (torn["identical_files"], torn["near_copies"], torn["mirrored"]) == (3, 1, 0)


def test_alarms_are_sentences_about_these_faults_and_no_others(audited):
    assert audited.found["alarms"] == [
        "In the publisher’s split 2 of 26 test images share a patient or a chain of near-copies with the training "
        "images; 2 have a near-copy there, 1 a mirrored one.",
        "Files that show exactly the same picture as a file of another label: 3.",
        "Pairs of near-copies under two labels: 1, of them mirrored: 0.",
    ]


def test_nothing_is_decoded_again(scans, monkeypatch):
    task, folder = scans
    manifest = open_dataset(task, folder)
    monkeypatch.setattr(arrays, "read_image", lambda path: pytest.fail(f"{path} was decoded again"))
    audit_dataset(task, manifest)


def test_results_are_plain_and_repeat(scans, audited, tmp_path):
    task, folder = scans
    write_audit(audited, tmp_path / "a")
    write_audit(audit_dataset(task, open_dataset(task, folder)), tmp_path / "b")
    for name in ("audit.json", "twins.csv", "contradictions.csv"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
        assert str(folder) not in (tmp_path / "a" / name).read_text()
    found = json.loads((tmp_path / "a" / "audit.json").read_text())
    assert found == json.loads(json.dumps(audited.found))
    assert set(found["shortcuts"]) == {"file_size", "image_size", "coding", "border", "exposure", "all"}
    assert set(found["shortcuts"]["border"]["auroc"]) == {"value", "low", "high"}


def test_hidden_margins_alarm_only_where_much_is_lost_for_certain(audited):
    def entry(value, high):
        return {
            "whole": {"value": 0.9},
            "hidden": {"value": 0.9 + value},
            "difference": {"value": value, "low": -1, "high": high},
        }

    hidden = {"models": {"first": entry(-0.3, -0.2), "second": entry(-0.04, -0.01), "third": entry(-0.3, 0.1)}}
    alarms = raise_alarms({**audited.found, "margins": audited.found["margins"] | {"hidden": hidden}})
    assert alarms[len(audited.found["alarms"]) :] == [
        "first is right in 60 % of the images with hidden margins, and in 90 % with them: it looks at the margins."
    ]


def test_all_together_alarms_only_where_no_family_does_alone(audited):
    entry = {
        "labels": {"a": {"value": 0.9, "low": 0.85, "high": 0.95}, "b": {}},
        "clearest": "a",
        "strongest": "bytes",
        "higher": True,
    }
    loud, silent = entry | {"alarm": True}, entry | {"alarm": False}
    quiet = {**audited.found, "margins": {**silent, "hidden": None}}
    before = len(audited.found["alarms"])
    for told, titles in (
        ({"border": loud, "all": loud}, ["Dark or bright border can tell a from b: AUROC 0.90"]),
        ({"border": silent, "all": loud}, ["All of these together can tell a from b: AUROC 0.90"]),
    ):
        said = raise_alarms({**quiet, "shortcuts": told})[before:]
        assert len(said) == 1
        assert said[0].startswith(titles[0])
        assert "Strongest sign: bytes, higher in a. What may lie behind it:" in said[0]


def test_phantoms_are_clean(phantoms):
    task = load_task("phantom")
    found = audit_dataset(task, open_dataset(task, phantoms)).found
    assert found["alarms"] == []
    assert not found["looked"]
    assert found["unjudged"] == list(task.labels)  # 15 images each: too few to say anything
    assert found["shortcuts"]["border"]["auroc"] == {"value": None, "low": None, "high": None}


def test_a_data_set_that_names_its_label_in_the_file_is_found_out(tmp_path):
    task = load_task("bone")
    for k, label in enumerate(task.labels):
        for i in range(25):
            picture(tmp_path / label / f"{i}.png", 100 * k + i)
            if label == "fractured":
                Image.open(tmp_path / label / f"{i}.png").save(tmp_path / label / f"{i}.jpg", quality=60)
                (tmp_path / label / f"{i}.png").unlink()
    found = audit_dataset(task, open_dataset(task, tmp_path)).found
    coding = found["shortcuts"]["coding"]
    assert coding["alarm"]
    assert coding["clearest"] == "fractured"
    assert any(alarm.startswith("File format and JPEG tables can tell fractured") for alarm in found["alarms"])


@pytest.mark.data
def test_the_published_brain_scans_are_found_wanting(published, tmp_path):
    source = published / "brain"
    if not (source / "extras_label_conflicts").is_dir():
        pytest.skip("the published data lack the brain scans, or their label conflicts")
    task = load_task("brain")
    for part in (source, source / "extras_label_conflicts"):
        for split in ("Training", "Testing"):
            for label in task.labels:
                if (part / split / label).is_dir():
                    shutil.copytree(part / split / label, tmp_path / split / label, dirs_exist_ok=True)
    found = audit_dataset(task, open_dataset(task, tmp_path)).found
    official = found["twins"]["official"]
    assert official["test"] > official["copies"] >= official["mirrored"] > official["test"] / 4
    assert found["contradictions"]["mirrored"] == 4  # the four pairs that its SOURCE.md lists
    assert found["shortcuts"]["image_size"]["clearest"] == "notumor"
    assert found["shortcuts"]["image_size"]["alarm"]


@pytest.mark.data
def test_the_published_fractures_contradict_themselves(published, tmp_path):
    source = published / "fracture" / "extras_label_conflicts"
    if not source.is_dir():
        pytest.skip("the published data lack the label conflicts of the fractures")
    task = load_task("fracture")
    task = dataclasses.replace(task, dataset=dataclasses.replace(task.dataset, layout="label_folders", root=""))
    shutil.copytree(source, tmp_path, dirs_exist_ok=True)
    for label in task.labels:
        picture(tmp_path / label / "sound.png", len(label))
    audited = audit_dataset(task, open_dataset(task, tmp_path))
    files = set(pd.concat([audited.contradictions["image"], audited.contradictions["other"]]))
    assert files == {str(path.relative_to(source)) for path in source.glob("*/*.jpg")}
    assert any("another label" in alarm or "two labels" in alarm for alarm in audited.found["alarms"])
