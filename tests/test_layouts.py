import errno
import logging
import os
from pathlib import Path

import pytest

from xray_models.datasets import data_folder
from xray_models.layouts import (
    LAYOUTS,
    DataError,
    find_images,
    is_folder,
    list_fracatlas,
    list_images,
    list_label_folders,
    list_split_folders,
)
from xray_models.tasks import load_task, load_tasks


def touch(folder, *names):
    for name in names:
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()


def list_files(task, folder):
    listed = LAYOUTS[task.dataset.layout](task, folder)
    base = str(folder.resolve())
    return {(file.path.removeprefix(f"{base}/"), file.label, file.official) for file in listed}


def test_every_task_names_a_layout():
    assert {task.dataset.layout for task in load_tasks().values()} <= set(LAYOUTS)


def test_covid_masks_and_tables_are_not_images(tmp_path):
    task, start = load_task("covid"), "COVID-19_Radiography_Dataset"
    for label in task.labels:
        touch(tmp_path / start, f"{label}/images/{label}-1.png", f"{label}/masks/{label}-1.png")
    touch(tmp_path / start, "COVID.metadata.xlsx", "README.md.txt")
    expected = {(f"{start}/{label}/images/{label}-1.png", label, "") for label in task.labels}
    assert list_files(task, tmp_path) == expected
    assert len(list_files(task, tmp_path / start)) == 4


@pytest.mark.parametrize("splits", [{"train", "val", "test"}, {"train", "test"}])
def test_pneumonia_with_and_without_a_validation_folder(tmp_path, splits):
    task = load_task("pneumonia")
    for split in splits:
        touch(tmp_path / "chest_xray" / split, "NORMAL/IM-0001-0001.jpeg", "PNEUMONIA/person1_virus_6.jpeg")
    touch(tmp_path, "__MACOSX/chest_xray/train/NORMAL/._IM-0001-0001.jpeg", "chest_xray/train/NORMAL/.DS_Store")
    listed = list_files(task, tmp_path)
    assert len(listed) == 2 * len(splits)
    assert {official for *_, official in listed} == {"validation" if split == "val" else split for split in splits}


def test_brain_has_the_publishers_training_and_testing(tmp_path):
    task = load_task("brain")
    for label in task.labels:
        touch(tmp_path, f"Training/{label}/Tr_0.jpg", f"Testing/{label}/Te_0.jpg")
    listed = list_files(task, tmp_path)
    assert len(listed) == 8
    assert all(official == {"Tr": "train", "Te": "test"}[path.split("/")[-1][:2]] for path, _, official in listed)


def test_fracatlas_divides_the_fractured_ones_alone(tmp_path):
    task, start = load_task("fracture"), tmp_path / "FracAtlas"
    touch(start, *(f"images/Fractured/{n}.jpg" for n in "abcd"), "images/Non_fractured/e.jpg")
    split = start / "Utilities" / "Fracture Split"
    split.mkdir(parents=True)
    for name, image in (("train", "a"), ("valid", "b"), ("test", "c")):
        (split / f"{name}.csv").write_text(f"image_id\n{image}.jpg\n")
    for folder in (tmp_path, start, start / "images"):
        official = {file.path[-5:]: file.official for file in list_fracatlas(task, folder)}
        assert official == {"a.jpg": "train", "b.jpg": "validation", "c.jpg": "test", "d.jpg": "", "e.jpg": ""}


def test_fracatlas_table_that_contradicts_the_folders_is_named(tmp_path, caplog):
    task = load_task("fracture")
    touch(tmp_path / "images", "Fractured/a.jpg", "Fractured/b.jpg", "Non_fractured/c.jpg", "Non_fractured/d.jpg")
    (tmp_path / "dataset.csv").write_text("image_id,fractured\na.jpg,1\nb.jpg,0\nc.jpg,0\n")
    assert len(list_fracatlas(task, tmp_path)) == 4
    assert caplog.text.endswith("contradicts the folders, which are followed: b.jpg\n")


@pytest.mark.parametrize(("text", "says"), [("name\na.jpg\n", "no column 'image_id'"), ("", "No columns to parse")])
def test_a_damaged_table_of_the_publisher_is_named(tmp_path, text, says):
    touch(tmp_path / "images", "Fractured/a.jpg", "Non_fractured/c.jpg")
    (tmp_path / "dataset.csv").write_text(text)
    with pytest.raises(DataError, match=f"dataset.csv cannot be read: .*{says}.*take it away"):
        list_fracatlas(load_task("fracture"), tmp_path)


def test_three_folders_of_bones(tmp_path):
    task = load_task("bone")
    touch(tmp_path, *(f"{label}/1.jpg" for label in task.labels))
    assert list_files(task, tmp_path) == {(f"{label}/1.jpg", label, "") for label in task.labels}


def test_what_may_be_an_image_is_listed_whatever_its_ending(tmp_path, caplog):
    task = load_task("bone")
    touch(tmp_path, *(f"{label}/1.jpg" for label in task.labels))
    touch(tmp_path / "healthy", "IM000001", "film.gif", "notes.txt", "Thumbs.db", ".hidden.png", "more/2.jpg")
    with caplog.at_level(logging.WARNING):
        listed = list_files(task, tmp_path)
    assert {path for path, label, _ in listed if label == "healthy"} == {
        "healthy/1.jpg",
        "healthy/IM000001",
        "healthy/film.gif",
    }
    assert "not read: the folders in it (more)" in caplog.text  # nothing is passed over in silence


def test_a_name_that_is_no_text_is_left_out_and_said(tmp_path, caplog):
    touch(tmp_path, *(f"{label}/1.jpg" for label in load_task("bone").labels), os.fsdecode(b"healthy/\xe9.jpg"))
    assert len(list_files(load_task("bone"), tmp_path)) == 3
    assert "not in UTF-8" in caplog.text and r"\udce9.jpg). Rename" in caplog.text


def test_a_folder_that_may_not_be_read_is_named(tmp_path, monkeypatch):
    task, iterdir = load_task("bone"), Path.iterdir
    touch(tmp_path, *(f"{label}/1.jpg" for label in task.labels))

    def refuse(folder):
        if folder.name == "healthy":
            raise PermissionError(errno.EACCES, "Permission denied", str(folder))
        return iterdir(folder)

    monkeypatch.setattr(Path, "iterdir", refuse)  # the tests' user may be one who may read everything
    with pytest.raises(DataError, match=r"healthy cannot be read \(Permission denied\). Check its permissions"):
        list_images(task, tmp_path, task.dataset.layout)


def test_a_folder_beside_that_may_not_be_entered_stops_nothing(tmp_path, monkeypatch):
    task, is_dir = load_task("pneumonia"), Path.is_dir
    touch(tmp_path, "NORMAL/a.jpeg", "PNEUMONIA/b.jpeg")
    (tmp_path / "lost+found").mkdir()

    def refuse(path):
        if "lost+found" in path.parts[:-1]:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return is_dir(path)

    monkeypatch.setattr(Path, "is_dir", refuse)
    assert len(list_images(task, tmp_path, task.dataset.layout)) == 2


@pytest.mark.parametrize("find", [is_folder, find_images, lambda path: data_folder(load_task("brain"), path)])
def test_a_folder_that_is_named_and_may_not_be_read_says_so(tmp_path, monkeypatch, find):
    monkeypatch.setattr(os, "access", lambda path, _: Path(path) != tmp_path)
    with pytest.raises(DataError, match=r"cannot be read \(Permission denied\). Check its permissions"):
        find(tmp_path)


def test_a_label_without_an_image_is_named(tmp_path):
    """Folders by label in the place of the publisher's splits, of which one is empty."""
    task = load_task("pneumonia")
    touch(tmp_path, "NORMAL/a.jpeg", "PNEUMONIA/notes.txt")
    with pytest.raises(DataError, match=r"the right folders, but no image in PNEUMONIA/\."):
        list_images(task, tmp_path, task.dataset.layout)


def test_a_wrong_folder_says_what_was_found_and_where_to_look(tmp_path):
    task = load_task("pneumonia")
    touch(tmp_path / "download" / "v2" / "chest_xray", "train/NORMAL/a.jpeg", "train/PNEUMONIA/b.jpeg")
    touch(tmp_path / "download" / "v2" / "chest_xray", "test/NORMAL/a.jpeg", "test/PNEUMONIA/b.jpeg")
    with pytest.raises(DataError, match="expected the folders train/NORMAL.*found download/.*seem to be in") as error:
        list_split_folders(task, tmp_path)
    assert str(tmp_path / "download" / "v2" / "chest_xray") in str(error.value)
    with pytest.raises(DataError, match="seem to be in .*v2/chest_xray:"):
        list_split_folders(task, tmp_path / "download" / "v2" / "chest_xray" / "train")


@pytest.mark.parametrize("name", ["bone", "brain", "covid", "fracture", "pneumonia"])
def test_plain_folders_serve_every_task(name, tmp_path, caplog):
    task = load_task(name)
    plain, split = tmp_path / "plain", tmp_path / "split"
    for label in task.labels:
        touch(plain, f"{label}/1.png")
        touch(split, f"train/{label}/1.png", f"val/{label}/2.png", f"test/{label}/3.png", f"masks/{label}/1.png")
    listed = list_images(task, plain, task.dataset.layout)
    assert {(file.label, file.official) for file in listed} == {(label, "") for label in task.labels}
    listed = list_images(task, split, task.dataset.layout)
    found = {(Path(file.path).relative_to(split.resolve()).as_posix(), file.label, file.official) for file in listed}
    assert found == {
        (f"{theirs}/{label}/{number}.png", label, ours)
        for label in task.labels
        for number, theirs, ours in ((1, "train", "train"), (2, "val", "validation"), (3, "test", "test"))
    }
    assert "read as folders <" in caplog.text


def test_what_fits_no_layout_is_told_by_its_own_and_masks_are_no_images(tmp_path):
    task = load_task("covid")
    touch(tmp_path, *(f"{label}/masks/1.png" for label in task.labels))
    with pytest.raises(DataError, match="expected the folders COVID/images.*found COVID/"):
        list_images(task, tmp_path, task.dataset.layout)
    touch(tmp_path, *(f"{label}/images/1.png" for label in task.labels[1:]))
    with pytest.raises(DataError, match="expected the folders COVID/images"):
        list_images(task, tmp_path, task.dataset.layout)
    pneumonia, splits = load_task("pneumonia"), tmp_path / "chest_xray"
    touch(splits, *(f"{split}/{label}/1.jpeg" for split in ("train", "test") for label in pneumonia.labels))
    with pytest.raises(DataError, match="seem to be in .*chest_xray: give that folder"):
        list_images(pneumonia, splits / "train", pneumonia.dataset.layout)


def test_a_missing_label_is_not_passed_over(tmp_path):
    touch(tmp_path, "healthy/1.jpg", "fractured/2.jpg")
    with pytest.raises(DataError, match="expected the folders beyond repair, fractured, healthy; found fractured/"):
        list_label_folders(load_task("bone"), tmp_path)
