"""Judges a task's panel: `python -m evaluation.run --task covid --data DIR`.

The command line. What it does is in `judging`, imported once the command makes sense: torch takes seconds.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from xray_models.commands import (
    check_out,
    leave,
    leave_in_order,
    parse_count,
    parse_seed,
    refuse,
    show_command,
    start_log,
)
from xray_models.imports import HEAVY_IMPORTS
from xray_models.memory import keep_memory
from xray_models.tasks import TaskError, load_task

FORMATS = ("html", "md", "json")
IMAGES = 24  # that a check looks at which needs many readings of each
_OF_MODELS: dict[str, object] = {  # what says whom to ask and of what, and what holds where it is not given
    "models": None,
    "data": None,
    "split": "test",
    "labels": None,
    "by_picture": False,
    "robustness": IMAGES,
    "heatmaps": IMAGES,
    "margins": IMAGES,
    "foreign": (),
    "engine": "local",
    "compute": "torch",
    "ray_address": None,
    "workers": None,
    "no_cache": False,
}
_OF_CLUSTERS = ("ray_address", "workers")


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m evaluation.run", description="Judges a task's panel.", allow_abbrev=False
    )
    parser.add_argument("--task", required=True, help="a YAML file of hub_configs/, without its ending")
    parser.add_argument("--data", type=Path, help="data folder (default: $XRAY_DATA/<task>, or data/<task>)")
    parser.add_argument("--split", choices=("train", "validation", "test", "all"), help="default: test")
    parser.add_argument(
        "--models", nargs="+", help="models of the task, or of the Hub as owner/repo@commit (default: the task's)"
    )
    parser.add_argument("--predictions", nargs="+", type=Path, help="judge these CSV files instead of running models")
    parser.add_argument("--labels", type=Path, help="CSV with file_name and label of files to label anew")
    parser.add_argument(
        "--by-picture",
        action="store_true",
        default=None,
        help="leave out only what a model was made with pixel for pixel, not what bears the same file name: for images "
        "of another collection whose names are alike by chance",
    )
    parser.add_argument("--metadata", type=Path, help="CSV with image and, say, sex, age, view: results by subgroup")
    parser.add_argument(
        "--inject-noise", type=_parse_share, default=0.0, help="share of labels to make wrong, as a trial"
    )
    parser.add_argument("--robustness", type=_parse_images, help=f"images to disturb (default: {IMAGES}; 0: none)")
    parser.add_argument("--heatmaps", type=_parse_images, help=f"images whose heatmaps to judge (default: {IMAGES})")
    parser.add_argument(
        "--margins",
        type=_parse_images,
        help=f"images to hide the margins of (default: {IMAGES}; 0: no audit)",
    )
    parser.add_argument(
        "--foreign",
        nargs="+",
        type=Path,
        metavar="FOLDER",
        help="folders of images that the task is not for: how many of them are called out of distribution",
    )
    parser.add_argument("--engine", choices=("local", "ray"), help="one process (default), or a Ray cluster")
    parser.add_argument(
        "--compute",
        choices=("torch", "auto", "openvino"),
        help="what runs the models: torch, the exact one (default), or OpenVINO, several times faster on a CPU "
        "(auto: where it agrees with torch); not with --engine ray",
    )
    parser.add_argument("--ray-address", help="a running cluster's address (default: one on this machine alone)")
    parser.add_argument("--workers", type=parse_count, help="panels of a cluster (default: one a core or GPU)")
    parser.add_argument("--out", type=Path, help="folder of the results (default: reports/<task>)")
    parser.add_argument("--format", nargs="+", choices=FORMATS, default=["html"], help="of the report (default: html)")
    parser.add_argument("--no-cache", action="store_true", default=None, help="neither take nor keep finished opinions")
    parser.add_argument("--seed", type=parse_seed, default=0, help="of the bootstrap and of every choice of images")
    parser.add_argument("--resamples", type=parse_count, default=2000, help="of the bootstrap (default: 2000)")
    options = parser.parse_args(argv)
    options.out = options.out or Path("reports") / options.task
    _settle(parser, options)
    options.command = show_command("evaluation.run", sys.argv[1:] if argv is None else argv)
    return options


def _settle(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """Refuses options that contradict each other, and fills in what was not given."""
    given = [f"--{name.replace('_', '-')}" for name in _OF_MODELS if getattr(options, name) is not None]
    if options.predictions and given:
        parser.error(f"--predictions judges all that its files hold, and asks no model; leave out {', '.join(given)}")
    clusters = [f"--{name.replace('_', '-')}" for name in _OF_CLUSTERS if getattr(options, name) is not None]
    if clusters and options.engine != "ray":
        parser.error(f"only a cluster has use for {', '.join(clusters)}; add --engine ray, or leave it out")
    for name, default in _OF_MODELS.items():
        if getattr(options, name) is None:
            setattr(options, name, default)
    if options.engine == "ray" and options.compute != "torch":
        parser.error(f"--compute {options.compute} goes with --engine local; on a cluster, models run on torch")


def _parse_images(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of images; give a whole number, 0 for none")
    return int(text)


def _parse_share(text: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 0.5:
        raise argparse.ArgumentTypeError(f"{text!r} is not a share of the labels; give a number from 0 to 0.5")
    return share


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    options = _parse(argv)
    keep_memory()
    start_log(logging.WARNING)
    try:
        task = load_task(options.task)
        check_out(options.out)
    except TaskError as error:
        return refuse(error)
    from evaluation.predictions import PredictionError
    from xray_models.datasets import DataError, data_folder
    from xray_models.hub_client import HubError
    from xray_models.images import ImageError
    from xray_models.layouts import find_images

    try:
        if not options.predictions and task.dataset.layout != "phantom":
            data_folder(task, options.data)  # says at once when there is none
        for folder in options.foreign:
            find_images(folder)  # and here
        with HEAVY_IMPORTS:
            from evaluation.judging import evaluate, format_table

        scores = evaluate(task, options)
    except (TaskError, HubError, DataError, ImageError, PredictionError) as error:
        return refuse(error)
    for model, reason in scores["unavailable"].items():
        sys.stderr.write(f"left out: {model}: {reason}\n")
    shown = {"html": "report.html", "md": "report.md", "json": "metrics.json"}
    written = "\n".join(str(options.out / shown[name]) for name in options.format)
    sys.stdout.write(f"{format_table(scores)}\n{written}\n")
    return 0


if __name__ == "__main__":
    leave_in_order("SIGTERM", "SIGHUP")  # drafts in the cache go
    leave(main, "opinions formed so far are kept, and the same command goes on from there")
