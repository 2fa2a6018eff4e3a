import dataclasses
import json
import shutil

import numpy as np
import pytest
import torch
from PIL.Image import Resampling
from safetensors import safe_open
from transformers import (
    AutoModelForImageClassification,
    ResNetConfig,
    ResNetForImageClassification,
    ViTImageProcessorPil,
)

from xray_models import fusing, tasks, train
from xray_models.architectures import FusedParts, build_model, split_model
from xray_models.attribution import explain
from xray_models.calibration import fit_reference
from xray_models.checkpoints import load_checkpoint, save_checkpoint
from xray_models.images import to_input
from xray_models.panel import Panel
from xray_models.tasks import ModelRef, TaskError, load_task
from xray_models.trainer import freeze_body

SIZES = {"simple_cnn": 64, "resnet18": 64}


def reference(size):
    rng = np.random.default_rng(0)
    return fit_reference(rng.normal(size=(50, size)), rng.normal(size=(40, size)))


@pytest.fixture(scope="module")
def fused(tmp_path_factory):
    """The phantom task with two untrained models and their untrained fusion."""
    folder = tmp_path_factory.mktemp("checkpoints")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tasks, "CHECKPOINTS", folder)
        task = load_task("phantom")
        recipe = dataclasses.replace(task.recipe, image_size=64)
        for name, width in (("simple_cnn", 0.25), ("resnet18", 0.125)):
            torch.manual_seed(len(name))
            model, spec = build_model(name, task.labels, dataclasses.replace(recipe, width=width))
            save_checkpoint(model.eval(), spec, folder / name, {}, reference(SIZES[name]))
        refs = [ModelRef(name, checkpoint=str(folder / name)) for name in SIZES]
        fusion = ModelRef("fusion", checkpoint=str(folder / "fusion"), members=tuple(SIZES))
        task = dataclasses.replace(task, models=(*refs, fusion))
        model, spec = fusing.build_fusion(task, fusion, recipe)
        fusing.name_sources(model, task, folder / "fusion")
        save_checkpoint(model.eval(), spec, folder / "fusion", {"conformal_threshold": 0.1}, reference(128))
        yield task


def test_the_folder_holds_the_small_network_alone(fused):
    folder = fused.model("fusion").path
    with safe_open(folder / "model.safetensors", "pt") as file:
        assert not [name for name in file.keys() if name.startswith("members.")]  # noqa: SIM118
    assert (folder / "model.safetensors").stat().st_size < 100_000
    config = json.loads((folder / "config.json").read_text())
    assert config["sources"]["resnet18"]["folder"] == "../resnet18"


def test_anyone_can_load_it(fused, image):
    """Logits are those of the concatenated embeddings, through the Auto class alone."""
    folder = fused.model("fusion").path
    model = AutoModelForImageClassification.from_pretrained(folder, dtype=torch.float32).eval()
    loaded = load_checkpoint(fused, fused.model("fusion"))
    inputs = to_input(image, loaded.spec)[None]
    embeddings = []
    for name in SIZES:
        parts = load_checkpoint(fused, fused.model(name)).parts
        embeddings.append(parts.pool(parts.body(inputs)))
    with torch.no_grad():
        expected = model.classifier(model.fuse(torch.cat(embeddings, dim=1)))
        assert torch.allclose(model(pixel_values=inputs).logits, expected, atol=1e-5)
        assert torch.allclose(loaded.parts.head(loaded.parts.body(inputs)), expected, atol=1e-5)
        gathered = loaded.parts.gather(loaded.parts.body(inputs))  # what tells strangers is not fused yet
        assert torch.allclose(gathered, torch.cat(embeddings, dim=1), atol=1e-5)


def test_a_panel_computes_each_members_features_once(fused, image):
    panel = Panel.load(fused, device="cpu")
    runs = dict.fromkeys(SIZES, 0)
    for name in SIZES:
        panel.checkpoints[name].model.register_forward_pre_hook(lambda *_: None)
        body = panel.checkpoints[name].parts.body
        body.register_forward_hook(lambda *_, name=name: runs.__setitem__(name, runs[name] + 1))
    own = panel.checkpoints["fusion"]
    inner = [next(m.modules()) for m in own.model.members.values()]
    for module in inner:
        module.register_forward_hook(lambda *_: pytest.fail("a member ran again"))
    together = panel.read(image).opinions[-1]
    assert runs == {"simple_cnn": 1, "resnet18": 1}
    assert together.status == "ok"
    alone = Panel.load(fused, ["fusion"], device="cpu").read(image).opinions[0]
    assert list(together.probs.values()) == pytest.approx(list(alone.probs.values()), abs=1e-6)
    first = next(iter(panel.checkpoints["resnet18"].model.state_dict().values()))
    assert first.data_ptr() == next(iter(own.model.members["resnet18"].state_dict().values())).data_ptr()


def test_a_changed_member_is_noticed(fused, tmp_path):
    folder = fused.model("resnet18").path / "model.safetensors"
    kept = folder.read_bytes()
    try:
        folder.write_bytes(kept[:-1] + bytes([kept[-1] ^ 1]))
        opinion = Panel.load(fused, ["fusion"], device="cpu").members[0]
        assert opinion.status == "unavailable"
        assert "train the fusion again" in opinion.reason
    finally:
        folder.write_bytes(kept)


def test_its_heatmap_is_the_sum_of_its_members(fused, image):
    model = load_checkpoint(fused, fused.model("fusion"))
    assert isinstance(model.parts, FusedParts)
    with torch.no_grad():
        model.model.hidden.weight[:, SIZES["simple_cnn"] :] = 0  # resnet18 has no say any more
    mixed = explain(model, image, "Nodule").values
    features = model.parts.body(to_input(image, model.spec)[None])
    alone = model.parts.seen_through(0, features)
    single = dataclasses.replace(model, parts=alone)
    only = explain(single, image, "Nodule").values
    assert mixed.shape == image.pixels.shape
    assert np.corrcoef(mixed.ravel(), only.ravel())[0, 1] > 0.99
    for method in ("integrated_gradients", "occlusion"):
        assert np.isfinite(explain(model, image, "Nodule", method).values).all()


def test_a_complete_copy_needs_no_other_folder(fused, image, tmp_path):
    fusing.save_complete(fused.model("fusion").path, tmp_path / "whole")
    whole = AutoModelForImageClassification.from_pretrained(tmp_path / "whole", dtype=torch.float32).eval()
    split = load_checkpoint(fused, fused.model("fusion"))
    inputs = to_input(image, split.spec)[None]
    with torch.no_grad():
        said = (model(pixel_values=inputs).logits for model in (whole, split.model))
        torch.testing.assert_close(*said, rtol=1e-5, atol=1e-5)  # the last digit depends on where tensors lie
    own = fusing.fingerprint(load_checkpoint(fused, fused.model("resnet18")).model)
    assert fusing.fingerprint(whole.members["resnet18"]) == own
    assert split_model(whole).members


def test_a_first_stage_trains_its_small_network(fused):
    """Its members are frozen anyway; behind a random layer that is frozen, too, there is little to learn."""
    model, _ = fusing.build_fusion(fused, fused.model("fusion"), fused.recipe)
    before = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    freeze_body(model)
    assert {name for name, parameter in model.named_parameters() if parameter.requires_grad} == before


def test_the_members_stay_as_they_are_while_it_trains(fused):
    model, spec = fusing.build_fusion(fused, fused.model("fusion"), fused.recipe)
    model.train()
    before = {name: tensor.clone() for name, tensor in model.members.state_dict().items()}
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    loss = model(pixel_values=torch.rand(4, 3, spec.height, spec.width), labels=torch.tensor([0, 1, 2, 3])).loss
    loss.backward()
    optimizer.step()
    assert all(torch.equal(before[name], tensor) for name, tensor in model.members.state_dict().items())


@pytest.mark.parametrize(("members", "says"), [((), "at least two"), (("resnet18", "vit_tiny"), "vit_tiny")])
def test_wrong_members_are_refused(fused, members, says):
    with pytest.raises(TaskError, match=says):
        fusing.build_fusion(fused, dataclasses.replace(fused.model("fusion"), members=members), fused.recipe)


def test_a_member_whose_last_layer_cannot_be_left_out_is_refused_before_training(fused, tmp_path):
    """Of a model that was trained elsewhere: its training ended in a traceback."""
    sizes = {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1], "layer_type": "basic"}
    names = dict(enumerate(fused.labels))
    ResNetForImageClassification(ResNetConfig(**sizes, id2label=names)).save_pretrained(tmp_path / "resnet")
    mean = [0.5] * 3
    size = {"height": 64, "width": 64}
    processor = ViTImageProcessorPil(size=size, image_mean=mean, image_std=mean, resample=Resampling.BICUBIC)
    processor.save_pretrained(tmp_path / "resnet")
    ref = ModelRef("resnet", checkpoint=str(tmp_path / "resnet"))
    task = dataclasses.replace(fused, models=(*fused.models, ref))
    fusion = dataclasses.replace(fused.model("fusion"), members=("simple_cnn", "resnet"))
    spec = load_checkpoint(fused, fused.model("simple_cnn")).spec
    assert load_checkpoint(task, ref).spec == spec
    with pytest.raises(TaskError, match=r"'resnet' cannot be a member of a fusion: .* Name another"):
        fusing.build_fusion(task, fusion, fused.recipe)


@pytest.mark.parametrize("change", [{"image_size": 128}, {"width": 0.5}, {"head": "dense"}])
def test_a_shape_that_is_its_members_own_is_refused(fused, change):
    """Each was left out without a word."""
    (name,) = change
    with pytest.raises(TaskError, match=f"{name} is .*Leave {name} out"):
        fusing.build_fusion(fused, fused.model("fusion"), dataclasses.replace(fused.recipe, **change))


@pytest.mark.parametrize(("asked", "has"), [(None, 0.3), (0.0, 0.0), (0.1, 0.1)])
def test_a_fusions_dropout_is_the_recipes(fused, asked, has):
    recipe = dataclasses.replace(fused.recipe, dropout=asked)
    model, _ = fusing.build_fusion(fused, fused.model("fusion"), recipe)
    assert model.config.dropout == has


def test_weights_that_a_fusion_shares_are_counted_once(fused):
    panel, members = Panel.load(fused, device="cpu"), Panel.load(fused, list(SIZES), device="cpu")
    state = panel.checkpoints["fusion"].model.state_dict()
    own = [tensor for name, tensor in state.items() if not name.startswith("members.")]
    assert own and panel.memory == members.memory + sum(tensor.nbytes for tensor in own)


def test_a_fusion_trains_by_its_command(fused, phantoms, tmp_path, monkeypatch):
    monkeypatch.setattr(train, "load_task", lambda name: fused)
    out = fused.model("resnet18").path.parent / "trained"
    words = ["--task", "phantom", "--model", "fusion", "--epochs", "2", "--frozen-epochs", "1"]
    assert train.main([*words, "--data", str(phantoms), "--out", str(out)]) == 0
    info = json.loads((out / "config.json").read_text())
    assert info["sources"]["simple_cnn"]["folder"] == "../simple_cnn"
    assert "the trained models simple_cnn, resnet18, frozen" in (out / "README.md").read_text()
    model = load_checkpoint(fused, ModelRef("fusion", checkpoint=str(out), members=tuple(SIZES))).model
    own = fusing.fingerprint(load_checkpoint(fused, fused.model("resnet18")).model)
    assert fusing.fingerprint(model.members["resnet18"]) == own


def test_a_fusion_that_lies_elsewhere_holds_its_members_and_goes_anywhere(fused, phantoms, tmp_path, monkeypatch):
    """It named members beside a folder that had none."""
    monkeypatch.setattr(train, "load_task", lambda name: fused)
    words = ["--task", "phantom", "--model", "fusion", "--epochs", "1", "--data", str(phantoms)]
    assert train.main([*words, "--out", str(tmp_path / "runs" / "fusion")]) == 0
    moved = (tmp_path / "runs" / "fusion").rename(tmp_path / "elsewhere")
    AutoModelForImageClassification.from_pretrained(moved)
    model = load_checkpoint(fused, ModelRef("fusion", checkpoint=str(moved), members=tuple(SIZES))).model
    for name in SIZES:
        own = fusing.fingerprint(load_checkpoint(fused, fused.model(name)).model)
        assert fusing.fingerprint(model.members[name]) == own


def test_a_fusion_that_was_moved_alone_says_what_it_lacks(fused, tmp_path):
    moved = shutil.copytree(fused.model("fusion").path, tmp_path / "fusion")
    with pytest.raises(TaskError, match="needs the weights of resnet18, and there is no resnet18/model.saf"):
        load_checkpoint(fused, ModelRef("fusion", checkpoint=str(moved), members=tuple(SIZES)))
