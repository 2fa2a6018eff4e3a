"""The command lines of the benchmarks; what a benchmark needs is imported once its command makes sense."""

from __future__ import annotations

import argparse
import importlib
import math
from collections.abc import Sequence
from pathlib import Path

from xray_models.commands import check_out, parse_count, refuse
from xray_models.memory import keep_memory
from xray_models.tasks import TaskError

SMALLEST = 64  # pixels of a drawn image's side: `phantom.SMALLEST`, which takes scipy to import
_RESULTS = Path(__file__).parent / "results"
_ENGINES = ("auto", "torch", "openvino")
_BESIDE = {"pytorch_grad_cam": "grad-cam"}  # what only a benchmark needs, and the package that brings it
_OWN_SIZE = "pixels of an input's side (default: its own)"


def bootstrap(argv: Sequence[str] | None = None) -> int:
    """`python -m benchmarks.bootstrap`."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.bootstrap", description="How long the intervals of an evaluation take."
    )
    _add_counts(parser, "images", [500, 5000])
    _add_count(parser, "resamples", 2000, "of the bootstrap")
    options = parser.parse_args(argv)
    return _run("bootstrap", options)


def flags(argv: Sequence[str] | None = None) -> int:
    """`python -m benchmarks.flags`."""
    parser = _start("flags", "Durable flags a second, against gr.CSVLogger.", 3)
    parser.add_argument("--seconds", type=_parse_seconds, default=1.0, help="for which each is measured (default: 1)")
    parser.add_argument("--folder", type=Path, default=Path(), help="on the disk to be measured (default: here)")
    options = parser.parse_args(argv)
    if not options.folder.is_dir():
        parser.error(f"--folder {options.folder} is not there; name a folder on the disk to be measured")
    return _run("flags", options)


def near_copies(argv: Sequence[str] | None = None) -> int:
    """`python -m benchmarks.near_copies`."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.near_copies", description="How fast near-copies are found, and how many."
    )
    parser.add_argument(
        "--count", type=parse_count, nargs="+", default=[2000, 20000], help="images (default: 2000 20000)"
    )
    parser.add_argument("--answers", action="store_true", help="compare with what is known below $XRAY_DATA")
    options = parser.parse_args(argv)
    return _run("near_copies", options)


def panel(argv: Sequence[str] | None = None) -> int:
    """`python -m benchmarks.panel`."""
    parser = _start("panel", "A reading with a heatmap of every model, against the models one by one.", 7)
    options = parser.parse_args(argv)
    return _run("panel", options)


def start(argv: Sequence[str] | None = None) -> int:
    """`python -m benchmarks.start`."""
    options = _start("start", "How long it takes to start.", 3).parse_args(argv)
    return _run("start", options)


def worklist(argv: Sequence[str] | None = None) -> int:
    """`python -m benchmarks.worklist`."""
    parser = _start("worklist", "A long worklist.", 3)
    _add_count(parser, "images", 1000, "on the list")
    _add_size(parser, 512)
    options = parser.parse_args(argv)
    return _run("worklist", options)


def evaluate(argv: Sequence[str] | None = None) -> int:
    """`python -m benchmarks.evaluate`."""
    parser = _start("evaluate", "Images a second of scoring a folder, against pipelines and the bare forwards.", 5)
    _add_count(parser, "images", 96, "to be scored")
    _add_size(parser, 512)
    parser.add_argument("--models", nargs="+", help="architectures (default: the six of benchmarks/subjects.py)")
    options = parser.parse_args(argv)
    keep_memory()  # before there are threads, as the command does
    return _run("evaluate", options)


def train(argv: Sequence[str] | None = None) -> int:
    """`python -m benchmarks.train`."""
    parser = _start("train", "Images a second of training, against the plain recipe and synthetic input.", 5)
    models = ["simple_cnn", "resnet18", "vit_tiny"]
    parser.add_argument("--models", nargs="+", default=models, help=f"architectures (default: {' '.join(models)})")
    _add_count(parser, "steps", 12, "on which the clock runs, after three without")
    _add_count(parser, "batch", 32, "images of a step")
    _add_size(parser, 512)
    parser.add_argument("--image-size", type=parse_count, default=0, help=_OWN_SIZE)
    options = parser.parse_args(argv)
    keep_memory()  # before there are threads, as the command does
    return _run("train", options)


def attribution(argv: Sequence[str] | None = None) -> int:
    """`python -m benchmarks.attribution`."""
    parser = _start("attribution", "How long a heatmap takes by each method, against plain Captum.", 5)
    models = ["resnet18", "vit_tiny"]
    parser.add_argument("--models", nargs="+", default=models, help=f"architectures (default: {' '.join(models)})")
    parser.add_argument("--image-size", type=parse_count, default=0, help=_OWN_SIZE)
    options = parser.parse_args(argv)
    return _run("attribution", options)


def engines(argv: Sequence[str] | None = None) -> int:
    """`python -m benchmarks.engines`."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.engines", description="Whether every engine gives the same labels and heatmaps."
    )
    parser.add_argument("--task", default="covid", help="default: covid")
    parser.add_argument("--data", type=Path, help="data folder (default: $XRAY_DATA/<task>, or data/<task>)")
    parser.add_argument("--images", type=parse_count, help="test images, at most (default: all)")
    _add_count(parser, "maps", 60, "heatmaps of each model")
    parser.add_argument("--out", type=Path, default=_RESULTS, help="folder of engines.json (default: with the others)")
    options = parser.parse_args(argv)
    return _run("engines", options)


def serve(argv: Sequence[str] | None = None) -> int:
    """`python -m benchmarks.serve`."""
    parser = _start("serve", "Readings a second of the app, asked by many clients at once.", 3)
    parser.add_argument("--task", default="covid", help="whose panel reads (default: covid)")
    _add_count(parser, "clients", 16, "that ask at once")
    _add_count(parser, "readings", 400, "that they ask for in a round, each of another image")
    _add_size(parser, 256)
    parser.add_argument("--engine", choices=_ENGINES, default="auto", help="what runs the models (default: auto)")
    options = parser.parse_args(argv)
    return _run("serve", options)


def growth(argv: Sequence[str] | None = None) -> int:
    """`python -m benchmarks.growth`."""
    parser = _start("growth", "Time and memory of scoring, as images and models become more.", 3)
    _add_counts(parser, "images", [100, 1000, 10_000])
    _add_counts(parser, "models", [1, 2, 4, 8, 12])
    _add_size(parser, 96)
    _add_count(parser, "image-size", 96, "pixels of an input's side")
    parser.add_argument("--engine", choices=_ENGINES, default="auto", help="what runs the models (default: auto)")
    options = parser.parse_args(argv)
    return _run("growth", options)


def _start(name: str, description: str, rounds: int) -> argparse.ArgumentParser:
    """A parser with the options that these benchmarks have in common."""
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks.{name}", description=description)
    _add_count(parser, "rounds", rounds, "times that each is measured")
    parser.add_argument("--out", type=Path, default=_RESULTS, help=f"folder of {name}.json (default: with the others)")
    return parser


def _run(name: str, options: argparse.Namespace) -> int:
    """Runs a benchmark, and says in a sentence why one cannot be done; returns the exit status."""
    try:
        if hasattr(options, "out"):
            check_out(options.out)
        from xray_models.layouts import DataError  # takes pandas

        try:
            importlib.import_module(f"benchmarks.{name}").run(options)
        except DataError as error:
            return refuse(error)
    except TaskError as error:
        return refuse(error)
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        return refuse(
            TaskError(
                f"benchmarks.{name} needs {package}, which is not installed. Install it: pip install "
                f"{_BESIDE.get(package, '-r requirements.txt')}"
            )
        )
    return 0


def _parse_size(text: str) -> int:
    size = parse_count(text)
    if size < SMALLEST:
        raise argparse.ArgumentTypeError(f"{text} pixels are too few to draw a chest; give {SMALLEST} or more")
    return size


def _parse_seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds above 0")
    return seconds


def _add_count(parser: argparse.ArgumentParser, name: str, default: int, about: str) -> None:
    parser.add_argument(f"--{name}", type=parse_count, default=default, help=f"{about} (default: {default})")


def _add_size(parser: argparse.ArgumentParser, default: int) -> None:
    said = f"pixels of an image's side, at least {SMALLEST} (default: {default})"
    parser.add_argument("--size", type=_parse_size, default=default, help=said)


def _add_counts(parser: argparse.ArgumentParser, name: str, default: list[int]) -> None:
    said = f"numbers of {name} (default: {' '.join(map(str, default))})"
    parser.add_argument(f"--{name}", type=parse_count, nargs="+", default=default, help=said)
