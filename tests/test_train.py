import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from xray_models import datasets, phantom, progress, search, train, training
from xray_models.architectures import build_model
from xray_models.checkpoints import load_checkpoint
from xray_models.flags import Flag, Ledger
from xray_models.images import InputSpec, encode_png, from_pixels, read_image
from xray_models.imagesets import load_splits, read_rows
from xray_models.panel import Panel
from xray_models.seen import find_seen
from xray_models.tasks import ModelRef, load_task
from xray_models.trainer import build_trainer

SMALL = [
    "--task",
    "phantom",
    "--model",
    "simple_cnn",
    "--epochs",
    "2",
    "--width",
    "0.25",
    "--image-size",
    "48",
]


@pytest.fixture(scope="module")
def trained(tmp_path_factory, phantoms):
    out = tmp_path_factory.mktemp("runs") / "model"
    assert train.main([*SMALL, "--data", str(phantoms), "--out", str(out)]) == 0
    return out


def test_a_trained_folder_is_a_model_anyone_can_load(trained, phantoms):
    names = {path.name for path in trained.iterdir()}
    assert names == {
        "config.json",
        "model.safetensors",
        "preprocessor_config.json",
        "reference.safetensors",
        "README.md",
        "training.png",
    }
    task = load_task("phantom")
    model = load_checkpoint(task, ModelRef("simple_cnn", checkpoint=str(trained)))
    assert model.spec == InputSpec(48, 48)
    assert model.conformal == 0.0  # eight validation images are too few to rule a label out
    rows = read_rows(task, phantoms)
    assert find_seen(rows, model.seen).tolist() == (rows["split"] != "test").tolist()
    assert len(model.seen["seen_names"]) == 0  # anybody could try names until one fits
    assert model.reference.embeddings.shape[1] == model.parts.classifier.in_features
    assert model.model.config.id2label == dict(enumerate(phantom.LABELS))
    assert model.model.config.second_read["longer_side"] == 96
    state = load_file(trained / "model.safetensors")
    assert state["features.0.0.weight"].dtype == torch.float16
    assert state["classifier.weight"].dtype == torch.float32
    assert model.model.dtype == torch.float32


def test_names_are_kept_where_they_are_a_collections_own(capsys, tmp_path):
    words = ["--model", "simple_cnn", "--out", str(tmp_path)]
    assert not train._parse(["--task", "covid", *words]).keep_names
    kept = train._parse(["--task", "covid", *words, "--keep-names"])
    assert kept.keep_names and "--keep-names" in kept.command
    with pytest.raises(SystemExit):
        train._parse([*SMALL, "--out", str(tmp_path), "--keep-names"])
    assert "numbered anew in every folder" in capsys.readouterr().err


def test_copies_of_rare_labels_count_once(phantoms, tmp_path):
    few = tmp_path / "few"
    shutil.copytree(phantoms, few)
    for label in phantom.LABELS[1:]:
        for path in sorted((few / label).iterdir())[10:]:
            path.unlink()
    (few / "phantom.json").unlink(missing_ok=True)
    words = [*SMALL, "--epochs", "1", "--balance", "copies", "--data", str(few), "--out", str(tmp_path / "out")]
    assert train.main(words) == 0
    counts = json.loads((tmp_path / "out" / "config.json").read_text())["second_read"]["counts"]
    assert sum(counts.values()) == 45


def test_the_card_says_what_people_need(trained):
    info = json.loads((trained / "config.json").read_text())["second_read"]
    card = (trained / "README.md").read_text()
    assert f"| accuracy | {info['test']['accuracy']:.4f} (" in card
    assert f"On the {info['counts']['test']} images" in card
    assert sum(info["counts"].values()) == 60
    for words in ("Not a medical device", "Apache-2.0", "sensitivity", "--epochs 2", "Known limits"):
        assert words in card
    assert "--data DATA" in card  # this machine's folders are nobody's business


def test_the_same_seed_gives_the_same_model(trained, phantoms, tmp_path):
    assert train.main([*SMALL, "--data", str(phantoms), "--out", str(tmp_path / "again")]) == 0
    first, again = (load_file(folder / "model.safetensors") for folder in (trained, tmp_path / "again"))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert train.main([*SMALL, "--data", str(phantoms), "--out", str(tmp_path / "other"), "--seed", "1"]) == 0
    other = load_file(tmp_path / "other" / "model.safetensors")
    assert not torch.equal(first["classifier.weight"], other["classifier.weight"])


def test_a_killed_training_goes_on_to_the_same_end(trained, phantoms, tmp_path):
    out = tmp_path / "killed"
    command = [sys.executable, "-m", "xray_models.train", *SMALL, "--data", str(phantoms), "--out", str(out)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while process.poll() is None and not list(out.glob(".training/all/checkpoint-*/trainer_state.json")):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not (out / "model.safetensors").exists()
    assert train.main([*SMALL, "--data", str(phantoms), "--out", str(out), "--resume"]) == 0
    first, resumed = (load_file(folder / "model.safetensors") for folder in (trained, out))
    assert all(torch.equal(first[name], resumed[name]) for name in first)


def test_a_training_goes_on_from_what_it_started_from(phantoms, tmp_path, monkeypatch, capsys, caplog):
    caplog.set_level("INFO")
    out = tmp_path / "m"
    words = [*SMALL, "--epochs", "1", "--data", str(phantoms), "--out", str(out)]
    with monkeypatch.context() as patch:
        patch.setattr(training, "_name_start", lambda *_: "ImageNet weights (simple)")
        patch.setattr(training, "save_checkpoint", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left")))
        assert train.main(words) == 2
    said = capsys.readouterr().err
    assert "cannot be written to" in said and "No space left. Make room there" in said and "--resume" in said
    assert train.main([*words, "--resume"]) == 2
    assert "start 'ImageNet weights (simple)' then, 'random weights' now" in capsys.readouterr().err
    assert "{'train': 44, 'validation': 8, 'test': 8} images; started from" in caplog.text


def test_only_the_last_training_is_gone_on_with_and_by_its_own_recipe(phantoms, tmp_path, monkeypatch, capsys):
    out = tmp_path / "m"
    words = [*SMALL, "--data", str(phantoms), "--out", str(out)]

    def stop(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(training, "calibrate", stop)
        for more in (["--batch-size", "4", "--seed", "1"], ["--epochs", "1"]):
            with pytest.raises(KeyboardInterrupt):
                train.main([*words, *more])
    assert [path.name for path in out.glob(".training/all/checkpoint-*")] == ["checkpoint-2"]
    assert train.main([*words, "--resume", "--epochs", "1", "--learning-rate", "0.5", "--seed", "1"]) == 2
    said = capsys.readouterr().err
    assert "seed 0 then, 1 now; learning_rate 0.002 then, 0.5 now" in said
    assert train.main([*words, "--resume", "--epochs", "1"]) == 0
    assert not (out / ".training").exists()


def test_a_checkpoint_that_was_cut_off_is_passed_over(tmp_path):
    for step, text in ((5, '{"epoch": 1}'), (10, '{"epo')):
        folder = tmp_path / f"checkpoint-{step}"
        folder.mkdir(parents=True)
        (folder / "trainer_state.json").write_text(text)
    assert train.last_progress(tmp_path).endswith("checkpoint-5")
    assert train.last_progress(tmp_path / "none") is None


def test_what_was_written_for_tensorboard_outlasts_the_training(tmp_path):
    """The Trainer writes it among its checkpoints, which go at the end."""
    for stage in ("head", "all"):
        logs = tmp_path / ".training" / stage / "runs" / "Nov22_host"
        logs.mkdir(parents=True)
        (logs / "events.out").write_text(stage)
    progress.close_progress(tmp_path / ".training")
    assert not (tmp_path / ".training").exists()
    for stage in ("head", "all"):
        assert (tmp_path / "runs" / stage / "Nov22_host" / "events.out").read_text() == stage


def test_flags_are_learned_from(phantoms, tmp_path):
    task = load_task("phantom")
    plain = load_splits(task, task.recipe, InputSpec(48, 48), read_rows(task, phantoms))
    rows = datasets.open_dataset(task, phantoms).rows
    wrong = rows[(rows["split"] == "train") & (rows["label"] == "Normal")].iloc[0]
    image = read_image(wrong["path"])
    flag = Flag(reader="AB", task="phantom", corrected_label="Effusion", image_sha256=image.sha256)
    Ledger(tmp_path).append(flag, image, task)
    flagged = load_splits(task, task.recipe, InputSpec(48, 48), read_rows(task, phantoms, tmp_path))
    changed = np.flatnonzero(plain["train"].labels != flagged["train"].labels)
    assert len(changed) == 1
    assert task.labels[flagged["train"].labels[changed[0]]] == "Effusion"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--task", "phantom", "--model", "resnet19"], "Did you mean 'resnet18'"),
        (
            ["--task", "phantom", "--model", "simple_cnn", "--augment", "radiographs"],
            "Did you mean 'radiograph'",
        ),
        (["--task", "phantom", "--model", "simple_cnn", "--epochs", "0"], "epochs is 0"),
        ([*SMALL, "--search", "grid", "--trials", "0"], "trials is 0"),
        ([*SMALL, "--search", "grid", "--layer-decay", "0.5"], "is in a numbered layer"),
        ([*SMALL, "--head", "dense", "--batch-size", "1"], "Raise --batch-size"),
        ([*SMALL, "--learning-rate", "1e30"], "After epoch 1 the model's logits are not finite"),
        (["--task", "covid", "--model", "simple_cnn", "--data", "/nowhere"], "There is no data"),
        (["--task", "phantom", "--model", "simple_cnn", "--flags", "/nowhere"], "There are no flags in /nowhere"),
        (["--task", "phantom", "--model", "resnet18", "--weights", "/nowhere"], "There is no folder /nowhere"),
    ],
)
def test_wrong_commands_are_sentences(words, says, phantoms, tmp_path, capsys):
    data = [] if "--data" in words else ["--data", str(phantoms)]
    assert train.main([*words, *data, "--out", str(tmp_path / "m")]) == 2
    assert says in capsys.readouterr().err


def keep_few(phantoms, folder, label, count):
    """A copy of the phantoms with few images of a label."""
    shutil.copytree(phantoms, folder)
    for path in sorted((folder / label).iterdir())[count:]:
        path.unlink()
    return folder


def test_a_label_without_a_test_image_does_not_cost_the_training(phantoms, tmp_path, caplog):
    data, out = keep_few(phantoms, tmp_path / "data", "Effusion", 3), tmp_path / "m"
    out.mkdir()
    (out / "README.md").write_text("an older model's")
    assert train.main([*SMALL, "--data", str(data), "--out", str(out)]) == 0
    text = (out / "config.json").read_text()
    test = json.loads(text)["second_read"]["test"]
    assert test["support"]["Effusion"] == 0 and test["sensitivity"]["Effusion"] is None
    assert 0 <= test["auroc"] <= 1 and "NaN" not in text
    assert "no test image is Effusion" in caplog.text
    card = (out / "README.md").read_text()
    assert "| Effusion (n = 0) | – | 0." in card or "| Effusion (n = 0) | – | 1." in card
    assert "No image of the test split has the label `Effusion`" in card and "an older model's" not in card


def test_a_label_without_a_training_image_is_refused(phantoms, tmp_path, capsys):
    data = keep_few(phantoms, tmp_path / "data", "Effusion", 0)
    assert train.main([*SMALL, "--data", str(data), "--out", str(tmp_path / "m")]) == 2
    assert "No training image has the label Effusion" in capsys.readouterr().err


def test_a_trained_model_answers_in_a_panel(trained, image):
    task = dataclasses.replace(load_task("phantom"), models=(ModelRef("simple_cnn", checkpoint=str(trained)),))
    (opinion,) = Panel.load(task, device="cpu").read(image).opinions
    assert opinion.status == "ok" and opinion.label in task.labels
    assert sum(opinion.probs.values()) == pytest.approx(1)
    assert opinion.prediction_set == task.labels  # its threshold rules nothing out


def test_the_plateau_schedule_halves_the_rate_when_validation_stalls(phantoms, tmp_path):
    task = load_task("phantom")
    recipe = dataclasses.replace(task.recipe, schedule="plateau", epochs=1, width=0.25, image_size=32)
    model, spec = build_model("simple_cnn", task.labels, recipe)
    sets = load_splits(task, recipe, spec, read_rows(task, phantoms))
    trainer = build_trainer(model, sets, recipe, tmp_path, seed=0)
    trainer.train()
    scheduler = trainer.lr_scheduler
    for _ in range(3):
        scheduler.step(10.0)
    assert scheduler.optimizer.param_groups[0]["lr"] == pytest.approx(recipe.learning_rate / 2)


def test_two_stages_and_new_architectures_train_by_options(phantoms, tmp_path):
    """A timm network that has no entry, head first; the card says what was done."""
    words = ["--task", "phantom", "--model", "mine", "--arch", "timm:test_resnet", "--image-size", "64"]
    words += ["--epochs", "1", "--frozen-epochs", "1", "--head", "dense", "--dropout", "0.2", "--balance", "copies"]
    assert train.main([*words, "--data", str(phantoms), "--out", str(tmp_path / "m")]) == 0
    info = json.loads((tmp_path / "m" / "config.json").read_text())["second_read"]
    assert info["architecture"] == "timm:test_resnet"
    assert info["recipe"]["frozen_epochs"] == 1
    assert "--arch timm:test_resnet" in (tmp_path / "m" / "README.md").read_text()
    task = load_task("phantom")
    ref = ModelRef("mine", checkpoint=str(tmp_path / "m"), architecture="timm:test_resnet")
    assert load_checkpoint(task, ref).spec.height == 64


def test_a_local_model_is_fine_tuned_without_naming_its_folder(trained, phantoms, tmp_path):
    words = ["--task", "phantom", "--model", "mine", "--from", str(trained), "--epochs", "1"]
    assert train.main([*words, "--data", str(phantoms), "--out", str(tmp_path / "m")]) == 0
    for name in ("README.md", "config.json"):
        assert str(trained.parent) not in (tmp_path / "m" / name).read_text()


@pytest.mark.parametrize(("width", "says"), [(1.0, "there is no resnet18.safetensors in"), (0.5, "width is 0.5")])
def test_random_weights_in_the_place_of_imagenets_are_said(width, says, tmp_path, caplog):
    assert training._find_weights("resnet18", tmp_path, width) is None
    assert says in caplog.text


def test_a_search_in_several_processes_is_refused(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert train.main([*SMALL, "--out", str(tmp_path / "s"), "--search", "grid"]) == 2
    assert "A search runs in one process" in capsys.readouterr().err


@pytest.mark.parametrize(("size", "fitting"), [(9, "8 or 10"), (1, "2")])
def test_a_batch_that_processes_cannot_share_is_refused_by_the_first(size, fitting, tmp_path, monkeypatch, capsys):
    """The others wait, until the launcher ends them with it; with any other it would end the first, too."""
    words = [*SMALL, "--out", str(tmp_path / "m"), "--batch-size", str(size)]
    said = f"error: batch_size is {size}, which 2 processes cannot share evenly. Give --batch-size {fitting}.\n"
    monkeypatch.setenv("WORLD_SIZE", "2")
    for rank, before in (("0", ""), ("1", "10.0 seconds\n")):
        monkeypatch.setenv("RANK", rank)
        monkeypatch.setattr("time.sleep", lambda seconds: sys.stderr.write(f"{seconds} seconds\n"))
        assert train.main(words) == 2
        assert capsys.readouterr().err == before + said
    monkeypatch.delenv("WORLD_SIZE")
    assert train._settle(train._parse(words))[2].batch_size == size


def test_what_a_search_tries_is_not_given(tmp_path, capsys):
    assert set(train._SEARCHED) == {search._NAMES.get(name, name) for name in search.GRID}
    with pytest.raises(SystemExit) as stop:
        train.main([*SMALL, "--out", str(tmp_path), "--search", "optuna", "--learning-rate", "0.5", "--dropout", "0"])
    assert stop.value.code == 2
    assert (
        "--search tries rates, dropouts and batch sizes of its own; leave out --learning-rate, --dropout"
        in capsys.readouterr().err
    )


def test_the_bone_task_trains_on_stand_ins(tmp_path):
    """No public data: three folders of phantoms stand in."""
    stand_ins = dict(zip(load_task("bone").labels, ("Normal", "Nodule", "Effusion"), strict=True))
    for label, shown in stand_ins.items():
        (tmp_path / "data" / label).mkdir(parents=True)
        for number in range(10):
            pixels = phantom.draw_phantom(shown, seed=number, size=64).pixels
            (tmp_path / "data" / label / f"{number}.png").write_bytes(encode_png(from_pixels(pixels)))
    words = ["--task", "bone", "--model", "bone_cnn_v2", "--epochs", "1", "--image-size", "64"]
    assert train.main([*words, "--data", str(tmp_path / "data"), "--out", str(tmp_path / "m")]) == 0
    model = load_checkpoint(load_task("bone"), ModelRef("bone_cnn_v2", checkpoint=str(tmp_path / "m"))).model
    assert list(model.config.id2label.values()) == list(stand_ins)


def test_two_architectures_for_one_model_are_refused(tmp_path, capsys):
    words = [
        "--task",
        "phantom",
        "--model",
        "mine",
        "--out",
        str(tmp_path),
        "--arch",
        "resnet18",
        "--from",
        "owner/name",
    ]
    with pytest.raises(SystemExit) as stop:
        train.main(words)
    assert stop.value.code == 2 and "--from brings its own architecture" in capsys.readouterr().err
