import numpy as np
import pytest
import torch

from evaluation import map_judge
from evaluation.map_judge import Judge, Records, Stage, prepare_inputs, randomise
from evaluation.samples import Item, QuickPanel
from tests.conftest import has_starters
from xray_models.architectures import Parts
from xray_models.attribution import explain
from xray_models.checkpoints import load_checkpoint
from xray_models.images import to_input
from xray_models.panel import Panel


@pytest.mark.parametrize("place", [0, 1, 2], ids=["simple_cnn", "resnet18", "vit_tiny"])
def test_a_randomised_copy_is_the_same_network_with_other_weights(untrained, place):
    member = load_checkpoint(untrained, untrained.models[place])
    before = {name: tensor.clone() for name, tensor in member.model.state_dict().items()}
    state = torch.random.get_rng_state()
    copies = [randomise(member, seed) for seed in (1, 1, 2)]
    assert (torch.random.get_rng_state() == state).all()
    one, same, other = (dict(copy.model.state_dict()) for copy in copies)
    assert {name: tensor.shape for name, tensor in one.items()} == {name: t.shape for name, t in before.items()}
    assert all((one[name] == same[name]).all() for name in one)
    weights = [name for name, tensor in one.items() if tensor.ndim >= 2 and tensor.std() > 0]
    assert len(weights) >= 4
    for name in weights:
        assert (one[name] != before[name]).any()
        assert (one[name] != other[name]).any()
    assert all((member.model.state_dict()[name] == before[name]).all() for name in before)
    assert not copies[0].model.training
    assert type(copies[0].parts) is type(member.parts)


def test_a_fusions_members_are_randomised_too():
    if not has_starters("covid"):
        pytest.skip("no starter models of covid")
    fusion = Panel.load("covid", ["fusion"], device="cpu").checkpoints["fusion"]
    copy = randomise(fusion, 3)
    trained, random = fusion.model.state_dict(), copy.model.state_dict()
    inner = [name for name, tensor in trained.items() if name.startswith("members.") and tensor.ndim == 4]
    assert inner
    assert all((trained[name] != random[name]).any() for name in inner)


def test_prepared_inputs_hold_the_image_and_what_replaces_it(untrained, image):
    spec = load_checkpoint(untrained, untrained.models[0]).spec
    inputs = prepare_inputs(Item("a", "a", "Normal", "0", image, image.pixels.shape), {spec}, seed=1).inputs[spec]
    assert len(inputs) == 3 + 2 * (map_judge.STEPS - 1)
    torch.testing.assert_close(inputs[0], to_input(image, spec))
    assert inputs[2].std(dim=(1, 2)).max() < 1e-5
    assert inputs[2].mean() == pytest.approx(float(inputs[0].mean()), abs=1e-4)
    assert inputs[1].std() < inputs[0].std()
    inserted = [(step == inputs[0]).float().mean() for step in inputs[3 : 2 + map_judge.STEPS]]
    deleted = [(step == inputs[2]).float().mean() for step in inputs[2 + map_judge.STEPS :]]
    expected = np.arange(1, map_judge.STEPS) / map_judge.STEPS
    np.testing.assert_allclose(inserted, expected, atol=0.05)
    np.testing.assert_allclose(deleted, expected, atol=0.05)


def test_maps_are_those_of_the_page(untrained, image):
    panel = QuickPanel(Panel.load(untrained, ["vit_tiny"], device="cpu"), half=False)
    member = panel.checkpoints["vit_tiny"]
    judge = Judge(panel, member, "grad_cam", "finding", 0)
    item = Item("a", "a", "Nodule", "0", image, image.pixels.shape)
    shown = judge._explain(member, to_input(image, member.spec), 2, item)
    expected = explain(member, image, "Nodule")
    np.testing.assert_allclose(shown.values / shown.values.max(), expected.values, atol=1e-4)
    assert shown.plane.shape == (member.spec.height, member.spec.width)


def test_not_a_number_is_an_error(untrained, image):
    panel = QuickPanel(Panel.load(untrained, ["simple_cnn"], device="cpu"), half=False)
    member = panel.checkpoints["simple_cnn"]
    assert isinstance(member.parts, Parts)
    torch.nn.init.constant_(member.parts.classifier.weight, torch.nan)
    item = Item("a", "a", "Nodule", "0", image, image.pixels.shape)
    stage = Stage(0, item, None, prepare_inputs(item, {member.spec}, 0))
    with pytest.raises(ValueError, match="not a number"):
        Judge(panel, member, "grad_cam", "", 0).judge(stage, Records(1))


@pytest.mark.parametrize("flat", ["none", "own", "random", "both"])
def test_a_flat_map_is_not_compared_and_a_flat_one_of_a_random_network_has_lost_it(untrained, image, flat, monkeypatch):
    panel = QuickPanel(Panel.load(untrained, ["simple_cnn"], device="cpu"), half=False)
    member = panel.checkpoints["simple_cnn"]

    def explain_plainly(parts, inputs, label, spec):
        own = parts is member.parts
        even = flat == "both" or flat == ("own" if own else "random")
        return inputs[0, 0] * (0 if even else 1)

    monkeypatch.setitem(map_judge.METHODS, "grad_cam", explain_plainly)
    item = Item("a", "a", "Nodule", "0", image, image.pixels.shape)
    records = Records(1)
    Judge(panel, member, "grad_cam", "", 0).judge(Stage(0, item, None, prepare_inputs(item, {member.spec}, 0)), records)
    expected = {"none": 1, "own": np.nan, "random": 0, "both": np.nan}[flat]
    np.testing.assert_allclose(records.numbers["simple_cnn", "sanity"], [expected])
