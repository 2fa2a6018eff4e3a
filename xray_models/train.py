"""Trains one model of a task: `python -m xray_models.train --task covid --model vit_tiny --out runs/vit_tiny`.

manifest -> cached arrays -> augmentation -> Hugging Face Trainer -> best epoch -> calibration -> a model's folder.
On several processes or GPUs: `accelerate launch -m xray_models.train ...`, with the same result.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import logging
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel, set_seed

from xray_models import datasets
from xray_models.architectures import build_model, find_architecture
from xray_models.architectures.pretrained import find_source
from xray_models.cards import render_card
from xray_models.checkpoints import save_checkpoint
from xray_models.commands import show_command
from xray_models.curves import plot_curves
from xray_models.finishing import calibrate
from xray_models.fusing import build_fusion, name_sources
from xray_models.images import InputSpec
from xray_models.imagesets import ImageSet, load_splits
from xray_models.tasks import SPLIT_KINDS, ModelRef, Recipe, Task, TaskError, load_task
from xray_models.trainer import RecipeTrainer, build_trainer, freeze_body

_log = logging.getLogger(__name__)
_PROGRESS = ".training"  # folder of the Trainer's own checkpoints, below the model's; removed at the end
CURVES = "training.png"


def last_progress(folder: Path) -> str | None:
    """Returns the newest whole checkpoint of an interrupted training, or None.

    The Trainer writes `trainer_state.json` last; a folder in which it cannot be read was cut off.
    """
    found = sorted(folder.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    for checkpoint in reversed(found):
        try:
            json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            shutil.rmtree(checkpoint)
            continue
        return str(checkpoint)
    return None


def train(task: Task, ref: ModelRef, recipe: Recipe, options: argparse.Namespace) -> dict[str, Any]:
    """Trains, calibrates and saves one model; returns its test metrics.

    Args:
        task: the task.
        ref: one of its models, or a new one.
        recipe: how.
        options: `out`, `data`, `flags`, `weights`, `seed`, `resume`, as the command line gives them.
    """
    set_seed(options.seed)
    weights = _find_weights(ref.architecture, options.weights) if recipe.width == 1 else None
    model, spec = _build(task, ref, recipe, weights)
    recipe = dataclasses.replace(recipe, image_size=spec.height)
    sets = load_splits(task, recipe, spec, options.data, options.flags, options.seed)
    started_from = f"ImageNet weights ({weights.stem})" if weights else "random weights"
    if ref.architecture == "fusion":
        started_from = f"the trained models {', '.join(ref.members)}, frozen"
    elif ref.architecture.startswith("hub:"):
        started_from = find_source(ref.architecture[4:]).name
    counts = {split: len(images.labels) for split, images in sets.items()}
    _log.info("%s images; started from %s", counts, started_from)
    trainer = run_stages(model, sets, recipe, options)
    trainer.accelerator.end_training()  # or a process that leaves with its threads at work may be aborted
    if not trainer.is_world_process_zero():
        return {}
    model = trainer.finish()
    fitted, reference = calibrate(model, sets, task.labels)
    fitted |= {
        "started_from": started_from,
        "command": options.command,
        "recipe": dataclasses.asdict(recipe),
    }
    if ref.architecture == "fusion":
        name_sources(model, task)
    save_checkpoint(model, spec, options.out, fitted, reference)
    card = render_card(task, model.config.second_read)
    (options.out / "README.md").write_text(card, encoding="utf-8")
    plot_curves(trainer.state.log_history, options.out / CURVES)
    shutil.rmtree(options.out / _PROGRESS, ignore_errors=True)
    return fitted["test"]


def run_stages(
    model: PreTrainedModel, sets: dict[str, ImageSet], recipe: Recipe, options: argparse.Namespace
) -> RecipeTrainer:
    """Trains the head on a frozen body first, if the recipe says so, then everything; returns the last Trainer."""
    progress = options.out / _PROGRESS
    resumed = last_progress(progress / "all") if options.resume else None
    if recipe.frozen_epochs and not resumed:
        head = dataclasses.replace(
            recipe, epochs=recipe.frozen_epochs, learning_rate=recipe.frozen_rate, layer_decay=1.0, ema=0.0
        )
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        freeze_body(model)
        first = build_trainer(model, sets, head, progress / "head", options.seed)
        first.train(resume_from_checkpoint=last_progress(progress / "head") if options.resume else None)
        model = first.finish()
        for parameter in trained:
            parameter.requires_grad_(True)
    trainer = build_trainer(model, sets, recipe, progress / "all", options.seed)
    if resumed and trainer.average:
        trainer.average.resume(resumed)
    trainer.train(resume_from_checkpoint=resumed)
    return trainer


def _build(task: Task, ref: ModelRef, recipe: Recipe, weights: Path | None) -> tuple[PreTrainedModel, InputSpec]:
    if ref.architecture == "fusion":
        return build_fusion(task, ref, recipe)
    return build_model(ref.architecture, task.labels, recipe, weights)


def search(task: Task, ref: ModelRef, recipe: Recipe, options: argparse.Namespace) -> None:
    """Searches rate, dropout and batch size; prints the table, and keeps it as `search.csv` in the model's folder."""
    from xray_models.search import Plan, search_recipes  # Optuna takes a second to import

    set_seed(options.seed)
    weights = _find_weights(ref.architecture, options.weights) if recipe.width == 1 else None
    _, spec = _build(task, ref, recipe, weights)
    sets = load_splits(task, recipe, spec, options.data, options.flags, options.seed)
    plan = Plan(options.search, options.trials, options.seed)
    table = search_recipes(
        lambda changed: _build(task, ref, changed, weights)[0], sets, recipe, options.out / _PROGRESS, plan
    )
    table.to_csv(options.out / "search.csv", index=False)
    shutil.rmtree(options.out / _PROGRESS, ignore_errors=True)
    sys.stdout.write(table.to_string(index=False, float_format="{:.4g}".format) + "\n")


def _find_weights(architecture: str, folder: Path | None) -> Path | None:
    """Returns the ImageNet weights of an architecture if the folder has them."""
    name = find_architecture(architecture).weights
    if folder is None or not name or not (folder / name).is_file():
        return None
    return folder / name


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m xray_models.train", description="Trains one model of a task.")
    parser.add_argument("--task", required=True, help="a YAML file of hub_configs/, without its ending")
    parser.add_argument("--model", required=True, help="a model of that task; with --arch or --from, any new name")
    parser.add_argument("--out", required=True, type=Path, help="the model's folder; made if missing")
    parser.add_argument("--data", type=Path, help="data folder (default: $XRAY_DATA/<task>, or data/<task>)")
    parser.add_argument("--split", choices=SPLIT_KINDS, help="by groups, or the publisher's (default: grouped)")
    parser.add_argument("--flags", type=Path, help="a ledger whose relabels are applied")
    parser.add_argument("--labels", type=Path, help="CSV with file_name and label of files to label anew")
    parser.add_argument("--arch", help="another architecture for the model: a name, or timm:<any timm model>")
    parser.add_argument("--from", dest="start", help="fine-tune this Hub repository (or a local copy of one)")
    weights = os.environ.get("XRAY_WEIGHTS")
    parser.add_argument(
        "--weights",
        type=Path,
        default=Path(weights) if weights else None,
        help="folder of ImageNet safetensors (default: $XRAY_WEIGHTS; without it, training starts from random weights)",
    )
    parser.add_argument("--search", choices=("grid", "optuna"), help="compare rates, dropouts and batch sizes instead")
    parser.add_argument("--trials", type=int, default=12, help="trainings of a search, at most (default: 12)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--resume", action="store_true", help="go on from the last checkpoint of an interrupted run")
    for field in dataclasses.fields(Recipe):
        option = "--" + field.name.replace("_", "-")
        parser.add_argument(option, type=type(field.default), help="default: as hub_configs says")
    options = parser.parse_args(argv)
    words = [word for word in (sys.argv[1:] if argv is None else argv) if word != "--resume"]
    local = options.start is not None and Path(options.start).exists()
    options.command = show_command("xray_models.train", words, keep=["--out"] if local else ["--out", "--from"])
    return options


def _choose_model(task: Task, options: argparse.Namespace) -> ModelRef:
    """The task's model of that name; with --arch or --from, one of that name that is built differently."""
    architecture = f"hub:{options.start}" if options.start else options.arch
    if architecture is None:
        return task.model(options.model)
    return ModelRef(options.model, checkpoint=str(options.out), architecture=architecture)


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    options = _parse(argv)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    try:
        task = load_task(options.task)
        ref = _choose_model(task, options)
        given = {f.name: getattr(options, f.name) for f in dataclasses.fields(Recipe)}
        recipe = dataclasses.replace(
            task.recipe_of(options.model) if options.model in {m.name for m in task.models} else task.recipe,
            **{key: value for key, value in given.items() if value is not None},
        )
        split = dataclasses.replace(task.split, kind=options.split or task.split.kind)
        relabels = str(options.labels.resolve()) if options.labels else task.dataset.relabels
        dataset = dataclasses.replace(task.dataset, relabels=relabels)
        task = dataclasses.replace(task, recipe=recipe, split=split, dataset=dataset)
        if options.search:
            search(task, ref, recipe, options)
            return 0
        metrics = train(task, ref, recipe, options)
    except (TaskError, datasets.DataError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    sys.stdout.write(json.dumps(metrics, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
