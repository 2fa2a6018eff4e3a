"""A panel's answers are the same with an empty cache, a full one, and after an interruption."""

import dataclasses
import random
import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from evaluation import cases
from evaluation.cache import OpinionCache, know_voice
from evaluation.cases import choose_models, collect_cases, find_unavailable, load_panel, settle
from evaluation.metrics import METRICS
from tests.hub_server import open_hub
from xray_models import datasets, fusing, hub_client, phantom
from xray_models import hub as command
from xray_models.architectures import build_model
from xray_models.calibration import fit_reference
from xray_models.checkpoints import save_checkpoint
from xray_models.hub_cache import resolve
from xray_models.hub_client import HubError, LabelsDiffer
from xray_models.images import Radiograph, read_image
from xray_models.layouts import LAYOUTS, name_below
from xray_models.panel import Panel
from xray_models.readings import Opinion
from xray_models.tasks import ModelRef, TaskError, load_task

MISSING = ModelRef("densenet121", checkpoint="phantom/none")
COMMIT = "0123456789" * 4


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Phantoms of which one stands there twice."""
    folder = phantom.write_dataset(tmp_path_factory.mktemp("cases") / "phantom", 44, seed=3, size=64)
    first = min((folder / "Nodule").iterdir())
    shutil.copy(first, folder / "Nodule" / "again.png")
    return folder


@pytest.fixture(scope="module")
def task(untrained):
    """The two smaller untrained models, and one that is not there."""
    return dataclasses.replace(untrained, models=(*untrained.models[:2], MISSING))


@pytest.fixture(scope="module")
def panel(task):
    return Panel.load(task, device="cpu")


@pytest.fixture(scope="module")
def rows(task, data):
    """A manifest of 45 images, and two whose files are gone or broken since."""
    rows = datasets.open_dataset(task, data).part("all")
    (data / "Nodule" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nand no more")
    lost = rows.iloc[[3, 20]].assign(
        path=[str(data / "Nodule" / "broken.png"), str(data / "gone.png")], sha256=["1", "2"]
    )
    return pd.concat([rows.iloc[:9], lost, rows.iloc[9:]], ignore_index=True)


@pytest.fixture(scope="module")
def fresh(panel, rows, data):
    """Cases and faults without a cache."""
    return collect_cases(panel, rows, data)


@pytest.fixture
def decoded(monkeypatch):
    """The paths of images that are opened."""
    seen = []
    monkeypatch.setattr(cases, "read_image", lambda path: seen.append(path) or read_image(path))
    return seen


def same(found, expected):
    assert found[0] == expected[0]
    pd.testing.assert_frame_equal(found[1], expected[1])


def test_cases_are_in_the_rows_order_and_say_what_the_panel_says(fresh, panel, rows, data):
    found, faults = fresh
    good = rows.drop(index=[9, 10])
    assert [case.image for case in found] == [name_below(path, data) for path in good["path"]]
    assert [case.label for case in found] == list(good["label"])
    assert [case.group for case in found] == [str(group) for group in good["group"]]
    assert faults["image"].tolist() == ["Nodule/broken.png", "gone.png"]
    assert faults["reason"].str.len().min() > 10
    assert not [case.image for case in found if case.image.startswith("/")]
    reading = panel.read(read_image(data / found[7].image))
    for said, own in zip(found[7].opinions, reading.opinions, strict=True):
        assert (said.model, said.revision, said.reason) == (own.model, own.revision, own.reason)
        assert (said.in_distribution, said.prediction_set) == (own.in_distribution, own.prediction_set)
        if own.probs:
            assert said.probs == pytest.approx(own.probs, rel=1e-5)
            assert said.label == max(said.probs, key=said.probs.get)
    assert found[7].consensus.disagreement == pytest.approx(reading.consensus.disagreement, abs=1e-5)
    assert (found[7].consensus.answered, found[7].consensus.asked) == (2, 3)


def test_an_empty_and_a_full_cache_give_the_same(fresh, panel, rows, data, tmp_path, decoded):
    with OpinionCache(tmp_path) as cache:
        same(collect_cases(panel, rows, data, cache), fresh)
    assert len(decoded) == len(rows)
    decoded.clear()
    with OpinionCache(tmp_path) as cache:
        same(collect_cases(panel, rows, data, cache), fresh)
    assert sorted(decoded) == sorted(rows["path"][[9, 10]])


@pytest.mark.parametrize("stop", [KeyboardInterrupt, MemoryError])
def test_a_run_that_was_broken_off_goes_on_there(fresh, panel, rows, data, tmp_path, monkeypatch, decoded, stop):
    with monkeypatch.context() as patch:
        seen, work = [], Panel._opinions

        def answer(self, member, batch):
            if not any(batch is one for one in seen):
                seen.append(batch)
            if len(seen) == 3:
                raise stop
            return work(self, member, batch)

        patch.setattr(Panel, "_opinions", answer)
        with pytest.raises(stop), OpinionCache(tmp_path) as cache:
            collect_cases(panel, rows, data, cache)
    decoded.clear()
    with OpinionCache(tmp_path) as cache:
        same(collect_cases(panel, rows, data, cache), fresh)
    # one picture of the two first batches stands twice; faults are tried again
    assert 45 - 2 * cases.BATCH + 2 - 1 <= len(decoded) <= 45 - 2 * cases.BATCH + 2


def test_only_models_that_lack_an_opinion_are_asked(fresh, task, panel, rows, data, tmp_path, monkeypatch):
    with OpinionCache(tmp_path) as cache:
        collect_cases(Panel.load(task, ["simple_cnn"], device="cpu"), rows, data, cache)
        collect_cases(panel, rows.iloc[:5], data, cache)
    asked, work = [], Panel.read_many

    def read_many(self, images):
        images = list(images)
        asked.extend([tuple(self.checkpoints)] * len(images))
        return work(self, images)

    monkeypatch.setattr(Panel, "read_many", read_many)
    with OpinionCache(tmp_path) as cache:
        found, _ = collect_cases(panel, rows, data, cache)
    assert set(asked) == {("resnet18",)}
    assert 39 <= len(asked) <= 40
    for case, expected in zip(found, fresh[0], strict=True):
        assert case.consensus.votes == expected.consensus.votes
        for a, b in zip(case.opinions[:2], expected.opinions[:2], strict=True):
            assert [*a.probs.values()] == pytest.approx([*b.probs.values()], rel=1e-5)


def test_a_model_that_failed_is_asked_again(task, rows, data, tmp_path):
    broken = Panel.load(task, ["simple_cnn", "resnet18"], device="cpu")
    bias = broken.checkpoints["resnet18"].parts.classifier.bias
    kept = bias.clone()
    with OpinionCache(tmp_path) as cache:
        with torch.no_grad():
            bias.fill_(float("nan"))
        found, _ = collect_cases(broken, rows.iloc[:4], data, cache)
        assert find_unavailable(found) == {"resnet18": "its output is not a number"}
        assert found[0].consensus.answered == 1
        with torch.no_grad():
            bias.copy_(kept)
        found, _ = collect_cases(broken, rows.iloc[:4], data, cache)
        assert find_unavailable(found) == {}


def test_a_file_that_was_exchanged_is_not_taken_for_the_old_one(panel, rows, data, tmp_path):
    """What is stored is named by the pixels that were read, not by those that the manifest knows."""
    other = rows.iloc[[0]].assign(path=rows["path"][30])
    with OpinionCache(tmp_path) as cache:
        collect_cases(panel, other, data, cache)
        first, _ = collect_cases(panel, rows.iloc[[0]], data, cache)
    expected, _ = collect_cases(panel, rows.iloc[[0]], data)
    assert first == expected


@pytest.fixture(scope="module")
def fused(tmp_path_factory):
    """The phantom task with two untrained models and their untrained fusion."""
    folder, task = tmp_path_factory.mktemp("fused"), load_task("phantom")
    recipe, rng = dataclasses.replace(task.recipe, image_size=64), np.random.default_rng(0)

    def reference(size):
        return fit_reference(rng.normal(size=(50, size)), rng.normal(size=(40, size)))

    for name, width in (("simple_cnn", 0.25), ("resnet18", 0.125)):
        model, spec = build_model(name, task.labels, dataclasses.replace(recipe, width=width))
        save_checkpoint(model.eval(), spec, folder / name, {}, reference(64))
    refs = [ModelRef(name, checkpoint=str(folder / name)) for name in ("simple_cnn", "resnet18")]
    fusion = ModelRef("fusion", checkpoint=str(folder / "fusion"), members=("simple_cnn", "resnet18"))
    task = dataclasses.replace(task, models=(*refs, fusion))
    model, spec = fusing.build_fusion(task, fusion, recipe)
    fusing.name_sources(model, task, folder / "fusion")
    save_checkpoint(model.eval(), spec, folder / "fusion", {"conformal_threshold": 0.1}, reference(128))
    return task


@pytest.mark.parametrize("known", [["fusion"], ["simple_cnn"], ["simple_cnn", "resnet18"]])
def test_a_fusion_answers_the_same_with_and_without_its_members(fused, rows, data, tmp_path, known):
    expected = collect_cases(Panel.load(fused, device="cpu"), rows, data)
    with OpinionCache(tmp_path) as cache:
        collect_cases(Panel.load(fused, known, device="cpu"), rows, data, cache)
        found = collect_cases(Panel.load(fused, device="cpu"), rows, data, cache)
    for case, own in zip(found[0], expected[0], strict=True):
        for a, b in zip(case.opinions, own.opinions, strict=True):
            assert [*a.probs.values()] == pytest.approx([*b.probs.values()], rel=2e-5)
            assert (a.label, a.prediction_set, a.in_distribution) == (b.label, b.prediction_set, b.in_distribution)


def test_six_digits_are_kept_and_no_probability_becomes_0():
    probs = {"a": 0.12345649, "b": 3.21987654e-7, "c": 0.87654318}
    said = settle(Opinion("net", "r", label="c", probs=probs, milliseconds=3.0))
    assert said.probs == {"a": 0.123456, "b": 3.21988e-7, "c": 0.876543}
    assert said.milliseconds is None
    tie = settle(Opinion("net", "r", label="b", probs={"a": 0.49999996, "b": 0.49999999}))
    assert (tie.label, set(tie.probs.values())) == ("a", {0.5})
    silent = Opinion("net", status="unavailable", reason="why")
    assert settle(silent) == silent


def test_images_are_read_in_order_and_few_at_a_time(tmp_path, decoded):
    for number in range(60):
        Image.new("L", (40, 40 + number)).save(tmp_path / f"{number:02d}.png")
    stream = cases.read_ahead(map(str, sorted(tmp_path.glob("*.png"))))
    first = next(stream)
    assert isinstance(first, Radiograph)
    assert len(decoded) <= 20
    assert [image.pixels.shape[0] for image in stream] == list(range(41, 100))


def test_a_panel_without_models_says_how_to_get_one(task):
    assert list(load_panel(task, ["resnet18"]).checkpoints) == ["resnet18"]
    with pytest.raises(TaskError, match=r"models: simple_cnn, .*densenet121: no weights.*xray_models\.train"):
        load_panel(task, ["densenet121"])


def test_the_engine_is_chosen_and_part_of_what_the_cache_goes_by(task):
    panel = load_panel(task, ["resnet18"], engine="auto")
    exact = load_panel(task, ["resnet18"])
    assert exact.engines == {"resnet18": "torch"}
    assert panel.engines["resnet18"].startswith("openvino")
    voices = [know_voice(one.checkpoints["resnet18"], one.engines["resnet18"]) for one in (panel, exact)]
    assert voices[0].key != voices[1].key


@pytest.fixture
def hub(tmp_path, monkeypatch):
    with open_hub(monkeypatch, tmp_path / "cache") as hub:
        yield hub


@pytest.fixture
def pushed(hub, untrained, monkeypatch):
    """A model of the phantom task on the Hub, as `owner/repo@commit`."""
    monkeypatch.setattr(command, "compose_files", compose)
    done = command.push_model(hub_client.connect(), untrained, untrained.models[0], "me")
    return f"{done.repo}@{done.revision}"


def compose(task, ref):
    """A model's files without a card's figures, which an untrained model has not."""
    names = ("config.json", "model.safetensors", "preprocessor_config.json", "reference.safetensors")
    return {name: (ref.path / name).read_bytes() for name in names}


def test_models_of_the_hub_stand_among_the_task_s_own(hub, untrained, pushed, image, monkeypatch):
    chosen = choose_models(untrained, ["resnet18", pushed, "simple_cnn"])
    assert [ref.name for ref in chosen.models] == ["resnet18", "phantom-simple-cnn", "simple_cnn"]
    assert resolve(chosen, chosen.models[1])
    _, theirs, ours = Panel.load(chosen, device="cpu").read(image).opinions
    assert theirs.probs == pytest.approx(ours.probs, abs=1e-6)
    assert theirs.revision == pushed.split("@")[1]
    requests = len(hub.requests)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert choose_models(untrained, [pushed]).models == (chosen.models[1],)
    assert len(hub.requests) == requests
    reversed_task = dataclasses.replace(untrained, labels=untrained.labels[::-1])
    with pytest.raises(LabelsDiffer, match="me/phantom-simple-cnn"):
        choose_models(reversed_task, [pushed])


def test_names_stay_apart(monkeypatch, untrained):
    monkeypatch.setattr(cases, "_fetch", lambda task, ref: None)
    names = [f"a/resnet18@{COMMIT}", f"b/resnet18@{COMMIT}", f"b/resnet18@{COMMIT[::-1]}", f"c/consensus@{COMMIT}"]
    chosen = choose_models(untrained, names)
    assert [ref.name for ref in chosen.models] == ["resnet18-2", "resnet18-3", "resnet18-4", "consensus-2"]
    assert [ref.repo for ref in chosen.models] == ["a/resnet18", "b/resnet18", "b/resnet18", "c/consensus"]
    assert choose_models(untrained, None) is untrained


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["a/net@main"], "'a/net@main' does not name a model of the Hub at a commit"),
        (["a/net"], "owner/repo@ and the 40 hexadecimal digits"),
        ([f"a/b/net@{COMMIT}"], "owner/repo@"),
        ([f"a/net@{COMMIT[:12]}"], "40 hexadecimal"),
        (["resnet"], "Did you mean 'resnet18'"),
        (["resnet18", "resnet18"], "'resnet18' is named twice"),
    ],
)
def test_names_that_name_no_model_are_refused(untrained, names, message):
    with pytest.raises(TaskError) as error:
        choose_models(untrained, names)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("name", "message"),
    [(f"me/nothing@{COMMIT}", "no repository 'me/nothing'"), (f"a/net--x@{COMMIT}", "'a/net--x' cannot be the name")],
)
def test_models_that_the_hub_lacks_are_named(hub, untrained, name, message):
    with pytest.raises(HubError, match=message):
        choose_models(untrained, [name])


def test_rounding_moves_no_metric(published):
    """Accuracy stays; the others move less than what metrics.json shows."""
    task = load_task("covid")
    listed = LAYOUTS[task.dataset.layout](task, published / "covid")
    chosen = random.Random(0).sample(listed, 40)
    panel = Panel.load(task, ["simple_cnn"], device="cpu")
    raw = [panel.read(read_image(entry.path)).opinions[0] for entry in chosen]
    truth = np.array([task.labels.index(entry.label) for entry in chosen])
    exact, kept = (np.array([[*o.probs.values()] for o in said]) for said in (raw, map(settle, raw)))
    for name in ("accuracy", "auroc", "nll", "brier"):
        assert METRICS[name](kept, truth, None) == pytest.approx(METRICS[name](exact, truth, None), abs=2e-6), name
