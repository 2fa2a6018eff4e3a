import shutil

import numpy as np
import pytest
import torch
from sklearn.utils.class_weight import compute_class_weight

from xray_models import datasets
from xray_models.images import InputSpec, normalise
from xray_models.imagesets import ImageSet, class_weights, collate, load_splits, read_rows
from xray_models.tasks import TaskError, load_task

SPEC = InputSpec(32, 32)


def make(augment, labels=(0, 0, 0, 0, 0, 1), seed=0):
    rng = np.random.default_rng(7)
    return ImageSet(rng.integers(0, 255, (len(labels), 32, 32), dtype=np.uint8), np.array(labels), SPEC, augment, seed)


def read(images, *places):
    return images.prepare(collate([images[place] for place in places]))["pixel_values"]


def test_without_augmentation_an_image_is_what_a_model_reads():
    images = make("none")
    assert torch.equal(read(images, 2)[0], normalise(images.pixels[2], SPEC))
    assert images.prepare(collate([images[4], images[5]]))["labels"].tolist() == [0, 1]


def test_augmentation_follows_from_seed_epoch_and_place_alone():
    images, again = make("radiograph"), make("radiograph")
    state = torch.get_rng_state()
    first = read(images, 0, 1, 2)
    assert torch.equal(torch.get_rng_state(), state)  # others' random numbers are left alone
    torch.manual_seed(99)
    assert torch.allclose(read(again, 2, 0, 1), first[[2, 0, 1]], atol=1e-5)
    again.set_epoch(1)
    assert not torch.allclose(read(again, 0), first[:1], atol=1e-2)
    assert not torch.allclose(read(make("radiograph", seed=1), 0), first[:1], atol=1e-2)


def test_autoaugment_follows_from_seed_epoch_and_place_alone():
    images, again = make("autoaugment"), make("autoaugment")
    state = torch.get_rng_state()
    first = read(images, *range(6))
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(99)
    assert torch.equal(read(again, *range(6)), first)
    again.set_epoch(1)
    assert not torch.equal(read(again, *range(6)), first)


def test_a_batch_is_small_until_it_is_prepared():
    """Workers hand on grey levels, a quarter of one channel of a model's input, and nothing that needs a device."""
    batch = collate([make("radiograph")[place] for place in range(3)])
    assert batch["pixel_values"].dtype == torch.uint8 and batch["pixel_values"].shape == (3, 32, 32)
    assert isinstance(batch["draws"], np.ndarray)
    assert "draws" not in collate([make("none")[0]])


def test_minorities_are_raised_by_varied_copies():
    images = make("none")
    images.raise_minorities()
    labels = [images[i]["labels"] for i in range(len(images))]
    assert labels.count(0) == labels.count(1) == 5
    copies = read(images, *range(6, 10))
    assert any(not torch.equal(copy, read(images, 5)[0]) for copy in copies)
    assert torch.equal(read(images, *range(6)), normalise(images.pixels, SPEC))


def test_class_weights_are_scikit_learns_and_average_to_one():
    labels = np.array([0] * 90 + [1] * 7 + [2] * 3)
    weights = class_weights(labels, 3)
    assert weights == pytest.approx(compute_class_weight("balanced", classes=np.arange(3), y=labels))
    assert weights[labels].mean() == pytest.approx(1)


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
