import dataclasses
import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from xray_models import checkpoints, damage
from xray_models.checkpoints import load_checkpoint, save_checkpoint, weigh_checkpoint
from xray_models.damage import read_fitted
from xray_models.panel import Panel
from xray_models.tasks import ModelRef, TaskError


@pytest.fixture
def saved(untrained, tmp_path):
    """A model's folder with its card, and the model with another bias, to be saved over it."""
    ref = ModelRef("simple_cnn", checkpoint=str(tmp_path / "model"))
    own = load_checkpoint(untrained, untrained.models[0])
    save_checkpoint(own.model, own.spec, ref.path, {"conformal_threshold": 0.2}, own.reference)
    (ref.path / "README.md").write_text("the card")
    with torch.no_grad():
        own.parts.classifier.bias.add_(1)
    return ref, own


def save_over(ref, own):
    reference = dataclasses.replace(own.reference, threshold=77.0)
    save_checkpoint(own.model, own.spec, ref.path, {"conformal_threshold": 0.9}, reference)


def test_saving_over_a_model_replaces_it_and_keeps_what_lies_beside_it(saved, untrained):
    ref, own = saved
    names = {path.name for path in ref.path.iterdir()}
    save_over(ref, own)
    again = load_checkpoint(untrained, ref)
    assert (again.conformal, again.reference.threshold) == (0.9, 77.0)
    assert torch.equal(again.parts.classifier.bias, own.parts.classifier.bias)
    assert {path.name for path in ref.path.iterdir()} == names
    assert (ref.path / "README.md").read_text() == "the card"


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o077, 0o600)])
def test_who_may_read_a_model_is_the_users_own_choice(saved, mask, mode):
    ref, own = saved
    before = os.umask(mask)
    try:
        save_over(ref, own)
    finally:
        os.umask(before)
    made = [path for path in ref.path.iterdir() if path.name != "README.md"]
    assert {path.stat().st_mode & 0o777 for path in made} == {mode}


def test_weights_of_another_account_are_no_missing_config(saved, untrained, monkeypatch):
    ref, _ = saved
    monkeypatch.setattr(damage.os, "access", lambda path, _: path.name != "model.safetensors")  # root may read all
    with pytest.raises(TaskError, match=r"^model.safetensors of model 'simple_cnn' may not be read by this account"):
        load_checkpoint(untrained, ref)


@pytest.mark.parametrize("name", ["save_file", "save_arrays"])
def test_a_model_whose_successor_is_cut_off_stays_as_it_was(saved, untrained, monkeypatch, name):
    ref, own = saved
    before = {path.name: path.read_bytes() for path in ref.path.iterdir()}

    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(checkpoints, name, stop)
    with pytest.raises(KeyboardInterrupt):
        save_over(ref, own)
    assert {path.name: path.read_bytes() for path in ref.path.iterdir()} == before
    assert load_checkpoint(untrained, ref).conformal == 0.2


def test_half_a_swap_is_no_model(saved, untrained, monkeypatch):
    ref, own = saved
    replace = Path.replace

    def stop(path, target):
        if path.name == "reference.safetensors":
            raise KeyboardInterrupt
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", stop)
    with pytest.raises(KeyboardInterrupt):
        save_over(ref, own)
    with pytest.raises(TaskError, match="no weights"):
        load_checkpoint(untrained, ref)


@pytest.mark.parametrize("model", [0, 1, 2])
def test_a_model_weighs_what_it_takes_once_loaded(untrained, model):
    ref = untrained.models[model]
    taken = sum(tensor.nbytes for tensor in load_checkpoint(untrained, ref).model.state_dict().values())
    assert weigh_checkpoint(untrained, ref) == taken > (ref.path / "model.safetensors").stat().st_size


@pytest.mark.parametrize("model", [0, 1, 2])
def test_weights_that_lack_a_tensor_are_refused(untrained, tmp_path, model):
    """transformers would load it with random numbers in their place, and a word in the log."""
    folder = tmp_path / "model"
    shutil.copytree(untrained.models[model].path, folder)
    state = load_file(folder / "model.safetensors")
    lost = sorted(state)[len(state) // 2]
    save_file({name: tensor for name, tensor in state.items() if name != lost}, folder / "model.safetensors")
    for work in (load_checkpoint, weigh_checkpoint):
        with pytest.raises(TaskError, match=f"lack 1 of its tensors, which would be random: {lost}"):
            work(untrained, ModelRef("own", checkpoint=str(folder)))


def test_weights_that_were_cut_off_are_refused(saved, untrained):
    ref, _ = saved
    path = ref.path / "model.safetensors"
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(TaskError, match="'simple_cnn' are damaged .model.safetensors: .*Train, pull or copy it again"):
        load_checkpoint(untrained, ref)


def reshape(folder):
    state = load_file(folder / "model.safetensors")
    state["classifier.bias"] = state["classifier.bias"][:1].clone()
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})


def put(name, text):
    return lambda folder: (folder / name).write_text(text)


DAMAGES = {
    "a tensor's shape": (reshape, "model.safetensors holds 1 of its tensors in another shape, classifier.bias"),
    "no weights": (lambda folder: (folder / "model.safetensors").unlink(), "model.safetensors of model"),
    "no processor": (
        lambda folder: (folder / "preprocessor_config.json").unlink(),
        "preprocessor_config.json of model",
    ),
    "a cut processor": (put("preprocessor_config.json", '{"size"'), "has a damaged preprocessor_config.json"),
    "a list for a processor": (put("preprocessor_config.json", "[]"), "has a damaged preprocessor_config.json"),
    "a number for the mean": (
        put("preprocessor_config.json", '{"size": 9, "image_mean": 1, "image_std": 1, "resample": 2}'),
        "has a damaged preprocessor_config.json",
    ),
    "a cut reference": (put("reference.safetensors", "\x10"), "has a damaged reference.safetensors"),
    "another reference": (
        lambda folder: save_file({"other": torch.ones(2)}, folder / "reference.safetensors"),
        "model 'simple_cnn' has a damaged reference.safetensors .it lacks 'embeddings'",
    ),
    "a cut config": (put("config.json", "{"), "model 'simple_cnn' has a damaged config.json"),
    "an empty config": (put("config.json", "{}"), "model 'simple_cnn' has a damaged config.json"),
    "an unknown network": (put("config.json", '{"model_type": "no_such"}'), "has a damaged config.json"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_folder_is_one_sentence_without_a_place(saved, untrained, image, damage):
    ref, _ = saved
    harm, says = DAMAGES[damage]
    harm(ref.path)
    with pytest.raises(TaskError, match=f"(?s){says}.*Train, pull or copy it again") as error:
        load_checkpoint(untrained, ref)
    opinion, whole = Panel.load(dataclasses.replace(untrained, models=(ref, untrained.models[1]))).read(image).opinions
    assert opinion.reason == str(error.value) and "'simple_cnn'" in opinion.reason
    assert str(ref.path.parent) not in opinion.reason
    assert whole.status == "ok"


@pytest.mark.parametrize("key", ["conformal_threshold", "ood_distance"])
@pytest.mark.parametrize("value", [-0.1, float("nan"), float("inf"), "0.5", True, [0.5]])
def test_what_no_probability_or_distance_can_be_compared_with_is_refused(saved, untrained, key, value):
    ref, _ = saved
    config = json.loads((ref.path / "config.json").read_text())
    config["second_read"][key] = value
    (ref.path / "config.json").write_text(json.dumps(config))
    with pytest.raises(TaskError, match=f"{key} in config.json of model 'simple_cnn' is .*; it must be a"):
        load_checkpoint(untrained, ref)


@pytest.mark.parametrize(
    ("key", "value", "valid"),
    [
        ("conformal_threshold", 0, True),
        ("conformal_threshold", 1, True),
        ("conformal_threshold", 1.01, False),
        ("ood_distance", 0, False),
        ("ood_distance", 5000, True),
    ],
)
def test_a_threshold_may_be_at_its_ends_and_a_distance_is_above_0(key, value, valid):
    if valid:
        assert read_fitted({key: value}, key, "own") == value
    else:
        with pytest.raises(TaskError, match=f"'own' is {value}; it must be"):
            read_fitted({key: value}, key, "own")
    assert read_fitted({}, key, "own") is None


def test_a_model_whose_labels_do_not_exclude_each_other_is_refused(saved, untrained):
    ref, _ = saved
    config = json.loads((ref.path / "config.json").read_text())
    (ref.path / "config.json").write_text(json.dumps(config | {"problem_type": "multi_label_classification"}))
    with pytest.raises(TaskError, match="'simple_cnn' was made for multi_label_classification"):
        load_checkpoint(untrained, ref)
