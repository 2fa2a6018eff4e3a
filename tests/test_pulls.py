"""A model of the Hub joins a panel while the room is open, answers there, and leaves; what cannot join says why."""

import dataclasses
import json
import shutil

import gradio as gr
import pytest
from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessorPil

from reading_room import panels as panels_module
from reading_room import pulls
from reading_room.models_page import build_models_page
from reading_room.pulls import pull_into
from reading_room.room import Room
from tests.hub_server import open_hub
from xray_models import checkpoints
from xray_models.hub_client import HubError, LabelsDiffer, connect
from xray_models.panel import Panel
from xray_models.tasks import TaskError


@pytest.fixture
def hub(tmp_path, monkeypatch):
    with open_hub(monkeypatch, tmp_path / "cache") as hub:
        yield hub


@pytest.fixture
def room(untrained, tmp_path, monkeypatch):
    """A room whose readers may pull, with two of the untrained models; the third is for the Hub."""
    task = dataclasses.replace(untrained, models=untrained.models[:2])
    monkeypatch.setattr(panels_module, "load_tasks", lambda: {"phantom": task})
    room = Room(tmp_path / "flags")
    room.pulls = True
    yield room
    room.panels.get("phantom")  # its threads are done before the tests are


def publish(name, folder):
    """Puts a folder's files on the Hub; returns the commit."""
    api = connect()
    api.create_repo(name, exist_ok=True)
    return api.upload_folder(repo_id=name, folder_path=folder).oid


@pytest.fixture
def joined(hub, untrained):
    """Name and commit of a model that is on the Hub."""
    return "ward/vit", publish("ward/vit", untrained.model("vit_tiny").path)


@pytest.fixture
def stranger(tmp_path, untrained):
    """Folder of a model that was trained by another program."""
    labels = dict(enumerate(untrained.labels))
    shape = dict.fromkeys(("hidden_size", "intermediate_size"), 32) | {"image_size": 64, "patch_size": 16}
    config = ViTConfig(num_hidden_layers=2, num_attention_heads=2, id2label=labels, **shape)
    ViTForImageClassification(config).save_pretrained(tmp_path / "stranger")
    ViTImageProcessorPil(size={"height": 64, "width": 64}).save_pretrained(tmp_path / "stranger")
    return tmp_path / "stranger"


def test_a_model_joins_answers_and_leaves(joined, room, untrained, image):
    name, commit = joined
    pulled = pull_into(room.panels, "phantom", f" {name} ")
    assert (pulled.ref.repo, pulled.ref.revision, pulled.calibrated) == (name, commit, False)
    opinion = room.panels.get("phantom").read(image).opinions[-1]
    (same,) = Panel.load(untrained, ["vit_tiny"], device="cpu").read(image).opinions
    assert (opinion.model, opinion.revision, opinion.status) == ("vit", commit, "ok")
    assert [*opinion.probs.values()] == pytest.approx([*same.probs.values()], abs=1e-6)
    assert [own["model"] for own in room.describe_tasks()["phantom"]["models"]] == ["simple_cnn", "resnet18", "vit"]
    with pytest.raises(TaskError, match=f"{name} is in the panel already"):
        pull_into(room.panels, "phantom", f"{name}@{commit}")
    for twin in (
        pulled.ref,
        dataclasses.replace(pulled.ref, repo="ward/other"),
        dataclasses.replace(pulled.ref, name="a"),
    ):
        with pytest.raises(TaskError, match=f"cannot join: 'vit', of {name}, is in the panel already"):
            room.panels.add("phantom", twin)  # pulled while another reader pulled the first
    room.panels.remove("phantom", "vit")
    assert [said.model for said in room.panels.get("phantom").read(image).opinions] == ["simple_cnn", "resnet18"]
    for kept in ("vit", "resnet18"):
        with pytest.raises(TaskError, match="model that has joined"):
            room.panels.remove("phantom", kept)


def test_an_older_commit_can_be_named(joined, room, untrained, tmp_path):
    name, commit = joined
    folder = shutil.copytree(untrained.model("simple_cnn").path, tmp_path / "newer")
    config = json.loads((folder / "config.json").read_text())
    config["second_read"]["temperature"] = 1.1
    (folder / "config.json").write_text(json.dumps(config))
    newer = publish(name, folder)
    assert newer != commit
    assert pull_into(room.panels, "phantom", f"{name}@{commit}").ref.revision == commit
    room.panels.remove("phantom", "vit")
    now = pull_into(room.panels, "phantom", name)
    assert (now.ref.revision, now.calibrated) == (newer, True)


def test_a_model_trained_elsewhere_answers_without_what_it_does_not_know(hub, room, stranger, image):
    publish("ward/other", stranger)
    assert not pull_into(room.panels, "phantom", "ward/other").calibrated
    opinion = room.panels.get("phantom").read(image).opinions[-1]
    assert opinion.status == "ok" and sum(opinion.probs.values()) == pytest.approx(1)
    assert opinion.prediction_set is None and opinion.in_distribution is None


def test_what_cannot_join_says_why_and_changes_nothing(joined, hub, room, stranger, tmp_path):
    def refuse(kind, words, wanted):
        with pytest.raises(kind, match=words):
            pull_into(room.panels, "phantom", wanted)

    refuse(HubError, "'vit' is no model of the Hub", "vit")
    refuse(HubError, "there is no repository 'ward/none'", "ward/none")
    refuse(HubError, "is not on the Hub", f"ward/vit@{'0' * 40}")
    with pytest.raises(TaskError, match="Unknown task"):
        pull_into(room.panels, "phantm", "ward/vit")
    config = json.loads((stranger / "config.json").read_text())
    (stranger / "config.json").write_text(json.dumps(config | {"id2label": {"0": "cat", "1": "dog"}}))
    publish("ward/cats", stranger)
    refuse(LabelsDiffer, "ward/cats has the labels", "ward/cats")
    (stranger / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 3}))
    publish("ward/less", stranger)
    refuse(TaskError, "ward/less cannot answer here: the weights of model 'less' lack", "ward/less")
    (stranger / "config.json").write_text(json.dumps(config))
    processor = json.loads((stranger / "preprocessor_config.json").read_text())
    (stranger / "preprocessor_config.json").write_text(json.dumps(processor | {"rescale_factor": 1 / 127.5}))
    publish("ward/scaled", stranger)
    refuse(TaskError, "scales pixels by 0.0078", "ward/scaled")
    room.panels.budget = room.panels.get("phantom").memory + 1000
    refuse(HubError, r"ward/vit has \d+ MB; a further model here may have 0 MB", "ward/vit")
    assert [ref.name for ref in room.panels.tasks["phantom"].models] == ["simple_cnn", "resnet18"]
    assert room.panels.added == set()


def test_a_model_larger_than_its_file_is_refused_before_it_takes_memory(hub, room, stranger, joined, monkeypatch):
    config = json.loads((stranger / "config.json").read_text())
    (stranger / "config.json").write_text(json.dumps(config | {"hidden_size": 4096}))
    publish("ward/wide", stranger)
    monkeypatch.setattr(pulls, "_try", lambda *_: pytest.fail("it was loaded"))
    with pytest.raises(TaskError, match="ward/wide cannot answer here: .* of its tensors in another shape"):
        pull_into(room.panels, "phantom", "ward/wide")
    monkeypatch.setattr(checkpoints, "weigh_checkpoint", lambda *_: room.panels.spare("phantom") // 2 + 1)
    with pytest.raises(HubError, match=r"ward/vit takes \d+ MB of memory; a further model here may take \d+ MB"):
        pull_into(room.panels, "phantom", "ward/vit")
    assert room.panels.added == set()


def test_the_page_pulls_and_takes_out(joined, room):
    name, commit = joined
    with gr.Blocks() as app:
        build_models_page(room)
    pull, act = (next(fn.fn for fn in app.fns.values() if fn.name == wanted) for wanted in ("pull", "act"))
    begun, done = pull("phantom", name)
    assert f"Pulling {name}" in begun[1]
    assert 'data-action="leave" data-key="vit"' in done[0] and done[0].count('data-action="leave"') == 1
    assert f"{name} @ {commit[:12]}" in done[0]
    line = f"vit: {{repo: {name}, revision: {commit}}}"
    assert line in done[1] and "take its probabilities with care" in done[1]
    _, refused = pull("phantom", name)
    assert "Not pulled." in refused[1] and "already" in refused[1]

    class Left:
        action, key = "leave", "vit"

    table, said, *_ = act("phantom", Left)
    assert 'data-key="vit"' not in table and "has left the panel" in said
    table, said, *_ = act("phantom", Left)  # another reader was faster
    assert "Not taken out." in said and table.count('data-action="card"') == 2
    room.pulls = False
    pull_into(room.panels, "phantom", name)
    act("phantom", Left)  # nobody takes out where nobody may pull
    assert room.panels.added == {("phantom", "vit")}


def test_a_room_whose_readers_may_not_pull_says_how_they_could(room):
    room.pulls = False
    with gr.Blocks() as app:
        build_models_page(room)
    assert "pull" not in {fn.name for fn in app.fns.values()}
    assert any("Started with --pull" in str(getattr(block, "value", "")) for block in app.blocks.values())
