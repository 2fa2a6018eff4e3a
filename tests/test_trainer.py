import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from scipy.special import log_softmax
from transformers import EvalPrediction, TrainerCallback

from xray_models import trainer as trainers
from xray_models import training_arguments
from xray_models.architectures import build_model, split_model
from xray_models.averaging import Average
from xray_models.checkpoints import _kept_names
from xray_models.finishing import collect_outputs
from xray_models.images import InputSpec
from xray_models.imagesets import BalancedSampler, ImageSet
from xray_models.optimizers import check_layers, group_parameters
from xray_models.progress import last_progress
from xray_models.recipes import Recipe
from xray_models.tasks import TaskError
from xray_models.trainer import _validation_metrics, build_trainer, freeze_body
from xray_models.training import run_stages

RECIPE = Recipe(
    epochs=3, batch_size=8, augment="none", schedule="constant", warmup=0.0, image_size=48, width=0.25, balance="none"
)
LABELS = ["Normal", "Nodule"]


def noise(spec, count=16, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(count) % 2)
    pixels = rng.integers(0, 120, (count, spec.height, spec.width), dtype=np.uint8)
    pixels[labels == 1, :8] += 100  # so that there is something to learn
    return ImageSet(pixels, labels, spec)


def small(name="simple_cnn", recipe=RECIPE, seed=0):
    torch.manual_seed(seed)
    model, spec = build_model(name, LABELS, recipe)
    return model, {"train": noise(spec), "validation": noise(spec, seed=1)}


@pytest.mark.parametrize(
    ("name", "recipe"),
    [
        ("simple_cnn", dataclasses.replace(RECIPE, learning_rate=0.01)),
        ("vit_tiny", Recipe(epochs=2, batch_size=8, learning_rate=3e-3, schedule="constant", warmup=0, balance="none")),
        ("simple_cnn", dataclasses.replace(RECIPE, learning_rate=0.01, ema=0.5)),
    ],
)
def test_the_best_epoch_is_what_comes_out(name, recipe, tmp_path):
    """The weights at the end give the best epoch's loss, under transformers' new names and old ones alike."""
    model, sets = small(name, recipe)
    trainer = build_trainer(model, sets, recipe, tmp_path, seed=0)
    trainer.train()
    epochs = [entry for entry in trainer.state.log_history if "eval_log_loss" in entry]
    best = min(epochs, key=lambda entry: entry["eval_calibrated_log_loss"])
    logits, _ = collect_outputs(trainer.finish(), sets["validation"])
    truth = sets["validation"].labels
    found = -log_softmax(logits, axis=1)[np.arange(len(truth)), truth].mean()
    assert found == pytest.approx(best["eval_log_loss"], rel=0.02, abs=0.01)
    losses = [entry["eval_log_loss"] for entry in epochs]
    assert max(losses) - min(losses) > 0.02  # or the test could not tell


def test_epochs_are_compared_after_temperature_scaling():
    """Ten times too sure, and yet the same ranking of the images: the same calibrated loss."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 200)
    logits = rng.normal(size=(200, 3)) + 1.5 * np.eye(3)[labels]
    modest, bold = (_validation_metrics(EvalPrediction(k * logits, labels)) for k in (1, 10))
    assert bold["log_loss"] > modest["log_loss"] + 0.5
    assert bold["calibrated_log_loss"] == pytest.approx(modest["calibrated_log_loss"], abs=1e-4)
    assert modest["calibrated_log_loss"] <= modest["log_loss"]


def test_class_weights_balance_the_loss(tmp_path):
    model, sets = small(recipe=dataclasses.replace(RECIPE, balance="loss"))
    sets["train"].labels = np.array([0] * 12 + [1] * 4)
    trainer = build_trainer(model, sets, dataclasses.replace(RECIPE, balance="loss"), tmp_path, seed=0)

    class Flat(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.logits = torch.nn.Parameter(torch.zeros(16, 2))

        def forward(self, pixel_values):
            return {"logits": self.logits}

    flat = Flat()
    inputs = {"pixel_values": torch.zeros(16, 3, 4, 4), "labels": torch.from_numpy(sets["train"].labels)}
    trainer.compute_loss(flat, inputs).backward()
    pull = flat.logits.grad[:, 0]
    assert float(pull[:12].sum()) == pytest.approx(-float(pull[12:].sum()), rel=1e-4)


def test_the_sampler_draws_every_label_as_often_and_each_epoch_anew():
    labels = np.array([0] * 900 + [1] * 100)
    sampler = BalancedSampler(labels, seed=1)
    first = list(sampler)
    assert labels[first].mean() == pytest.approx(0.5, abs=0.06)
    assert first == list(sampler)
    sampler.set_epoch(1)
    assert first != list(sampler)


@pytest.mark.parametrize("name", ["adamw", "adam", "sgd", "rmsprop"])
def test_every_optimizer_takes_a_step(name, tmp_path):
    recipe = dataclasses.replace(RECIPE, optimizer=name, epochs=1)
    model, sets = small()
    before = model.classifier.weight.detach().clone()
    trainer = build_trainer(model, sets, recipe, tmp_path, seed=0)
    trainer.train()
    assert name in type(trainer.optimizer.optimizer).__name__.lower()
    assert not torch.equal(before, trainer.finish().classifier.weight)


def test_mixup_and_the_balanced_sampler_train(tmp_path):
    recipe = dataclasses.replace(RECIPE, mixup=0.4, balance="sampler", epochs=1, label_smoothing=0.1)
    model, sets = small()
    trainer = build_trainer(model, sets, recipe, tmp_path, seed=0)
    assert isinstance(trainer._get_train_sampler(), BalancedSampler)
    assert np.isfinite(trainer.train().training_loss)


def test_one_image_over_is_left_out_of_training_and_nothing_of_validation(tmp_path):
    """17 images in batches of 8, behind which a batch norm could not learn; 10 of validation in batches of 16."""
    recipe = dataclasses.replace(RECIPE, epochs=1, head="dense")
    model, sets = small(recipe=recipe)
    sets["train"], sets["validation"] = noise(sets["train"].spec, 17), noise(sets["train"].spec, 10)
    trainer = build_trainer(model, sets, recipe, tmp_path, seed=0)
    assert len(trainer.get_train_dataloader()) == 2
    assert sum(len(batch["labels"]) for batch in trainer.get_eval_dataloader()) == 10
    trainer.train()
    assert np.isfinite(trainer.state.best_metric)
    trainer._train_batch_size = 16  # as a search says for each of its trials
    assert len(trainer.get_train_dataloader()) == 1


def test_one_process_trains_on_one_gpu_with_the_batch_that_the_recipe_names(tmp_path, monkeypatch):
    class Four(training_arguments.TrainingArguments):
        def __post_init__(self):
            super().__post_init__()
            self._n_gpu = 4

    monkeypatch.setattr(training_arguments, "TrainingArguments", Four)
    arguments = training_arguments.build_arguments(RECIPE, tmp_path, seed=0, workers=0)
    assert (arguments.n_gpu, arguments.train_batch_size) == (1, RECIPE.batch_size)


def test_the_rate_rises_over_a_share_of_the_steps_whatever_the_batch(tmp_path):
    arguments = training_arguments.build_arguments(dataclasses.replace(RECIPE, warmup=0.25), tmp_path, 0, 0)
    assert [arguments.get_warmup_steps(steps) for steps in (20, 40)] == [5, 10]


def test_a_process_that_prepares_batches_changes_no_result(tmp_path, monkeypatch):
    recipe = dataclasses.replace(RECIPE, augment="radiograph", mixup=0.2, balance="sampler")
    losses = []
    for workers in (0, 1):
        monkeypatch.setattr(trainers, "count_workers", lambda *_, workers=workers: workers)
        model, sets = small(recipe=recipe)
        sets["train"] = ImageSet(sets["train"].pixels, sets["train"].labels, sets["train"].spec, "radiograph")
        trainer = build_trainer(model, sets, recipe, tmp_path / str(workers), seed=0)
        assert trainer.args.dataloader_num_workers == workers
        trainer.train()
        losses.append(
            [entry[key] for entry in trainer.state.log_history for key in ("loss", "eval_loss") if key in entry]
        )
    assert len(losses[0]) == 6 and losses[0] == losses[1]
    assert len(set(losses[0])) > 1


def test_lower_layers_get_lower_rates():
    model, _ = build_model("vit_tiny", LABELS, Recipe())
    args = type("Args", (), {"weight_decay": 0.1, "learning_rate": 1.0})
    groups = group_parameters(model, {"classifier.weight"}, args, layer_decay=0.5)
    rate = {id(p): g["lr"] for g in groups for p in g["params"]}
    decay = {id(p): g["weight_decay"] for g in groups for p in g["params"]}
    assert rate[id(model.classifier.weight)] == 1.0
    assert rate[id(model.vit.layers[11].mlp.fc1.weight)] == 0.5
    assert rate[id(model.vit.layers[0].mlp.fc1.weight)] == 0.5**12
    assert rate[id(model.vit.embeddings.cls_token)] == 0.5**13
    assert decay[id(model.classifier.weight)] == 0.1
    assert decay[id(model.classifier.bias)] == 0.0
    assert len(rate) == len(list(model.parameters()))


@pytest.mark.parametrize(
    ("name", "depths"),
    [
        (
            "timm:vit_tiny_patch16_224",
            {"cls_token": 0, "blocks.0.norm1.bias": 1, "pos_embed": 0, "norm.weight": None},
        ),
        ("resnet18", {"conv1.weight": 0, "bn1.bias": 0, "layer1.0.bn1.weight": 1, "layer4.1.bn2.bias": 4}),
        ("densenet121", {"features.norm0.weight": 0, "features.transition1.conv.weight": 1, "classifier.bias": None}),
        ("mobilenet_v2", {"bn1.weight": 0, "blocks.0.0.bn1.weight": 1, "bn2.weight": None}),
    ],
)
def test_every_architecture_with_layers_has_lower_rates_below(name, depths):
    model, _ = build_model(name, LABELS, Recipe())
    args = type("Args", (), {"weight_decay": 0.1, "learning_rate": 1.0})
    groups = group_parameters(model, set(), args, layer_decay=0.5)
    rate = {id(p): g["lr"] for g in groups for p in g["params"]}
    named = dict(model.named_parameters())
    least = min(rate.values())
    for name, depth in depths.items():
        assert rate[id(named[f"timm_model.{name}"])] == (1.0 if depth is None else least * 2**depth), name


def test_a_model_without_layers_gets_no_lower_rates_and_says_so():
    model, _ = small()
    check_layers(model, 1.0)
    with pytest.raises(TaskError, match=r"layer_decay is 0\.5, but nothing that is trained .* Leave it at 1"):
        run_stages(model, {}, dataclasses.replace(RECIPE, layer_decay=0.5), None)


def test_the_first_stage_moves_the_head_alone(tmp_path):
    model, sets = small()
    freeze_body(model)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    trainer = build_trainer(model, sets, dataclasses.replace(RECIPE, epochs=1), tmp_path, seed=0)
    trainer.train()
    after = trainer.finish().state_dict()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved == {"classifier.weight", "classifier.bias"}  # nor do frozen batch norms count on
    assert split_model(model).classifier.weight.requires_grad


@pytest.mark.parametrize("name", ["mobilenet_v2", "resnet18", "simple_cnn"])
def test_on_several_gpus_a_network_stays_what_it_is(name, monkeypatch):
    """Batch norms are synchronised, keep what activates them, and are stored in single precision as on one."""
    model, _ = build_model(name, LABELS, dataclasses.replace(RECIPE, width=1.0))
    model.eval()
    inputs = torch.rand(2, 3, 48, 48, generator=torch.Generator().manual_seed(0))
    before, kept = model(pixel_values=inputs).logits, _kept_names(model)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setenv("WORLD_SIZE", "2")
    for _ in range(2):  # a head's stage, and the one of everything
        model = trainers._prepare(model)
        assert any(isinstance(module, torch.nn.SyncBatchNorm) for module in model.modules())
        assert torch.allclose(model(pixel_values=inputs).logits, before, atol=1e-6)
        assert _kept_names(model) == kept


def test_the_average_follows_the_weights():
    model, _ = small()
    average = Average(model, decay=0.75)
    start = model.classifier.weight.detach().clone()
    with torch.no_grad():
        model.classifier.weight.add_(1.0)
    state = type("State", (), {"global_step": 1000})
    average.on_step_end(None, state, None)  # the first update copies
    with torch.no_grad():
        model.classifier.weight.add_(1.0)
    average.on_step_end(None, state, None)
    assert torch.allclose(average.average.module.classifier.weight, start + 1.25)
    with average.in_place():
        assert torch.allclose(model.classifier.weight, start + 1.25)
    assert torch.allclose(model.classifier.weight, start + 2)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"optimizer": "adamm"}, "Valid: adamw, adam, sgd, rmsprop"),
        ({"balance": "weights"}, "Valid: none, loss, sampler, copies"),
        ({"layer_decay": 0.0}, "(0, 1]"),
        ({"mixup": -1.0}, "a finite number of 0 or more"),
        ({"ema": 1.0}, "[0, 1)"),
        ({"teaching": 1.5}, "[0, 1]"),
    ],
)
def test_a_wrong_recipe_says_what_is_valid(change, says):
    with pytest.raises(TaskError, match=says.replace("(", r"\(").replace("[", r"\[").replace(")", r"\)")):
        dataclasses.replace(RECIPE, **change)


@pytest.mark.parametrize("ema", [0.0, 0.5])
@pytest.mark.parametrize("after", [1, 2, 3])
def test_an_interrupted_training_stops_where_it_would_have_stopped(after, ema, tmp_path, monkeypatch):
    """Patience goes on to be counted; a training that had stopped already does not begin again."""
    losses = [0.5, 0.6, 0.7, 0.4, 0.3]
    monkeypatch.setattr(
        trainers,
        "_validation_metrics",
        lambda _: {"log_loss": 1.0, "calibrated_log_loss": losses.pop(0), "accuracy": 0.5},
    )
    recipe = dataclasses.replace(RECIPE, epochs=5, patience=2, ema=ema)

    class Interruption(TrainerCallback):
        def on_save(self, args, state, control, **_):
            if state.epoch == after:
                raise KeyboardInterrupt

    model, sets = small()
    trainer = build_trainer(model, sets, recipe, tmp_path / "first", seed=0)
    trainer.add_callback(Interruption())
    with pytest.raises(KeyboardInterrupt):
        trainer.go_on(None)
    (tmp_path / "first").rename(tmp_path / "moved")
    again = build_trainer(small()[0], sets, recipe, tmp_path / "moved", seed=0)
    again.go_on(last_progress(tmp_path / "moved"))
    assert losses == [0.4, 0.3]
    assert [entry["epoch"] for entry in again.state.log_history if "eval_loss" in entry] == [1, 2, 3]
    kept = load_file(tmp_path / "moved" / "checkpoint-2" / ("average.safetensors" if ema else "model.safetensors"))
    assert torch.equal(again.finish().classifier.weight, kept["classifier.weight"])


def test_a_log_that_is_not_installed_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    model, sets = small()
    with pytest.raises(TaskError, match="pip install trackio"):
        build_trainer(model, sets, dataclasses.replace(RECIPE, log="trackio"), tmp_path, seed=0)


_SCRIPT = """
import json, os, pathlib, sys
import torch
torch.set_num_threads(1)
sys.path.insert(0, sys.argv[2])
from tests import test_trainer as t
from xray_models import training_arguments
from xray_models.commands import leave_group
training_arguments.bf16_helps = lambda: False  # bfloat16 rounds the gradient of each share by itself
recipe = t.dataclasses.replace(t.RECIPE, batch_size=8, learning_rate=1e-3, augment="radiograph", balance="loss")
recipe = t.dataclasses.replace(recipe, epochs=2, image_size=224, width=1.0, ema=0.5)
t.torch.manual_seed(0)
model, spec = t.build_model("vit_tiny", t.LABELS, recipe)
model.vit.layers = model.vit.layers[:2]
sets = {"train": t.ImageSet(*t.of(spec, 32), "radiograph", 5), "validation": t.ImageSet(*t.of(spec, 16))}
trainer = t.build_trainer(model, sets, recipe, pathlib.Path(sys.argv[1]), seed=0)
trainer._load_best_model = lambda: None
save = trainer.average.save
def note(folder):
    save(folder)
    pathlib.Path(sys.argv[1], "kept-by-" + os.environ.get("RANK", "0")).touch()
trainer.average.save = note
trainer.train()
trainer.accelerator.end_training()
if trainer.is_world_process_zero():
    trainer.finish()
    losses = [e["eval_log_loss"] for e in trainer.state.log_history if "eval_log_loss" in e]
    pathlib.Path(sys.argv[1], "losses.json").write_text(json.dumps(losses))
if os.environ.get("WORLD_SIZE", "1") > "1":
    leave_group()
"""


def of(spec, count):
    images = noise(spec, count)
    return images.pixels, images.labels, InputSpec(spec.height, spec.width)


def test_two_processes_learn_what_one_does(tmp_path):
    """Same global batch, same order, same augmentation: the same validation loss, in single precision.

    That is the moving average's, which one of them keeps.
    """
    script = tmp_path / "script.py"
    script.write_text(_SCRIPT)
    root = Path(__file__).resolve().parents[1]
    losses = {}
    for processes in (1, 2):
        out = tmp_path / str(processes)
        out.mkdir()
        launch = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
        command = [sys.executable, *(launch if processes > 1 else []), str(script), str(out), str(root)]
        done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, done.stderr[-3000:]
        losses[processes] = json.loads((out / "losses.json").read_text())
        assert [path.name for path in out.glob("kept-by-*")] == ["kept-by-0"]
    assert losses[2] == pytest.approx(losses[1], abs=1e-4)
    assert abs(losses[1][1] - losses[1][0]) > 5e-3  # something was learned meanwhile
