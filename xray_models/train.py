"""Trains one model of a task: `python -m xray_models.train --task covid --model vit_tiny --out runs/vit_tiny`.

The command line. What it does is in `training`, imported once the command makes sense: torch takes seconds.
On several processes or GPUs: `accelerate launch -m xray_models.train ...`, with the same result.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from xray_models.commands import (
    check_out,
    leave,
    leave_group,
    leave_in_order,
    parse_seed,
    refuse_together,
    show_command,
    start_log,
)
from xray_models.imports import HEAVY_IMPORTS
from xray_models.memory import keep_memory
from xray_models.progress import PROGRESS, WHOLE, check_kind, last_progress
from xray_models.recipes import Recipe, describe_fields, share_batch
from xray_models.tasks import SPLIT_KINDS, ModelRef, Task, TaskError, load_task

_log = logging.getLogger(__name__)
_SEARCHED = ("learning_rate", "dropout", "batch_size")  # what a search chooses for each of its trainings


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m xray_models.train", description="Trains one model of a task.", allow_abbrev=False
    )
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
    parser.add_argument(
        "--keep-names",
        action="store_true",
        help="keep hashes of the images' file names beside the weights, so that evaluations know copies at another "
        "resolution; who gets the model can find out whether a name was among them, so for published collections only",
    )
    parser.add_argument("--search", choices=("grid", "optuna"), help="compare rates, dropouts and batch sizes instead")
    parser.add_argument("--trials", type=int, default=12, help="trainings of a search, at most (default: 12)")
    parser.add_argument("--seed", type=parse_seed, default=0)
    parser.add_argument("--resume", action="store_true", help="go on where a training or a search was interrupted")
    recipe = parser.add_argument_group("recipe", "where left out, as hub_configs says")
    said = describe_fields()
    for field in dataclasses.fields(Recipe):
        option, text = "--" + field.name.replace("_", "-"), said.get(field.name, "")
        kind = float if field.default is None else type(field.default)
        recipe.add_argument(option, type=kind, help=text.replace("`", "").replace("%", "%%"))
    options = parser.parse_args(argv)
    if options.keep_names and options.task == "phantom":
        parser.error("drawn images are numbered anew in every folder; leave out --keep-names")
    if options.arch and options.start:
        parser.error("--from brings its own architecture; leave out --arch")
    given = [f"--{name.replace('_', '-')}" for name in _SEARCHED if getattr(options, name) is not None]
    if options.search and given:
        parser.error(f"--search tries rates, dropouts and batch sizes of its own; leave out {', '.join(given)}")
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


def _settle(options: argparse.Namespace) -> tuple[Task, ModelRef, Recipe]:
    """What the options make of a task, its model and its recipe; raises `TaskError` for what does not exist or fit."""
    task = load_task(options.task)
    processes = int(os.environ.get("WORLD_SIZE", 1))
    if options.search and processes > 1:
        raise TaskError("A search runs in one process. Start it with python -m xray_models.train.")
    ref = _choose_model(task, options)
    given = {f.name: getattr(options, f.name) for f in dataclasses.fields(Recipe)}
    recipe = dataclasses.replace(
        task.recipe_of(options.model) if options.model in {m.name for m in task.models} else task.recipe,
        **{key: value for key, value in given.items() if value is not None},
    )
    share_batch(recipe.batch_size, processes)  # says at once when they cannot
    split = dataclasses.replace(task.split, kind=options.split or task.split.kind)
    relabels = str(options.labels.resolve()) if options.labels else task.dataset.relabels
    dataset = dataclasses.replace(task.dataset, relabels=relabels)
    return dataclasses.replace(task, recipe=recipe, split=split, dataset=dataset), ref, recipe


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    options = _parse(argv)
    keep_memory()
    start_log()
    try:
        task, ref, recipe = _settle(options)
        check_out(options.out)
        if options.resume:
            check_kind(options.out / PROGRESS, search=options.search is not None)
    except TaskError as error:
        return refuse_together(error)
    if options.resume and not options.search and last_progress(options.out / PROGRESS / WHOLE) is None:
        _log.info("nothing to go on from in %s: training starts from the beginning", options.out)
    from xray_models.datasets import DataError, data_folder
    from xray_models.layouts import is_folder

    try:
        if options.weights and not is_folder(options.weights):
            raise DataError(
                f"There is no folder {options.weights} of ImageNet weights. Correct --weights or XRAY_WEIGHTS, or "
                "leave both out to start from random weights."
            )
        if task.dataset.layout != "phantom":
            data_folder(task, options.data)  # says at once when there is none
        with HEAVY_IMPORTS:
            from xray_models.training import search, train

        if options.search:
            search(task, ref, recipe, options)
            return 0
        metrics = train(task, ref, recipe, options)
    except (TaskError, DataError) as error:
        return refuse_together(error)
    if metrics:  # none in a process beside the first
        sys.stdout.write(json.dumps(metrics, indent=1) + "\n")
    if int(os.environ.get("WORLD_SIZE", 1)) > 1:
        leave_group()
    return 0


if __name__ == "__main__":
    if int(os.environ.get("WORLD_SIZE", 1)) == 1:  # else the launcher ends its processes as it sees fit
        leave_in_order("SIGTERM", "SIGHUP")  # drafts in the cache go
    leave(main, "with --resume a training goes on from its last whole epoch, a search after its last whole training")
