import shutil

import numpy as np
import pytest
import torch

from xray_models import datasets
from xray_models.images import InputSpec, normalise
from xray_models.imagesets import ImageSet, load_splits, read_rows
from xray_models.tasks import TaskError, load_task

SPEC = InputSpec(32, 32)


def make(augment, labels=(0, 0, 0, 0, 0, 1), seed=0):
    rng = np.random.default_rng(7)
    return ImageSet(rng.integers(0, 255, (len(labels), 32, 32), dtype=np.uint8), np.array(labels), SPEC, augment, seed)


def test_without_augmentation_an_image_is_what_a_model_reads():
    images = make("none")
    assert torch.equal(images[2]["pixel_values"], normalise(images.pixels[2], SPEC))
    assert images[5]["labels"] == 1


def test_augmentation_follows_from_seed_epoch_and_place_alone():
    images, again = make("radiograph"), make("radiograph")
    state = torch.get_rng_state()
    first = [images[i]["pixel_values"] for i in range(3)]
    assert torch.equal(torch.get_rng_state(), state)  # others' random numbers are left alone
    torch.manual_seed(99)
    for i in (2, 0, 1):
        assert torch.equal(again[i]["pixel_values"], first[i])
    again.set_epoch(1)
    assert not torch.equal(again[0]["pixel_values"], first[0])
    assert not torch.equal(make("radiograph", seed=1)[0]["pixel_values"], first[0])


def test_minorities_are_raised_by_varied_copies():
    images = make("none")
    images.raise_minorities()
    labels = [images[i]["labels"] for i in range(len(images))]
    assert labels.count(0) == labels.count(1) == 5
    copies = [images[i]["pixel_values"] for i in range(6, 10)]
    assert any(not torch.equal(copy, images[5]["pixel_values"]) for copy in copies)
    assert all(torch.equal(images[i]["pixel_values"], normalise(images.pixels[i], SPEC)) for i in range(6))


def test_an_unknown_policy_is_refused():
    with pytest.raises(TaskError, match="Did you mean 'radiograph'"):
        make("radiographs")


def test_a_file_that_is_gone_is_left_out(phantoms, tmp_path, monkeypatch, caplog):
    """Not a black image with a label."""
    data = shutil.copytree(phantoms, tmp_path / "data")
    task = load_task("phantom")
    manifest = datasets.open_dataset(task, data)
    gone = manifest.part("train")["path"][3]
    monkeypatch.setattr(datasets, "open_dataset", lambda *_: manifest)
    (data / gone).unlink()
    train = load_splits(task, task.recipe, SPEC, read_rows(task, data))["train"]
    assert len(train) == len(manifest.part("train")) - 1 == len(train.labels)
    assert train.pixels.any(axis=(1, 2)).all()
    assert f"left out: {gone}" in caplog.text
