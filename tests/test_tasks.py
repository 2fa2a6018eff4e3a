import dataclasses

import pytest
import yaml

from xray_models.layouts import LAYOUTS
from xray_models.tasks import CONFIGS, LAYOUT_NAMES, ModelRef, TaskError, load_task, load_tasks, task_names


def test_every_task_loads_and_is_frozen():
    assert {"covid", "pneumonia", "brain", "fracture", "bone", "phantom"} <= set(task_names())
    for name, task in load_tasks().items():
        assert task.name == name
        assert set(task.positive) < set(task.labels)
        for ref in task.models:
            task.recipe_of(ref.name)  # every override is a known setting
        with pytest.raises(dataclasses.FrozenInstanceError):
            task.title = "other"


def test_labels_keep_the_order_of_the_file():
    assert load_task("covid").labels == ("COVID", "Lung_Opacity", "Normal", "Viral Pneumonia")


def write(folder, **changes):
    raw = yaml.safe_load((CONFIGS / "covid.yaml").read_text())
    raw.update(changes)
    (folder / "mine.yaml").write_text(yaml.safe_dump({k: v for k, v in raw.items() if v is not None}))
    return folder


DATASET = {"layout": "label_folders", "source": "s", "licence": "l", "citation": "c"}


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"lables": ["a", "b"]}, "Did you mean 'labels'"),
        ({"labels": None}, "`labels` is missing"),
        ({"labels": ["COVID"]}, "at least two"),
        ({"positive": ["COVIDD"]}, "Did you mean 'COVID'"),
        ({"train": {"epoch": 3}}, "Did you mean 'epochs'"),
        ({"train": {"schedule": "linear"}}, "Valid: cosine, plateau"),
        ({"train": {"learning_rate": -1}}, "above 0"),
        ({"split": {"group": "patient"}}, "valid: auto, none"),
        ({"split": {"test": 0.9, "validation": 0.2}}, "together below 1"),
        ({"dataset": {"layout": "x"}}, "`dataset.citation` is missing"),
        ({"dataset": {**DATASET, "images": -1}}, "dataset.images is -1; write how many"),
        ({"models": {"resnet18": {"checkpoint": "a", "train": {"lr": 1}}}}, "models.resnet18.train.lr"),
        ({"models": {"resnet18": {}}}, "either `checkpoint:` or `repo:`"),
        ({"models": {"resnet18": {"repo": "me/x", "revision": "main"}}}, "40 hexadecimal digits"),
        ({"models": {"resnet18": {"repo": "me/x", "revision": int("1" * 40)}}}, "`models.resnet18.revision` is 111"),
        ({"models": ["resnet18"]}, "`models` is ['resnet18']; it must be a mapping of keys"),
        ({"models": {18: {"checkpoint": "a"}}}, "`models.18.name` is 18; it must be a text: quote it"),
        ({"models": {"resnet18": None}}, "`models.resnet18` is None; it must be a mapping"),
        ({"models": {"consensus": {"checkpoint": "a"}}}, "no model can be called 'consensus'"),
        ({"models": {"fusion": {"checkpoint": "a", "members": ["b", "c"]}}}, "`models.fusion.members:`: 'b'"),
        ({"models": {"fusion": {"checkpoint": "a", "members": None}}}, "`models.fusion.members` is None"),
        ({"models": {"resnet18": {"checkpoint": "a", "train": {"epochs": "9"}}}}, "`models.resnet18.train.epochs` is"),
        ({"train": {"learning_rate": "3e-4"}}, "'3e-4'; it must be a number. Write 0.0003."),
        ({"train": {"learning_rate": "1e-5"}}, "Write 0.00001."),
        ({"train": {"learning_rate": "fast"}}, "`train.learning_rate` is 'fast'; it must be a number."),
        ({"train": {"learning_rate": float("inf")}}, "inf; it must be a finite number above 0"),
        ({"train": {"weight_decay": True}}, "`train.weight_decay` is True"),
        ({"train": {"epochs": 1.5}}, "`train.epochs` is 1.5; it must be a whole number"),
        ({"train": {"augment": "covod"}}, "Did you mean 'covid'"),
        ({"title": 2024}, "`title` is 2024; it must be a text: quote it"),
        ({"labels": []}, "at least two"),
        ({"labels": "ab"}, "`labels` is 'ab'; it must be a list"),
        ({"labels": [False, True]}, "`labels` is [False, True]; it must be a list of texts that are not empty: quote"),
        ({"labels": ["COVID", " "]}, "texts that are not empty"),
        ({"dataset": DATASET | {"layout": "fractatlas"}}, "Did you mean 'fracatlas'"),
        ({"dataset": DATASET | {"patient": "(a"}}, "'(a', which is no regular expression"),
        ({"dataset": DATASET | {"splits": {"train": 1}}}, "`dataset.splits` is {'train': 1}"),
        (
            {"dataset": DATASET | {"splits": {"train": "a", "val": "b", "tset": "c"}}},
            "dataset.splits has the keys tset, val; valid: train, validation, test.",
        ),
        ({"split": {"seed": -1}}, "split.seed is -1; it must be 0 or more"),
        ({"dataset": DATASET | {"licence": 4.0}}, "`dataset.licence` is 4.0"),
    ],
)
def test_a_wrong_file_says_what_is_wrong(tmp_path, changes, says):
    with pytest.raises(TaskError, match="mine.yaml") as error:
        load_task("mine", write(tmp_path, **changes))
    assert says in str(error.value)


def test_broken_yaml_is_named(tmp_path):
    (tmp_path / "mine.yaml").write_text("title: [")
    with pytest.raises(TaskError, match="not valid YAML"):
        load_task("mine", tmp_path)


@pytest.mark.parametrize("key", ["labels", "positive", "split", "train", "dataset"])
def test_an_empty_key_is_named(tmp_path, key):
    path = write(tmp_path) / "mine.yaml"
    raw = yaml.safe_load(path.read_text())
    path.write_text(yaml.safe_dump(raw | {key: None}))
    with pytest.raises(TaskError, match=f"mine.yaml: `{key}`.* None|mine.yaml: `{key}` must be a mapping"):
        load_task("mine", tmp_path)


def test_a_file_that_is_not_utf_8_is_named(tmp_path):
    (tmp_path / "mine.yaml").write_bytes("title: Pédiatrie".encode("latin-1"))
    with pytest.raises(TaskError, match="mine.yaml is not valid UTF-8"):
        load_task("mine", tmp_path)


def test_the_layouts_that_a_file_may_name_are_those_that_there_are():
    assert sorted(LAYOUT_NAMES) == sorted(LAYOUTS)


def test_unknown_names_list_the_valid_ones():
    with pytest.raises(TaskError, match="Did you mean 'covid'"):
        load_task("covd")
    with pytest.raises(TaskError, match="Valid: simple_cnn"):
        load_task("covid").model("resnet19")


def test_labels_of_a_checkpoint_must_match_order_included():
    task = load_task("pneumonia")
    task.check_labels(["NORMAL", "PNEUMONIA"], "model 'm'")
    for wrong in (["PNEUMONIA", "NORMAL"], ["NORMAL"]):
        with pytest.raises(TaskError, match="in this order"):
            task.check_labels(wrong, "model 'm'")


def test_a_pinned_hub_model_is_accepted():
    assert ModelRef("m", repo="me/x", revision="0" * 40).path is None
