import dataclasses
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from xray_models import checkpoints
from xray_models.checkpoints import load_checkpoint, save_checkpoint
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
def test_weights_that_lack_a_tensor_are_refused(untrained, tmp_path, model):
    """transformers would load it with random numbers in their place, and a word in the log."""
    folder = tmp_path / "model"
    shutil.copytree(untrained.models[model].path, folder)
    state = load_file(folder / "model.safetensors")
    lost = sorted(state)[len(state) // 2]
    save_file({name: tensor for name, tensor in state.items() if name != lost}, folder / "model.safetensors")
    with pytest.raises(TaskError, match=f"lack 1 of its tensors, which would be random: {lost}"):
        load_checkpoint(untrained, ModelRef("own", checkpoint=str(folder)))


def test_weights_that_were_cut_off_are_refused(saved, untrained):
    ref, _ = saved
    path = ref.path / "model.safetensors"
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(TaskError, match="'simple_cnn' are damaged .*Train, pull or copy it again"):
        load_checkpoint(untrained, ref)
