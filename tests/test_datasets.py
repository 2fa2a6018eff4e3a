import itertools
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from xray_models import datasets, phantom
from xray_models.datasets import DataError
from xray_models.images import InputSpec, read_image, to_uint8
from xray_models.tasks import load_task


def picture(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = phantom.draw_phantom("Normal", seed, size=64).pixels
    Image.fromarray(pixels).save(path)


@pytest.fixture
def covid(tmp_path):
    """A small folder as the publisher lays it out, masks and all."""
    task = load_task("covid")
    for k, label in enumerate(task.labels):
        for i in range(10):
            picture(tmp_path / "COVID-19_Radiography_Dataset" / label / "images" / f"{label}-{i}.png", 100 * k + i)
            picture(tmp_path / "COVID-19_Radiography_Dataset" / label / "masks" / f"{label}-{i}.png", 7)
    return task, tmp_path


def test_masks_are_never_images(covid):
    task, folder = covid
    rows = datasets.open_dataset(task, folder).rows
    assert len(rows) == 40
    assert {Path(path).parent.name for path in rows["path"]} == {"images"}
    assert set(rows["split"]) == {"train", "validation", "test"}


def test_the_folder_may_be_given_one_level_down(covid):
    task, folder = covid
    assert len(datasets.open_dataset(task, folder / "COVID-19_Radiography_Dataset").rows) == 40


def test_faults_are_listed_not_dropped(covid):
    task, folder = covid
    images = folder / "COVID-19_Radiography_Dataset" / "Normal" / "images"
    whole = (images / "Normal-0.png").read_bytes()
    (images / "cut.png").write_bytes(whole[: len(whole) // 2])
    (images / "text.png").write_text("not an image")
    (images / "empty.png").touch()
    manifest = datasets.open_dataset(task, folder)
    assert {Path(path).name for path in manifest.faults["path"]} == {"cut.png", "text.png", "empty.png"}
    assert (manifest.faults["reason"] != "").all()
    assert len(manifest.rows) == 40


def test_one_picture_under_two_labels_is_a_fault(covid):
    task, folder = covid
    start = folder / "COVID-19_Radiography_Dataset"
    shutil.copy(start / "Normal" / "images" / "Normal-1.png", start / "COVID" / "images" / "again.png")
    manifest = datasets.open_dataset(task, folder)
    assert sorted(Path(path).name for path in manifest.faults["path"]) == ["Normal-1.png", "again.png"]


def test_a_wrong_nesting_says_what_was_found_and_expected(tmp_path):
    (tmp_path / "train").mkdir()
    with pytest.raises(DataError, match=r"expected the folders COVID/images.*found train/"):
        datasets.open_dataset(load_task("covid"), tmp_path)


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


def test_arrays_are_what_a_model_gets_and_are_cached(phantoms):
    paths = [str(path) for path in sorted(phantoms.glob("Nodule/*.png"))[:5]]
    spec = InputSpec(height=48, width=40)
    arrays = datasets.load_arrays(paths, spec)
    for path, pixels in zip(paths, arrays.pixels, strict=True):
        assert np.array_equal(pixels, to_uint8(read_image(path), spec))
    assert datasets.load_arrays(paths, spec).pixels.filename == arrays.pixels.filename
    assert datasets.load_arrays(paths, InputSpec(height=40, width=40)).pixels.filename != arrays.pixels.filename


def test_the_phantom_task_needs_no_data(phantoms):
    manifest = datasets.open_dataset(load_task("phantom"), phantoms)
    assert manifest.rows["label"].value_counts().to_dict() == dict.fromkeys(phantom.LABELS, 15)
    assert len(manifest.part("all")) == sum(len(manifest.part(s)) for s in ("train", "validation", "test"))
