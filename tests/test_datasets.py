import dataclasses
import itertools
import logging
import os
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from xray_models import datasets, phantom
from xray_models.datasets import DataError, Twins, count_twins
from xray_models.grouping import NearCopies
from xray_models.tasks import TaskError, load_task


def picture(path: Path, seed: int) -> None:
    """Writes soft clouds, different for each seed; much quicker than a phantom."""
    path.parent.mkdir(parents=True, exist_ok=True)
    cells = np.random.default_rng(seed).integers(0, 256, (8, 8), np.uint8)
    Image.fromarray(cells).resize((64, 64), Image.Resampling.BICUBIC).save(path)


@pytest.fixture
def covid(tmp_path):
    """A small folder as the publisher lays it out, masks and all."""
    task = load_task("covid")
    for k, label in enumerate(task.labels):
        for i in range(10):
            picture(tmp_path / "COVID-19_Radiography_Dataset" / label / "images" / f"{label}-{i}.png", 100 * k + i)
            picture(tmp_path / "COVID-19_Radiography_Dataset" / label / "masks" / f"{label}-{i}.png", 7)
    return task, tmp_path


@pytest.fixture
def bones(tmp_path):
    """Eight pictures of each label, as JPEG."""
    task, seeds = load_task("bone"), itertools.count()
    for label in task.labels:
        for i in range(8):
            picture(tmp_path / "bones" / label / f"{label[0]}{i}.jpg", next(seeds))
    return task, tmp_path / "bones"


@pytest.fixture
def scans(tmp_path):
    """Brain scans in the publisher's Training and Testing, two of Testing seen in Training, one of them mirrored."""
    task, seeds = load_task("brain"), itertools.count()
    for label in task.labels:
        for split, count in (("Training", 10), ("Testing", 3)):
            for i in range(count):
                picture(tmp_path / split / label / f"{split[:2]}-{i}.png", next(seeds))
    source = Image.open(tmp_path / "Training" / "glioma" / "Tr-0.png")
    source.resize((80, 80)).save(tmp_path / "Testing" / "glioma" / "again.png")
    source = Image.open(tmp_path / "Training" / "notumor" / "Tr-0.png")
    source.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(tmp_path / "Testing" / "notumor" / "mirrored.png")
    return task, tmp_path


def test_masks_are_never_images(covid):
    task, folder = covid
    rows = datasets.open_dataset(task, folder).rows
    assert len(rows) == 40
    assert {Path(path).parent.name for path in rows["path"]} == {"images"}
    assert set(rows["split"]) == {"train", "validation", "test"}


def test_faults_are_listed_not_dropped(covid, tmp_path):
    task, folder = covid
    images = folder / "COVID-19_Radiography_Dataset" / "Normal" / "images"
    whole = (images / "Normal-0.png").read_bytes()
    (images / "cut.png").write_bytes(whole[: len(whole) // 2])
    (images / "text.jpg").write_text("not an image")
    (images / "empty.png").touch()
    (images / "moving.gif").write_bytes(b"GIF89a")
    (images / "gone.png").symlink_to(tmp_path / "nowhere.png")
    manifest = datasets.open_dataset(task, folder)
    datasets.write_manifest(manifest, tmp_path / "out")
    faults = pd.read_csv(tmp_path / "out" / "faults.csv")
    start = "COVID-19_Radiography_Dataset/Normal/images"
    assert set(faults["path"][faults["path"].str.startswith(start)]) == {
        f"{start}/{name}" for name in ("cut.png", "text.jpg", "empty.png", "moving.gif", "gone.png")
    }
    assert len(faults) == 5
    assert faults["reason"].notna().all()
    assert set(faults["label"]) == {"Normal"}
    listed = pd.read_csv(tmp_path / "out" / "manifest.csv")
    assert len(listed) == 40
    assert listed["path"].str.startswith("COVID-19_Radiography_Dataset/").all()


def test_no_name_of_a_listed_file_runs_as_a_formula(covid, tmp_path):
    manifest = datasets.open_dataset(*covid)
    named = manifest.rows.assign(path=[f"{manifest.folder}/={place}.png" for place in range(len(manifest.rows))])
    datasets.write_manifest(dataclasses.replace(manifest, rows=named), tmp_path)
    assert pd.read_csv(tmp_path / "manifest.csv")["path"].str.startswith("'=").all()


def test_a_folder_of_cut_off_jpegs_is_refused(bones):
    task, folder = bones
    for file in folder.glob("*/*.jpg"):
        file.write_bytes(file.read_bytes()[:-400])
    with pytest.raises(DataError, match=r"None of the 24 files in .* can be used\. The first: .*"):
        datasets.open_dataset(task, folder)


def test_one_picture_under_two_labels_is_a_fault_until_corrected(bones, tmp_path):
    task, folder = bones
    shutil.copy(folder / "healthy" / "h1.jpg", folder / "fractured" / "again.jpg")
    manifest = datasets.open_dataset(task, folder)
    assert sorted(Path(path).name for path in manifest.faults["path"]) == ["again.jpg", "h1.jpg"]
    (tmp_path / "new.csv").write_text("file_name,label\nagain.jpg,healthy\n")
    corrected = datasets.open_dataset(task, folder, relabels=tmp_path / "new.csv")
    assert corrected.faults.empty
    again = corrected.rows[corrected.rows["path"].str.endswith(("again.jpg", "h1.jpg"))]
    assert set(again["label"]) == {"healthy"}
    assert again["group"].nunique() == 1


def test_a_correction_moves_no_other_image_to_another_split(bones, tmp_path):
    task, folder = bones
    before = datasets.open_dataset(task, folder).rows
    for path in before["path"]:
        (tmp_path / "new.csv").write_text(f"file_name,label\n{Path(path).name},beyond repair\n")
        after = datasets.open_dataset(task, folder, relabels=tmp_path / "new.csv").rows
        assert list(after["split"]) == list(before["split"])


def test_a_correction_is_of_the_picture_and_one_that_tells_a_contradiction_apart_moves_nothing_else(bones, tmp_path):
    task, folder = bones
    shutil.copy(folder / "healthy" / "h1.jpg", folder / "healthy" / "twin.jpg")
    shutil.copy(folder / "healthy" / "h2.jpg", folder / "fractured" / "torn.jpg")
    before = datasets.open_dataset(task, folder).rows.set_index("path")["split"]
    (tmp_path / "new.csv").write_text("file_name,label\nh1.jpg,beyond repair\ntorn.jpg,healthy\n")
    after = datasets.open_dataset(task, folder, relabels=tmp_path / "new.csv").rows.set_index("path")
    assert after["split"][before.index].equals(before) and len(after) == len(before) + 2
    names = after.index.str.rsplit("/", n=1).str[-1]
    labels = dict(zip(names, after["label"], strict=True))
    assert labels["h1.jpg"] == labels["twin.jpg"] == "beyond repair"
    assert labels["h2.jpg"] == labels["torn.jpg"] == "healthy"
    assert set(after["split"][~after.index.isin(before.index)]) == {"train"}


def test_a_task_may_name_its_corrections(bones):
    task, folder = bones
    (folder / "fixed.csv").write_text("file_name,label\nh1.jpg,fractured\n")
    task = dataclasses.replace(task, dataset=dataclasses.replace(task.dataset, relabels="fixed.csv"))
    assert datasets.open_dataset(task, folder).rows["label"].value_counts()["fractured"] == 9


def test_missing_data_say_where_to_get_them(tmp_path, monkeypatch):
    monkeypatch.setenv("XRAY_DATA", str(tmp_path))
    with pytest.raises(DataError, match=r"tawsifurrahman.*--task phantom"):
        datasets.open_dataset(load_task("covid"))


def test_empty_folders_are_an_error(tmp_path):
    for label in load_task("bone").labels:
        (tmp_path / label).mkdir()
    with pytest.raises(DataError, match="no image in any of them"):
        datasets.open_dataset(load_task("bone"), tmp_path)


def test_publisher_splits_and_patients(tmp_path):
    task, seeds = load_task("pneumonia"), itertools.count()
    for split in ("train", "val", "test"):
        for label in task.labels:
            for i in range(3):
                name = f"person{7 + i}_{split}_{label}.png"
                picture(tmp_path / "chest_xray" / split / label / name, next(seeds))
    rows = datasets.open_dataset(task, tmp_path).rows
    assert len(rows) == 18
    assert set(rows["official"]) == {"train", "validation", "test"}
    patients = rows["path"].map(lambda path: Path(path).name.split("_")[0])
    together = rows.groupby(patients)["group"].agg(["nunique", "first"])
    assert list(together["nunique"]) == [1, 1, 1]  # one patient's images stay together,
    assert together["first"].nunique() == 3  # and apart from the others'
    official = datasets.open_dataset(task, tmp_path, split="official")
    assert (official.rows["split"] == official.rows["official"]).all()
    assert count_twins(official) == Twins(test=6, related=6, copies=0)


def test_the_publishers_split_counts_its_twins_and_cuts_validation_from_train(scans, caplog):
    task, folder = scans
    grouped = datasets.open_dataset(task, folder)
    assert count_twins(grouped).related == 0
    with caplog.at_level(logging.WARNING):
        official = datasets.open_dataset(task, folder, split="official")
    assert "of 14 test images 2 have a twin in train, 2 of them a near-copy" in caplog.text
    rows = official.rows
    assert (rows["split"][rows["official"] == "test"] == "test").all()
    assert set(rows["split"][rows["official"] == "train"]) == {"train", "validation"}
    held = rows[rows["split"] == "validation"]
    assert held["label"].value_counts().to_dict() == dict.fromkeys(task.labels, 1)  # 15 % of ten
    again = datasets.open_dataset(task, folder, split="official").rows
    assert (again["split"] == rows["split"]).all()


def test_an_official_train_has_what_was_cut_off_as_validation():
    rows = pd.DataFrame({"official": ["train", "train", "test", "test"], "group": [0, 1, 0, 2]})
    rows["split"] = ["validation", *rows["official"][1:]]
    copies = NearCopies(np.array([[0, 2]]), np.array([False]))
    manifest = datasets.Manifest(rows, rows[:0], Path(), copies, "official")
    assert count_twins(manifest) == Twins(test=2, related=1, copies=1)
    assert count_twins(dataclasses.replace(manifest, kind="grouped")) == Twins(test=2, related=0, copies=0)


def test_a_task_may_ask_for_the_publishers_split(scans):
    task, folder = scans
    task = dataclasses.replace(task, split=dataclasses.replace(task.split, kind="official"))
    assert len(datasets.open_dataset(task, folder).part("test")) == 14


def test_a_publisher_without_a_split_is_named(bones):
    task, folder = bones
    with pytest.raises(DataError, match="24 of 24 images .* are in no split of their publisher.*grouped"):
        datasets.open_dataset(task, folder, split="official")
    with pytest.raises(TaskError, match="Valid: grouped, official"):
        datasets.open_dataset(task, folder, split="theirs")


def test_a_data_set_of_the_hub_is_opened_like_a_folder(bones):
    task, folder = bones
    manifest = datasets.open_dataset(task, Path(f"hub:{folder}"))
    assert manifest.rows["label"].value_counts().to_dict() == dict.fromkeys(task.labels, 8)
    plain = datasets.open_dataset(task, folder)
    assert sorted(manifest.rows["sha256"]) == sorted(plain.rows["sha256"])
    assert manifest.folder == datasets.data_folder(task, f"hub:{folder}")


def test_the_phantom_task_needs_no_data(phantoms):
    manifest = datasets.open_dataset(load_task("phantom"), phantoms)
    assert manifest.rows["label"].value_counts().to_dict() == dict.fromkeys(phantom.LABELS, 15)
    assert len(manifest.part("all")) == sum(len(manifest.part(s)) for s in ("train", "validation", "test"))
    assert np.array_equal(manifest.rows["group"], np.arange(60))


@pytest.mark.data
def test_the_publishers_brain_split_leaks(published):
    folder = published / "brain"
    if not folder.is_dir():
        pytest.skip("the published data lack the brain scans")
    twins = count_twins(datasets.open_dataset(load_task("brain"), folder, split="official"))
    assert twins.related >= twins.copies > twins.test / 4


@pytest.mark.data
def test_the_publishers_cut_off_jpegs_are_refused_or_listed(published, tmp_path):
    source = published / "fracture" / "extras_truncated_originals" / "Non_fractured"
    if not source.is_dir():
        pytest.skip("the published data lack the truncated files")
    task = load_task("fracture")
    with pytest.raises(DataError, match="expected the folders Fractured, Non_fractured; found Non_fractured/"):
        datasets.open_dataset(task, source.parent)
    (tmp_path / "Non_fractured").symlink_to(source)
    for i in range(3):
        picture(tmp_path / "Fractured" / f"{i}.png", i)
    manifest = datasets.open_dataset(task, tmp_path)
    assert len(manifest.rows) == 3
    assert len(manifest.faults) == 59


def test_what_is_no_file_among_the_images_is_left_out(phantoms, tmp_path):
    """A link that leads to itself, and a pipe that nobody fills."""
    data = shutil.copytree(phantoms, tmp_path / "data")
    (data / "Normal" / "loop.png").symlink_to("loop.png")
    os.mkfifo(data / "Normal" / "pipe.png")
    manifest = datasets.open_dataset(load_task("phantom"), data)
    assert len(manifest.rows) == 60
    faults = {Path(row.path).name: row.reason for row in manifest.faults.itertuples()}
    assert set(faults) == {"loop.png", "pipe.png"}
    assert "pipe" in faults["pipe.png"] and "cannot be opened" in faults["loop.png"]


def test_a_task_opens_plain_folders_too(tmp_path):
    task = load_task("covid")
    for k, label in enumerate(task.labels):
        for i in range(8):
            picture(tmp_path / label / f"{i}.png", 100 * k + i)
    rows = datasets.open_dataset(task, tmp_path).rows
    assert rows["label"].value_counts().to_dict() == dict.fromkeys(task.labels, 8)
    assert set(rows["split"]) == {"train", "validation", "test"}


def test_links_to_blobs_are_grouped_and_named_as_plain_files_are(tmp_path):
    """As a snapshot of the Hub, git-annex or DVC keeps them: what tells a patient is the link's own name."""
    task, seeds = load_task("pneumonia"), itertools.count()
    names = {"NORMAL": "IM-{:04d}-000{}", "PNEUMONIA": "person{}_virus_{}"}
    for label, name in names.items():
        for patient, take in itertools.product(range(8), range(3)):
            split = "test" if patient > 5 else "train"
            picture(tmp_path / "plain" / split / label / f"{name.format(patient, take)}.png", next(seeds))
    (tmp_path / "blobs").mkdir()
    for number, path in enumerate(sorted((tmp_path / "plain").rglob("*.png"))):
        blob = tmp_path / "blobs" / f"{number * 7919 % 101:064x}"
        shutil.copy(path, blob)
        link = tmp_path / "links" / path.relative_to(tmp_path / "plain")
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(os.path.relpath(blob, link.parent))
    (tmp_path / "linked folder").symlink_to("links")
    anew = tmp_path / "new.csv"
    anew.write_text("file_name,label\nperson0_virus_0.png,NORMAL\ntrain/NORMAL/IM-0000-0001.png,PNEUMONIA\n")
    tables = []
    for name in ("plain", "links", "linked folder"):
        manifest = datasets.open_dataset(task, tmp_path / name, relabels=anew)
        datasets.write_manifest(manifest, tmp_path / "out" / name)
        tables.append((tmp_path / "out" / name / "manifest.csv").read_text())
        assert len(manifest.rows) == 48 and manifest.rows["group"].nunique() == 16
        assert manifest.rows.groupby("group")["split"].nunique().eq(1).all()
    assert tables[0] == tables[1] == tables[2]


def test_a_cache_that_cannot_be_written_to_is_named(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file" / "x"))
    with pytest.raises(DataError, match=r"phantoms cannot be written to .*file/x/second-read: Not a directory\. Make"):
        datasets.open_dataset(load_task("phantom"))
