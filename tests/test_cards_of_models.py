import copy
import dataclasses
import json
import re
from pathlib import Path

import pytest

from tests.conftest import has_starters
from xray_models.architectures import find_architecture
from xray_models.cards import render_card
from xray_models.checkpoints import hash_weights
from xray_models.figures import take_figures
from xray_models.hub import main
from xray_models.tasks import CHECKPOINTS, TaskError, load_task
from xray_models.usage import describe_usage

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "evaluation" / "results"


@pytest.mark.parametrize("name", ["brain", "covid", "fracture", "phantom", "pneumonia"])
def test_the_starter_models_cards_are_what_their_configs_give(name):
    if not has_starters(name):
        pytest.skip(f"no starter models of {name}")
    task = load_task(name)
    folders = sorted((CHECKPOINTS / name).iterdir())
    assert {folder.name for folder in folders} == {ref.name for ref in task.models}
    for folder in folders:
        info = json.loads((folder / "config.json").read_text())["second_read"]
        card = (folder / "README.md").read_text()
        result = RESULTS / f"{name}.json"
        figures = None
        if result.is_file():
            figures = take_figures(task, folder.name, hash_weights(folder), json.loads(result.read_text()))
        assert card == render_card(task, info, figures), folder.name
        assert f"| accuracy | {info['test']['accuracy']:.4f} (" in card
        assert task.dataset.licence in card
        assert "Not a medical device" in card


@pytest.fixture
def found():
    """A model of covid, its weights' hash, and the evaluation that judged it."""
    if not has_starters("covid"):
        pytest.skip("no starter models of covid")
    metrics = json.loads((RESULTS / "covid.json").read_text())
    return load_task("covid"), hash_weights(CHECKPOINTS / "covid" / "vit_tiny"), metrics


def test_a_card_takes_figures_and_intervals_from_an_evaluation(found, capsys):
    task, _, metrics = found
    words = ["card", "--task", "covid", "--model", "vit_tiny", "--metrics", str(RESULTS / "covid.json")]
    assert main(words) == 0
    card = capsys.readouterr().out
    auroc = metrics["models"]["vit_tiny"]["auroc"]
    assert f"| auroc | {auroc['value']:.4f} ({auroc['low']:.3f} to {auroc['high']:.3f}) |" in card
    assert "bootstrap over groups" in card
    assert f"value: {auroc['value']:.4f}".rstrip("0") in card


def test_all_figures_of_a_card_are_of_one_evaluation(found):
    """Those of another number of images stood beside the number of the training's own test."""
    task, digest, metrics = found
    info = json.loads((CHECKPOINTS / "covid" / "vit_tiny" / "config.json").read_text())["second_read"]
    fewer = copy.deepcopy(metrics)
    own = fewer["models"]["vit_tiny"]
    own |= {"n": 17, "confusion": [[5, 0, 0, 0], [1, 3, 0, 0], [0, 0, 7, 0], [0, 0, 1, 0]]}
    for name, value in (("ece", 0.125), ("coverage", 0.75), ("set_size", 1.5)):
        own[name] = own[name] | {"value": value}
    figures = take_figures(task, "vit_tiny", digest, fewer)
    card = render_card(task, info, figures)
    assert "On the 17 images of the grouped test split" in card
    assert re.findall(r"\(n = (\d+)\)", card) == ["5", "4", "7", "1"]
    assert "(test ECE 0.125)." in card and "label in 75.0% of the images, with 1.50 labels" in card
    assert f"(test ECE {info['ece_before']:.3f} before, {info['test']['ece']:.3f} after)" in render_card(task, info)
    own |= {"coverage": None, "set_size": None}
    unknown = render_card(task, info, take_figures(task, "vit_tiny", digest, fewer))
    assert "aim at 90 % coverage." in unknown


@pytest.mark.parametrize(("teacher", "named"), [("resnet18", "resnet18"), ("resnet18, fusion", "resnet18 and fusion")])
def test_a_card_names_the_teacher(found, teacher, named):
    task, _, _ = found
    info = json.loads((CHECKPOINTS / "covid" / "vit_tiny" / "config.json").read_text())["second_read"]
    info["recipe"]["teacher"] = ""
    assert "learned the opinions" not in render_card(task, info)
    info["recipe"]["teacher"] = teacher
    assert f"it learned the opinions of {named} about the training images." in render_card(task, info)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"task": "brain"}, "task 'brain'"),
        ({"split": "train"}, "split 'train'"),
        ({"revision": "0" * 12}, "at 000000000000; its weights are now"),
        ({"model": "vit_small"}, "Unknown model: 'vit_small'"),
    ],
)
def test_figures_of_something_else_are_refused(found, change, says):
    task, digest, metrics = found
    metrics = copy.deepcopy(metrics) | {k: v for k, v in change.items() if k in ("task", "split")}
    if "revision" in change:
        metrics["models"]["vit_tiny"]["revision"] = change["revision"]
    with pytest.raises(TaskError, match=says):
        take_figures(task, change.get("model", "vit_tiny"), digest, metrics)


def test_older_metrics_tell_no_error_by_chance(found):
    task, digest, metrics = found
    older = copy.deepcopy(metrics)
    for name in ("ece_by_chance", "reliability"):
        del older["models"]["vit_tiny"][name]
    figures, now = (take_figures(task, "vit_tiny", digest, each) for each in (older, metrics))
    assert figures == now._replace(chance=None, reliability=()) and now.chance is not None


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"sensitivity": None}, "lack a figure"),
        ({"ece": {}}, "lack a figure"),
        ("[]", "holds no figures of models"),
        ('{"task": "covid", "split": "test"}', "holds no figures of models"),
        (None, "cannot be read"),
    ],
)
def test_metrics_without_a_figure_are_refused(found, tmp_path, capsys, change, says):
    metrics = copy.deepcopy(found[2])
    path = tmp_path / "metrics.json"
    if isinstance(change, dict):
        metrics["models"]["vit_tiny"] |= change
        path.write_text(json.dumps(metrics))
    elif change is not None:
        path.write_text(change)
    assert main(["card", "--task", "covid", "--model", "vit_tiny", "--metrics", str(path)]) == 2
    assert says in capsys.readouterr().err


def test_a_figure_that_is_not_defined_is_a_dash_and_no_result_on_the_hub(found, tmp_path, capsys):
    metrics = copy.deepcopy(found[2])
    unknown = {"value": None, "low": None, "high": None}
    own = metrics["models"]["vit_tiny"]
    own["auroc"] = own["sensitivity"]["COVID"] = unknown
    path = tmp_path / "metrics.json"
    path.write_text(json.dumps(metrics))
    assert main(["card", "--task", "covid", "--model", "vit_tiny", "--metrics", str(path)]) == 0
    card = capsys.readouterr().out
    assert "| auroc | – |" in card and "type: roc_auc" not in card and "type: accuracy" in card
    assert re.search(r"\| COVID \(n = \d+\) \| – \| 0\.", card)


def test_a_card_says_of_a_split_what_is_so(found):
    info = json.loads((CHECKPOINTS / "covid" / "vit_tiny" / "config.json").read_text())["second_read"]
    task = load_task("covid")
    card = render_card(task, info)
    assert "The files tell no patients" in card and "of the grouped test split" in card
    patients = dataclasses.replace(task, dataset=dataclasses.replace(task.dataset, patient=r"person(\d+)"))
    assert "so do images of one patient" in render_card(patients, info)
    alone = dataclasses.replace(task, split=dataclasses.replace(task.split, group="none"))
    assert "divided one by one" in render_card(alone, info)
    assert "images of the test split, which" in render_card(alone, info)
    official = render_card(task, info | {"split": "official"})
    assert "may stand on both sides" in official and "of the publisher's test split" in official


@pytest.mark.parametrize(
    ("group", "patient", "says"),
    [
        ("none", "", "(bootstrap over images)"),
        ("auto", "", "(bootstrap over groups: near-copies are drawn together)"),
        ("auto", "person", "(bootstrap over groups: near-copies, and images of one patient, are drawn together)"),
    ],
)
def test_a_card_says_of_its_intervals_what_was_drawn_together(found, group, patient, says):
    task, digest, metrics = found
    info = json.loads((CHECKPOINTS / "covid" / "vit_tiny" / "config.json").read_text())["second_read"]
    dataset = dataclasses.replace(task.dataset, patient=patient)
    task = dataclasses.replace(task, dataset=dataset, split=dataclasses.replace(task.split, group=group))
    assert says in render_card(task, info, take_figures(task, "vit_tiny", digest, metrics))


def test_the_card_of_drawn_images_speaks_of_no_hospital():
    if not has_starters("phantom"):
        pytest.skip("no starter models of phantom")
    info = json.loads((CHECKPOINTS / "phantom" / "vit_tiny" / "config.json").read_text())["second_read"]
    card = render_card(load_task("phantom"), info)
    assert "say nothing of radiographs of people" in card
    assert not re.search("hospital|public collection|one patient|near-copies|grouped", card)


KINDS = [
    ("covid", "vit_tiny", "", False),
    ("covid", "mobilenet_v2", "", False),
    ("covid", "simple_cnn", "simple_cnn.py", True),
    ("covid", "fusion", "fusion.py", True),
]


@pytest.mark.parametrize(("task", "model", "module", "own"), KINDS)
def test_a_card_says_how_to_use_its_model_and_that_is_so(task, model, module, own):
    if not has_starters(task):
        pytest.skip(f"no starter models of {task}")
    folder = CHECKPOINTS / task / model
    usage = (folder / "README.md").read_text().partition("## How to use\n")[2].partition("\n## ")[0]
    assert f"python -m xray_models.read IMAGE --task {task}\n" in usage
    assert ("trust_remote_code" in usage, f"runs the repository's `{module}`" in usage) == (own, own)
    (code,) = re.findall("```python\n(.*?)```", usage, re.DOTALL)
    assert code.startswith("import xray_models") == own
    names = {}
    exec(code.replace("FOLDER", str(folder)).replace("image.png", str(ROOT / "docs" / "phantom.png")), names)
    said = {each["label"] for each in names["classify"](str(ROOT / "docs" / "phantom.png"), top_k=None)}
    assert said == set(load_task(task).labels)


@pytest.mark.parametrize(
    ("change", "module"),
    [
        ({"architecture": "bone_cnn_v2_slim"}, "bone_cnn.py"),
        ({"architecture": "resnet18", "recipe": {"head": "dense"}}, "headed.py"),
        ({"architecture": "resnet18", "recipe": {}}, ""),
    ],
)
def test_the_module_of_a_network_of_our_own_is_named(change, module):
    usage = describe_usage("bone", {"recipe": {}, **change})
    assert (f"runs the repository's `{module}`" in usage) if module else ("trust_remote_code" not in usage)
    assert not module or (Path(find_architecture.__code__.co_filename).parent / module).is_file()


def test_a_card_says_of_which_part_of_a_collection_its_figures_are(found):
    task = found[0]
    info = json.loads((CHECKPOINTS / "covid" / "vit_tiny" / "config.json").read_text())["second_read"]
    part = (
        "tested on 4,426 images, while the publisher offers 21,165; their longer side is 224 pixels in the median. Acc"
    )
    assert part in render_card(task, info)
    older = {key: value for key, value in info.items() if key != "longer_side"}
    assert "while the publisher offers 21,165. Acc" in render_card(task, older)
    whole = info | {"counts": {"train": 14_815, "validation": 3_170, "test": 3_170}, "longer_side": 299}
    card = render_card(task, whole)
    assert "publisher offers" not in card and "Their longer side is 299 pixels in the median.\n" in card
    unknown = dataclasses.replace(task, dataset=dataclasses.replace(task.dataset, images=0))
    assert "publisher offers" not in render_card(unknown, older) and "longer side" not in render_card(unknown, older)
