"""Trains one model of a task: `python -m xray_models.train --task covid --model vit_tiny --out runs/vit_tiny`.

manifest -> cached arrays -> augmentation -> Hugging Face Trainer -> best epoch -> calibration -> a model's folder.
On several GPUs: `accelerate launch -m xray_models.train ...`.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import logging
import math
import os
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.special import log_softmax, softmax
from sklearn.metrics import balanced_accuracy_score, confusion_matrix, roc_auc_score
from torch import nn
from torch.utils.data import Dataset
from transformers import (
    EarlyStoppingCallback,
    PreTrainedModel,
    ProgressCallback,
    Trainer,
    TrainingArguments,
    set_seed,
)

from xray_models import calibration, datasets
from xray_models.architectures import ARCHITECTURES, build_model, split_model
from xray_models.augment import POLICIES
from xray_models.calibration import Reference
from xray_models.cards import render_card
from xray_models.checkpoints import list_labels, round_weights, save_checkpoint
from xray_models.commands import show_command
from xray_models.images import InputSpec, normalise
from xray_models.tasks import Recipe, Task, TaskError, choose, load_task

_log = logging.getLogger(__name__)
_PROGRESS = ".training"  # folder of the Trainer's own checkpoints, below the model's; removed at the end


class ImageSet(Dataset):
    """Images of one split as the Trainer wants them.

    Args:
        pixels: (N, H, W) uint8.
        labels: (N,) label numbers.
        spec: the model's input.
        augment: name of a policy.
    """

    def __init__(self, pixels: np.ndarray, labels: np.ndarray, spec: InputSpec, augment: str = "none"):
        self.pixels, self.labels, self.spec = pixels, labels, spec
        self.augment = POLICIES[choose("augmentation policy", augment, POLICIES)]((spec.height, spec.width))

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> dict[str, Any]:
        image = torch.from_numpy(np.array(self.pixels[index]))[None]  # (1, H, W) uint8
        return {
            "pixel_values": normalise(self.augment(image)[0], self.spec),
            "labels": int(self.labels[index]),
        }


def load_splits(
    task: Task, recipe: Recipe, spec: InputSpec, data: Path | None, flags: Path | None = None
) -> dict[str, ImageSet]:
    """Reads a task's data into a training, a validation and a test set.

    Args:
        task: the task.
        recipe: names the augmentation of the training set.
        spec: the model's input.
        data: data folder, or None for the default.
        flags: a ledger whose relabels are applied to the training and validation images, or None.
    """
    rows = datasets.open_dataset(task, data).rows
    if flags is not None:
        from xray_models.flags import apply_relabels

        rows = apply_relabels(rows, flags, task)
    number = {label: index for index, label in enumerate(task.labels)}
    sets = {}
    for split in ("train", "validation", "test"):
        part = rows[rows["split"] == split]
        if part.empty:
            raise datasets.DataError(f"The {split} split has no image; the data set has {len(rows)} in all.")
        arrays = datasets.load_arrays(part["path"], spec)
        labels = part["label"].map(number).to_numpy()
        sets[split] = ImageSet(arrays.pixels, labels, spec, recipe.augment if split == "train" else "none")
    return sets


class _Progress(ProgressCallback):
    """The Trainer's progress bar, with images per second."""

    def __init__(self, max_str_len: int = 100):
        super().__init__(max_str_len)
        self._clock: tuple[float, int] | None = None

    def on_step_end(self, args: TrainingArguments, state: Any, control: Any, **kwargs: Any) -> None:
        """Advances the bar."""
        super().on_step_end(args, state, control, **kwargs)
        now = time.perf_counter()
        if self._clock and self.training_bar is not None and state.global_step % 5 == 0:
            seconds, steps = now - self._clock[0], state.global_step - self._clock[1]
            rate = steps * args.train_batch_size * args.world_size / seconds
            self.training_bar.set_postfix_str(f"{rate:.0f} images/s")
        self._clock = self._clock or (now, state.global_step)


def bf16_helps() -> bool:
    """Whether this machine computes bfloat16 in hardware (CUDA from Ampere on, CPUs with AVX512-bf16 or AMX)."""
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def build_trainer(model: PreTrainedModel, sets: dict[str, ImageSet], recipe: Recipe, out: Path, seed: int) -> Trainer:
    """Builds the Trainer that a recipe describes; its checkpoints go below `out`."""
    steps = math.ceil(len(sets["train"]) / recipe.batch_size) * recipe.epochs
    plateau = recipe.schedule == "plateau"
    gpu = torch.cuda.is_available()
    args = TrainingArguments(
        output_dir=str(out / _PROGRESS),
        num_train_epochs=recipe.epochs,
        learning_rate=recipe.learning_rate,
        weight_decay=recipe.weight_decay,
        per_device_train_batch_size=recipe.batch_size,
        per_device_eval_batch_size=2 * recipe.batch_size,
        lr_scheduler_type="reduce_lr_on_plateau" if plateau else "cosine",
        lr_scheduler_kwargs={"factor": 0.5, "patience": 1} if plateau else {},
        warmup_steps=0 if plateau else round(recipe.warmup * steps),
        optim="adamw_torch_fused",
        bf16=bf16_helps(),
        use_cpu=not gpu,
        eval_strategy="epoch",
        save_strategy="epoch",
        save_total_limit=2,
        load_best_model_at_end=True,
        metric_for_best_model="log_loss",
        greater_is_better=False,
        logging_strategy="epoch",
        report_to="none",
        seed=seed,
        dataloader_num_workers=min(8, (os.cpu_count() or 1) - 1) if gpu else 0,
        dataloader_pin_memory=gpu,
    )
    nn.Module.to(model, memory_format=torch.channels_last)
    trainer = Trainer(
        model=model,
        args=args,
        train_dataset=sets["train"],
        eval_dataset=sets["validation"],
        compute_loss_func=_loss(sets["train"].labels, len(list_labels(model)), recipe),
        compute_metrics=_validation_metrics,
        callbacks=[EarlyStoppingCallback(early_stopping_patience=recipe.patience)],
    )
    trainer.remove_callback(ProgressCallback)
    trainer.add_callback(_Progress())
    return trainer


def _loss(labels: np.ndarray, classes: int, recipe: Recipe) -> Callable[..., torch.Tensor]:
    counts = np.bincount(labels, minlength=classes)
    weights = len(labels) / (classes * np.maximum(counts, 1)) if recipe.class_weights else np.ones(classes)
    weight = torch.tensor(weights, dtype=torch.float32)

    def loss(outputs: Any, labels: torch.Tensor, num_items_in_batch: Any = None) -> torch.Tensor:
        logits = outputs["logits"].float()
        return nn.functional.cross_entropy(
            logits, labels, weight.to(logits.device), label_smoothing=recipe.label_smoothing
        )

    return loss


def _validation_metrics(prediction: Any) -> dict[str, float]:
    logits, labels = prediction.predictions.astype(np.float64), prediction.label_ids
    log_loss = -log_softmax(logits, axis=1)[np.arange(len(labels)), labels].mean()
    return {"log_loss": float(log_loss), "accuracy": float((logits.argmax(axis=1) == labels).mean())}


def last_progress(out: Path) -> str | None:
    """Returns the newest whole checkpoint of an interrupted training, or None.

    The Trainer writes `trainer_state.json` last; a folder in which it cannot be read was cut off.
    """
    found = sorted((out / _PROGRESS).glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    for folder in reversed(found):
        try:
            json.loads((folder / "trainer_state.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            shutil.rmtree(folder)
            continue
        return str(folder)
    return None


@torch.inference_mode()
def collect_outputs(model: PreTrainedModel, images: ImageSet, batch_size: int = 64) -> tuple[np.ndarray, np.ndarray]:
    """Runs a model over a set in single precision.

    Returns:
        Logits (N, K) and embeddings (N, D), float32.
    """
    parts = split_model(model.eval())
    logits, embeddings = [], []
    for start in range(0, len(images), batch_size):
        pixels = torch.from_numpy(np.array(images.pixels[start : start + batch_size]))
        embedding = parts.pool(parts.body(normalise(pixels, images.spec).to(model.device)))
        embeddings.append(embedding.float().cpu().numpy())
        logits.append(parts.classifier(embedding).float().cpu().numpy())
    return np.concatenate(logits), np.concatenate(embeddings)


def calibrate(
    model: PreTrainedModel, sets: dict[str, ImageSet], labels: Sequence[str]
) -> tuple[dict[str, Any], Reference]:
    """Rounds a trained model's weights, folds its temperature in, and judges what will be shipped.

    Returns:
        What `config.json` keeps (temperature, conformal threshold, test metrics, image counts), and the
        out-of-distribution reference.
    """
    round_weights(model)
    logits, validation = collect_outputs(model, sets["validation"])
    truth = sets["validation"].labels
    temperature = calibration.fit_temperature(logits, truth)
    conformal = calibration.fit_conformal(softmax(logits / temperature, axis=1), truth)
    calibration.fold_temperature(split_model(model).classifier, temperature)
    train = sets["train"]
    few = np.sort(np.random.default_rng(0).permutation(len(train))[: calibration.REFERENCE_SIZE])
    _, embeddings = collect_outputs(model, ImageSet(train.pixels[few], train.labels[few], train.spec))
    reference = calibration.fit_reference(embeddings, validation)

    test_logits, _ = collect_outputs(model, sets["test"])
    test_truth = sets["test"].labels
    uncalibrated = softmax(test_logits * temperature, axis=1)
    return {
        "temperature": temperature,
        "conformal_threshold": conformal,
        "ece_before": calibration.calibration_error(uncalibrated, test_truth),
        "test": _test_metrics(softmax(test_logits, axis=1), test_truth, labels, conformal),
        "counts": {split: len(images) for split, images in sets.items()},
    }, reference


def _test_metrics(probs: np.ndarray, labels: np.ndarray, names: Sequence[str], conformal: float) -> dict[str, Any]:
    predicted = probs.argmax(axis=1)
    matrix = confusion_matrix(labels, predicted, labels=range(len(names)))
    hits, actual, called = matrix.diagonal(), matrix.sum(axis=1), matrix.sum(axis=0)
    negatives = matrix.sum() - actual
    sets = probs >= conformal
    score = probs if len(names) > 2 else probs[:, 1]
    return {
        "accuracy": float((predicted == labels).mean()),
        "balanced_accuracy": float(balanced_accuracy_score(labels, predicted)),
        "auroc": float(roc_auc_score(labels, score, multi_class="ovr")),
        "nll": float(-np.log(np.maximum(probs[np.arange(len(labels)), labels], 1e-12)).mean()),
        "ece": calibration.calibration_error(probs, labels),
        "coverage": float(sets[np.arange(len(labels)), labels].mean()),
        "set_size": float(sets.sum(axis=1).mean()),
        "sensitivity": {name: float(hits[k] / actual[k]) for k, name in enumerate(names)},
        "specificity": {name: float(1 - (called[k] - hits[k]) / negatives[k]) for k, name in enumerate(names)},
    }


def train(task: Task, name: str, recipe: Recipe, options: argparse.Namespace) -> dict[str, Any]:
    """Trains, calibrates and saves one model; returns its test metrics.

    Args:
        task: the task.
        name: a model of the task.
        recipe: how.
        options: `out`, `data`, `flags`, `weights`, `seed`, `resume`, as the command line gives them.
    """
    set_seed(options.seed)
    architecture = task.model(name).architecture
    weights = _find_weights(architecture, options.weights) if recipe.width == 1 else None
    model, spec = build_model(architecture, task.labels, recipe, weights)
    sets = load_splits(task, recipe, spec, options.data, options.flags)
    _log.info(
        "%s images; started from %s",
        {k: len(v) for k, v in sets.items()},
        weights.name if weights else "random weights",
    )
    trainer = build_trainer(model, sets, recipe, options.out, options.seed)
    trainer.train(resume_from_checkpoint=last_progress(options.out) if options.resume else None)
    if not trainer.is_world_process_zero():
        return {}
    model = trainer.accelerator.unwrap_model(trainer.model).float()
    fitted, reference = calibrate(model, sets, task.labels)
    fitted |= {
        "started_from": f"ImageNet weights ({weights.stem})" if weights else "random weights",
        "command": options.command,
        "recipe": dataclasses.asdict(recipe),
    }
    save_checkpoint(model, spec, options.out, fitted, reference)
    card = render_card(task, model.config.second_read)
    (options.out / "README.md").write_text(card, encoding="utf-8")
    shutil.rmtree(options.out / _PROGRESS, ignore_errors=True)
    return fitted["test"]


def _find_weights(architecture: str, folder: Path | None) -> Path | None:
    """Returns the ImageNet weights of an architecture if the folder has them."""
    name = ARCHITECTURES[choose("architecture", architecture, ARCHITECTURES)].weights
    if folder is None or not name or not (folder / name).is_file():
        return None
    return folder / name


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m xray_models.train", description="Trains one model of a task.")
    parser.add_argument("--task", required=True, help="a YAML file of hub_configs/, without its ending")
    parser.add_argument("--model", required=True, help="a model of that task")
    parser.add_argument("--out", required=True, type=Path, help="the model's folder; made if missing")
    parser.add_argument("--data", type=Path, help="data folder (default: $XRAY_DATA/<task>, or data/<task>)")
    parser.add_argument("--flags", type=Path, help="a ledger whose relabels are applied")
    weights = os.environ.get("XRAY_WEIGHTS")
    parser.add_argument(
        "--weights",
        type=Path,
        default=Path(weights) if weights else None,
        help="folder of ImageNet safetensors (default: $XRAY_WEIGHTS; without it, training starts from random weights)",
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--resume", action="store_true", help="go on from the last checkpoint of an interrupted run")
    for field in dataclasses.fields(Recipe):
        kind = argparse.BooleanOptionalAction if field.type == "bool" else None
        option = {"action": kind} if kind else {"type": type(field.default)}
        parser.add_argument("--" + field.name.replace("_", "-"), **option, help="default: as hub_configs says")
    options = parser.parse_args(argv)
    words = [word for word in (sys.argv[1:] if argv is None else argv) if word != "--resume"]
    options.command = show_command("xray_models.train", words, keep=["--out"])
    return options


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    options = _parse(argv)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    try:
        task = load_task(options.task)
        given = {f.name: getattr(options, f.name) for f in dataclasses.fields(Recipe)}
        recipe = dataclasses.replace(
            task.recipe_of(options.model), **{key: value for key, value in given.items() if value is not None}
        )
        task = dataclasses.replace(task, recipe=recipe)
        metrics = train(task, options.model, recipe, options)
    except (TaskError, datasets.DataError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    sys.stdout.write(json.dumps(metrics, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
