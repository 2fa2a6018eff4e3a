"""What the page says of models is what their configs and evaluations say; what is missing says how to get it."""

import dataclasses
import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import gradio as gr
import pytest

from reading_room import models
from reading_room.models_page import build_models_page
from reading_room.room import Room
from tests.conftest import has_starters
from xray_models.checkpoints import hash_weights
from xray_models.figures import Share
from xray_models.hub_client import HubError
from xray_models.tasks import CHECKPOINTS, ModelRef, TaskError, load_task


@pytest.fixture
def covid():
    if not has_starters("covid"):
        pytest.skip("no starter models of covid")
    return load_task("covid")


def test_figures_are_those_of_the_config_and_of_the_evaluation(covid, tmp_path, monkeypatch):
    monkeypatch.setattr(models, "RESULTS", tmp_path)
    (alone,) = (entry for entry in models.list_models(covid, tmp_path) if entry.model == "vit_tiny")
    folder = CHECKPOINTS / "covid" / "vit_tiny"
    test = json.loads((folder / "config.json").read_text())["second_read"]["test"]
    assert alone.figures.whole["accuracy"].value == test["accuracy"]
    assert alone.figures.whole["auroc"].low is None
    assert alone.revision == hash_weights(folder)
    (tmp_path / "covid").mkdir()
    metrics = json.loads((Path(models.__file__).parents[1] / "evaluation/results/covid.json").read_text())
    (tmp_path / "covid" / "metrics.json").write_text(json.dumps(metrics))
    (judged,) = (entry for entry in models.list_models(covid, tmp_path) if entry.model == "vit_tiny")
    assert judged.figures.whole["auroc"].low == metrics["models"]["vit_tiny"]["auroc"]["low"]
    assert sum(each.n for each in judged.figures.reliability) == metrics["n"]
    drawn = models.render_models(covid, [judged, alone])
    assert drawn.count("<figure>") == 1  # the model's own config holds no bins
    assert f"by chance {judged.figures.chance.value:.3f} <span>" in drawn
    metrics["models"]["vit_tiny"]["revision"] = "0" * 12  # of other weights: not taken
    (tmp_path / "covid" / "metrics.json").write_text(json.dumps(metrics))
    (again,) = (entry for entry in models.list_models(covid, tmp_path) if entry.model == "vit_tiny")
    assert again == alone


def test_the_table_says_where_a_model_fails_and_what_it_was_trained_on(covid, tmp_path):
    entries = models.list_models(covid, tmp_path)
    html = models.render_models(covid, entries)
    sensitivity = entries[0].figures.sensitivity
    weakest = min(sensitivity, key=lambda label: sensitivity[label].value)
    assert f"{weakest.replace('_', ' ')}<small class='sr-quiet'>sensitivity {sensitivity[weakest].value:.3f}" in html
    assert f"ECE {entries[0].info['ece_before']:.3f} before" in html
    assert covid.dataset.citation.split(";")[0] in html
    assert html.count('data-action="card"') == len(covid.models)


def test_a_figure_that_is_not_defined_is_a_dash(covid, tmp_path):
    entry = models.list_models(covid, tmp_path)[0]
    unknown = {label: Share(None) for label in covid.labels}
    figures = entry.figures._replace(whole=entry.figures.whole | {"auroc": Share(None)}, sensitivity=unknown)
    row = models.render_models(covid, [entry._replace(figures=figures)])
    assert row.count(">–<") == 2 and "None" not in row


def test_what_is_missing_says_why_and_the_command(untrained, tmp_path):
    gone = ModelRef("resnet18", checkpoint="phantom/no-such")
    hub = ModelRef("vit_tiny", repo="owner/no-such", revision="0" * 40)
    task = dataclasses.replace(untrained, models=(gone, hub))
    local, remote = models.list_models(task, tmp_path)
    assert local.problem == "There are no weights in checkpoints/phantom/no-such."
    assert local.command.startswith("python -m xray_models.train --task phantom --model resnet18 --out")
    assert "not on this machine" in remote.problem
    assert remote.command == "python -m xray_models.hub pull --task phantom --models vit_tiny"
    html = models.render_models(task, [local, remote])
    assert html.count("Missing</span>") == 2
    assert "data-action" not in html
    for name in ("resnet18", "vit_tiny"):
        with pytest.raises((TaskError, HubError)):
            models.show_card(task, name, tmp_path)


def test_a_model_without_figures_says_so(untrained, tmp_path):
    entries = models.list_models(untrained, tmp_path)
    assert {entry.problem for entry in entries} == {"Its config holds no test figures."}
    assert models.render_models(untrained, entries).count("No figures</span>") == 3


@pytest.fixture
def odd(untrained, tmp_path):
    """A task whose first model has a config of which `second_read` is to be said, and metrics."""

    def make(second, metrics=None):
        folder = shutil.copytree(untrained.models[0].path, tmp_path / "odd", dirs_exist_ok=True)
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(config | {"second_read": second}))
        (tmp_path / "phantom").mkdir(exist_ok=True)
        (tmp_path / "phantom" / "metrics.json").write_text(json.dumps(metrics))
        ref = dataclasses.replace(untrained.models[0], checkpoint=str(folder))
        return dataclasses.replace(untrained, models=(ref, *untrained.models[1:]))

    return make


def say_all(task):
    """A config's `second_read` with all that the page shows."""
    by_label = dict.fromkeys(task.labels, 0.5)
    test = dict.fromkeys(("accuracy", "balanced_accuracy", "auroc", "nll", "ece"), 0.5)
    test |= {"support": dict.fromkeys(task.labels, 2), "sensitivity": by_label, "specificity": by_label}
    return {"test": test, "counts": {"test": 10}, "temperature": 1.0, "ece_before": 0.1}


ODD = [
    ("temperature", None),
    ("temperature", "x"),
    ("ece_before", "0.1"),
    ("counts", "many"),
    ("counts", {"test": None}),
    ("test", {"accuracy": float("inf")}),
    ("test", {"sensitivity": "x"}),
    ("test", {"support": [1]}),
]


@pytest.mark.parametrize(("key", "value"), ODD)
def test_a_figure_that_cannot_be_shown_takes_no_other_model_from_the_page(odd, untrained, tmp_path, key, value):
    whole = say_all(untrained)
    value = whole["test"] | value if key == "test" else value
    task = odd({**whole, key: value})
    entries = models.list_models(task, tmp_path)
    assert entries[0].revision and entries[0].problem and entries[0].figures is None
    html = models.render_models(task, entries, ["simple_cnn"])
    assert html.count('data-action="card"') == 3 and html.count('data-action="leave"') == 1


@pytest.mark.parametrize("second", [[1], "x", 3])
def test_a_second_read_that_is_no_mapping_is_a_problem(odd, tmp_path, second):
    task = odd(second)
    entries = models.list_models(task, tmp_path)
    assert "cannot be shown" in entries[0].problem
    assert models.render_models(task, entries, ["simple_cnn"]).count('data-action="leave"') == 1


@pytest.mark.parametrize("models_of", [None, [], "x", {"simple_cnn": []}])
def test_metrics_that_are_none_are_left_out(odd, untrained, tmp_path, models_of):
    whole = say_all(untrained)
    for metrics in ([], "x", 3, {"task": "phantom", "split": "test", "models": models_of}):
        entry = models.list_models(odd(whole, metrics), tmp_path)[0]
        assert entry.figures.whole["accuracy"].value == 0.5


def test_a_model_that_is_missing_can_be_taken_out(untrained, tmp_path):
    gone = ModelRef("vit", repo="owner/no-such", revision="0" * 40)
    task = dataclasses.replace(untrained, models=(gone,))
    assert 'data-action="leave"' in models.render_models(task, models.list_models(task, tmp_path), ["vit"])


def test_a_model_with_other_labels_is_a_problem_not_a_crash(untrained, tmp_path):
    task = dataclasses.replace(untrained, labels=("a", "b"), positive=("a",))
    entry = models.list_models(task, tmp_path)[0]
    assert "labels" in entry.problem and entry.figures is None


def test_nothing_in_a_card_runs_or_is_fetched():
    text = "---\nlicense: x\n---\n# A\n<script>alert(1)</script> ![p](http://h/x.png) ![a][b] <img src=x> 1 < 2 `a<b>`"
    tamed = models.tame(text)
    assert tamed.startswith("# A\n‹script>")
    assert "<img" not in tamed and "![" not in tamed and "[p](http" in tamed
    assert "1 < 2" in tamed and "license" not in tamed


def test_a_card_is_shown_as_it_lies_beside_the_weights(covid, tmp_path):
    card = models.show_card(covid, "vit_tiny", tmp_path)
    assert "Not a medical device" in card and not card.startswith("---")
    with pytest.raises(TaskError, match="Unknown model"):
        models.show_card(covid, "vit", tmp_path)


def test_a_card_is_made_of_the_config_or_says_what_that_lacks(covid, tmp_path, monkeypatch):
    folder = tmp_path / "vit_tiny"
    shutil.copytree(CHECKPOINTS / "covid" / "vit_tiny", folder, ignore=shutil.ignore_patterns("README.md"))
    ref = dataclasses.replace(covid.model("vit_tiny"), checkpoint=str(folder))
    task = dataclasses.replace(covid, models=(ref,))
    assert "Not a medical device" in models.show_card(task, "vit_tiny", tmp_path)
    config = json.loads((folder / "config.json").read_text())
    recipe, config["second_read"]["recipe"] = config["second_read"]["recipe"], None
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(TaskError, match=r"its config holds what none can show"):
        models.show_card(task, "vit_tiny", tmp_path)
    config["second_read"]["recipe"] = recipe
    del config["second_read"]["ood_references"]
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(TaskError, match=r"its config lacks second_read\.ood_references"):
        models.show_card(task, "vit_tiny", tmp_path)


def test_a_report_is_framed_without_scripts_or_connections(tmp_path):
    task = load_task("phantom")
    assert models.find_report(task, tmp_path) is None
    (tmp_path / "phantom").mkdir()
    path = tmp_path / "phantom" / "report.html"
    path.write_text('<html><head><title>"t"</title></head><script>alert(1)</script></html>')
    frame = models.frame_report(models.find_report(task, tmp_path), 'A "title"')
    assert 'sandbox=""' in frame and "<script" not in frame
    assert "default-src &#x27;none&#x27;" in frame
    assert frame.index("Content-Security-Policy") < frame.index("&lt;title")
    assert 'title="A &quot;title&quot;"' in frame
    assert frame.count('"') == 8  # nothing breaks out of an attribute


def test_a_report_too_large_for_a_page_is_not_framed(tmp_path, monkeypatch):
    monkeypatch.setattr(models, "_REPORT_LIMIT", 10)
    (tmp_path / "phantom").mkdir()
    (tmp_path / "phantom" / "report.html").write_text("x" * 11)
    assert models.find_report(load_task("phantom"), tmp_path) is None


def test_the_page_stands_in_any_blocks(tmp_path):
    room = Room(tmp_path)
    with gr.Blocks() as app:
        build_models_page(room)
    assert app.fns
    assert all(fn.api_visibility == "private" for fn in app.fns.values())


def test_a_report_takes_the_place_of_a_card_and_the_other_way_round(tmp_path):
    (tmp_path / "phantom").mkdir()
    (tmp_path / "phantom" / "report.html").write_text("<html><head></head></html>")
    room = Room(tmp_path)
    room.reports = tmp_path
    with gr.Blocks() as app:
        build_models_page(room)
    show_report, act = (next(fn.fn for fn in app.fns.values() if fn.name == name) for name in ("show_report", "act"))
    *_, card, frame = show_report("phantom")
    assert not card["visible"] and "<iframe" in frame
    *_, card, frame = act("phantom", SimpleNamespace(action="card", key="simple_cnn"))
    assert card["visible"] and frame == ""


def test_each_time_a_card_is_hidden_it_is_emptied(tmp_path):
    """gradio takes an update apart: one that is kept would hide a card the second time, and leave its text."""
    room = Room(tmp_path)
    room.reports = tmp_path
    with gr.Blocks() as app:
        build_models_page(room)
    show_task = next(fn.fn for fn in app.fns.values() if fn.name == "show_task")
    for _ in range(2):
        hidden = show_task("phantom")[2]
        assert hidden.pop("value") == "" and not hidden["visible"]
