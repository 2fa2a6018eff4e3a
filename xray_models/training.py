"""One model's training, from its data to its folder; `train` is the command.

manifest -> cached arrays -> augmentation -> Hugging Face Trainer -> best epoch -> calibration -> a model's folder.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import hashlib
import json
import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
from safetensors import SafetensorError
from transformers import PreTrainedModel, set_seed

from xray_models.architectures import build_model, find_architecture
from xray_models.architectures.pretrained import find_source
from xray_models.cards import render_card
from xray_models.checkpoints import save_checkpoint
from xray_models.curves import plot_curves
from xray_models.finishing import calibrate
from xray_models.fusing import build_fusion, name_sources
from xray_models.headers import measure_side
from xray_models.images import InputSpec
from xray_models.imagesets import ImageSet, load_splits, read_rows
from xray_models.optimizers import check_layers
from xray_models.progress import HEAD, PROGRESS, WHOLE, close_progress, last_progress, open_progress
from xray_models.recipes import Recipe
from xray_models.revisions import hash_weights
from xray_models.seen import note_seen
from xray_models.tasks import ModelRef, Task, TaskError
from xray_models.teaching import Teacher, load_teacher
from xray_models.trainer import RecipeTrainer, build_trainer, freeze_body

_log = logging.getLogger(__name__)
CURVES = "training.png"


def train(task: Task, ref: ModelRef, recipe: Recipe, options: argparse.Namespace) -> dict[str, Any]:
    """Trains, calibrates and saves one model; returns its test metrics.

    Args:
        task: the task.
        ref: one of its models, or a new one.
        recipe: how.
        options: `out`, `data`, `flags`, `weights`, `seed`, `resume`, `keep_names`, as the command line gives them.
    """
    set_seed(options.seed)
    weights = _find_weights(ref.architecture, options.weights, recipe.width)
    model, spec = _build(task, ref, recipe, weights)
    recipe = dataclasses.replace(recipe, image_size=spec.height)
    teacher = load_teacher(task, recipe, spec)
    rows = read_rows(task, options.data, options.flags)
    sets = load_splits(task, recipe, spec, rows, options.seed)
    started_from = _name_start(ref, weights)
    same = _identify(task, ref, rows, sets, recipe, options) | _name_sources(task, ref, weights, teacher)
    _log.info("%s images; started from %s", same["images of each split"], started_from)
    with _saving(options.out):
        open_progress(options.out / PROGRESS, same, options.resume)
        trainer = run_stages(model, sets, recipe, options, teacher)
    trainer.accelerator.end_training()  # or a process that leaves with its threads at work may be aborted
    if not trainer.is_world_process_zero():
        return {}
    model = trainer.finish()
    fitted, reference = calibrate(model, sets, task.labels, biased=recipe.calibrate == "biases")
    fitted |= {"started_from": started_from, "command": options.command, "recipe": dataclasses.asdict(recipe)}
    fitted |= {"split": task.split.kind, "longer_side": measure_side(rows["path"])}
    if ref.architecture == "fusion":
        name_sources(model, task, options.out)
    seen = note_seen(rows, named=options.keep_names)
    with _saving(options.out):
        save_checkpoint(model, spec, options.out, fitted, reference, seen)
        _write_card(task, model.config.second_read, options.out / "README.md")
        plot_curves(trainer.state.log_history, options.out / CURVES)
    close_progress(options.out / PROGRESS)
    return fitted["test"]


@contextlib.contextmanager
def _saving(out: Path) -> Iterator[None]:
    """Says where a model cannot be written; what it has learned so far is kept."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise TaskError(
            f"The model cannot be written to {out}: {reason}. Make room there and give the same command again with "
            "--resume: it goes on from the last epoch that was kept."
        ) from error


def _name_start(ref: ModelRef, weights: Path | None) -> str:
    """What a model's weights are before it is trained, in words."""
    if ref.architecture == "fusion":
        return f"the trained models {', '.join(ref.members)}, frozen"
    if ref.architecture.startswith("hub:"):
        return find_source(ref.architecture[4:]).name
    return f"ImageNet weights ({weights.stem})" if weights else "random weights"


def _name_sources(task: Task, ref: ModelRef, weights: Path | None, teacher: Teacher | None) -> dict[str, Any]:
    """What an interrupted training learned from, besides its images: it goes on from no other."""
    taught = [] if teacher is None else [f"{member.name} {member.revision}" for member in teacher.members]
    sources = [task.model(name) for name in ref.members]
    members = [f"{each.name} {each.revision or (each.path and hash_weights(each.path))}" for each in sources]
    return {"start": _name_start(ref, weights), "members (revisions)": members, "teacher (revisions)": taught}


def _write_card(task: Task, info: dict[str, Any], path: Path) -> None:
    """Writes the model's card, and says which labels its figures know nothing of."""
    missing = [label for label, count in info["test"]["support"].items() if not count]
    if missing:
        _log.warning("some figures of the card are not defined: no test image is %s", ", ".join(missing))
    path.write_text(render_card(task, info), encoding="utf-8")


def run_stages(
    model: PreTrainedModel,
    sets: dict[str, ImageSet],
    recipe: Recipe,
    options: argparse.Namespace,
    teacher: Teacher | None = None,
) -> RecipeTrainer:
    """Trains the head on a frozen body first, if the recipe says so, then everything; returns the last Trainer.

    Raises:
        TaskError: when the recipe wants lower rates for lower layers, and the model has none.
    """
    check_layers(model, recipe.layer_decay)
    progress = options.out / PROGRESS
    resumed = last_progress(progress / WHOLE) if options.resume else None
    if recipe.frozen_epochs and not resumed:
        head = dataclasses.replace(
            recipe, epochs=recipe.frozen_epochs, learning_rate=recipe.frozen_rate, layer_decay=1.0, ema=0.0
        )
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        freeze_body(model)
        first = build_trainer(model, sets, head, progress / HEAD, options.seed)
        first.go_on(last_progress(progress / HEAD) if options.resume else None)
        model = first.finish()
        for parameter in trained:
            parameter.requires_grad_(True)
    trainer = build_trainer(model, sets, recipe, progress / WHOLE, options.seed, teacher)
    trainer.go_on(resumed)
    return trainer


def _build(task: Task, ref: ModelRef, recipe: Recipe, weights: Path | None) -> tuple[PreTrainedModel, InputSpec]:
    if ref.architecture == "fusion":
        return build_fusion(task, ref, recipe)
    return build_model(ref.architecture, task.labels, recipe, weights)


def search(task: Task, ref: ModelRef, recipe: Recipe, options: argparse.Namespace) -> None:
    """Searches rate, dropout and batch size; prints the table, and keeps it as `search.csv` in the model's folder."""
    from xray_models.search import Plan, search_recipes  # Optuna takes a second to import

    plan = Plan(options.search, options.trials, options.seed)
    set_seed(options.seed)
    weights = _find_weights(ref.architecture, options.weights, recipe.width)
    model, spec = _build(task, ref, recipe, weights)
    check_layers(model, recipe.layer_decay)
    teacher = load_teacher(task, recipe, spec)
    rows = read_rows(task, options.data, options.flags)
    sets = load_splits(task, recipe, spec, rows, options.seed)
    same = _identify(task, ref, rows, sets, recipe, options) | _name_sources(task, ref, weights, teacher)
    same["search"] = plan.kind
    open_progress(options.out / PROGRESS, same, options.resume)
    table = search_recipes(
        lambda changed: _build(task, ref, changed, weights)[0],
        sets,
        recipe,
        options.out / PROGRESS,
        plan,
        teacher,
        options.resume,
    )
    table.to_csv(options.out / "search.csv", index=False)
    close_progress(options.out / PROGRESS)
    sys.stdout.write(table.to_string(index=False, float_format="{:.4g}".format) + "\n")


def _identify(  # noqa: PLR0913 - each is a part of what must be the same
    task: Task,
    ref: ModelRef,
    rows: pd.DataFrame,
    sets: dict[str, ImageSet],
    recipe: Recipe,
    options: argparse.Namespace,
) -> dict[str, Any]:
    """What an interrupted training or search must have in common with the one that goes on with it."""
    counts = {split: len(images.labels) for split, images in sets.items()}
    same = {"task": task.name, "architecture": ref.architecture, "seed": options.seed, "images of each split": counts}
    same["data (digest of pictures, labels and splits)"] = _digest(rows)
    return same | dataclasses.asdict(recipe)


def _digest(rows: pd.DataFrame) -> str:
    """The first 12 digits of a sha256 that changes with any picture, label or split, whatever their order."""
    listed = sorted(zip(rows["sha256"], rows["label"], rows["split"], strict=True))
    return hashlib.sha256(json.dumps(listed).encode()).hexdigest()[:12]


def _find_weights(architecture: str, folder: Path | None, width: float) -> Path | None:
    """Returns the ImageNet weights of an architecture if the folder has them; warns where it has not."""
    name = find_architecture(architecture).weights
    if folder is None or not name:
        return None
    if width != Recipe.width:
        _log.warning(
            "width is %g: ImageNet weights fit only %g, so training starts from random ones", width, Recipe.width
        )
        return None
    if not (folder / name).is_file():
        _log.warning("there is no %s in %s: training starts from random weights", name, folder)
        return None
    return folder / name
