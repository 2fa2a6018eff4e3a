import dataclasses

import pytest
import yaml

from xray_models.tasks import CONFIGS, ModelRef, TaskError, load_task, load_tasks, task_names


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


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"lables": ["a", "b"]}, "Did you mean 'labels'"),
        ({"labels": None}, "`labels` is missing"),
        ({"labels": ["COVID"]}, "at least two"),
        ({"positive": ["COVIDD"]}, "Did you mean 'COVID'"),
        ({"train": {"epoch": 3}}, "Did you mean 'epochs'"),
        ({"train": {"schedule": "linear"}}, "valid: cosine, plateau"),
        ({"train": {"learning_rate": -1}}, "above 0"),
        ({"split": {"group": "patient"}}, "valid: auto, none"),
        ({"split": {"test": 0.9, "validation": 0.2}}, "together below 1"),
        ({"dataset": {"layout": "x"}}, "`dataset.citation` is missing"),
        ({"models": {"resnet18": {"checkpoint": "a", "train": {"lr": 1}}}}, "models.resnet18.train.lr"),
        ({"models": {"resnet18": {}}}, "either `checkpoint:` or `repo:`"),
        ({"models": {"resnet18": {"repo": "me/x", "revision": "main"}}}, "40 hexadecimal digits"),
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
