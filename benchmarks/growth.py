"""Time and memory of scoring, as it grows: `python -m benchmarks.growth [--images N ...] [--models M ...]`.

A folder is scored as `python -m evaluation.run` does it, without the cache of earlier opinions, by untrained networks:

    images    from a hundred to ten thousand, by three small networks; time and memory for each image
    models    from one to twelve of the same architecture, on the fewest images; time and memory for each model

Every measurement has a process of its own, in which the panel has answered once before the clock starts; in turns, in
one run; medians with spread. Memory is the process's peak.
"""

from __future__ import annotations

import sys

if __name__ == "__main__":  # answers --help before what follows is imported
    from benchmarks.commands import growth

    sys.exit(growth())

import argparse
import dataclasses
import multiprocessing
import resource
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from benchmarks.evaluate import score_folder
from benchmarks.measuring import (
    describe_machine,
    format_spread,
    list_versions,
    summarise,
    take_turns,
    write_record,
)
from benchmarks.subjects import build_panel, draw_images
from xray_models.panel import Panel
from xray_models.recipes import Recipe
from xray_models.tasks import Task

PANEL = ("simple_cnn", "resnet18", "vit_tiny")
REPEATED = "resnet18"
FLAT = 0.10  # part by which time per image may rise
_WARM = 32  # images that a panel answers for before the clock starts
_SERVER = multiprocessing.get_context("forkserver")  # what is imported need not be imported for every measurement
_SERVER.set_forkserver_preload(["benchmarks.evaluate"])


class Point(NamedTuple):
    """One measurement: seconds for all images, and MiB at the process's peak."""

    seconds: float
    memory: float


def measure_alone(task: Task, rows: pd.DataFrame, folder: Path, engine: str) -> Point:
    """Scores a folder in a process of its own."""
    with ProcessPoolExecutor(1, mp_context=_SERVER) as pool:
        return pool.submit(_score, task, rows, folder, engine).result()


def _score(task: Task, rows: pd.DataFrame, folder: Path, engine: str) -> Point:
    panel = Panel.load(task, device="cpu", engine=engine)
    score_folder(panel, rows[:_WARM], folder)
    started = time.perf_counter()
    score_folder(panel, rows, folder)
    seconds = time.perf_counter() - started
    return Point(seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)  # Linux counts in KiB


def sum_up(taken: dict[int, list[Point]], work: Callable[[int], int]) -> dict[str, Any]:
    """Time and memory for each unit of work, how they grow, and whether time is flat.

    Args:
        taken: measurements of each size.
        work: the units of work of a size: images, or images times models.

    Returns:
        By size, and from the smallest to the largest: `time_grows`, the largest size's time for a unit divided by the
        smallest's, round by round, and `MiB_each`, what one more of a size adds to the peak.
    """
    sizes = {
        str(size): {
            "milliseconds": summarise((1000 * point.seconds / work(size) for point in each), 3),
            "peak MiB": summarise(point.memory for point in each),
        }
        for size, each in taken.items()
    }
    first, last = min(taken), max(taken)
    grows = summarise(
        (
            (large.seconds / work(last)) / (small.seconds / work(first))
            for small, large in zip(taken[first], taken[last], strict=True)
        ),
        3,
    )
    more = sizes[str(last)]["peak MiB"]["median"] - sizes[str(first)]["peak MiB"]["median"]
    flat = grows["median"] <= 1 + FLAT
    return {"sizes": sizes, "time_grows": grows, "MiB_each": round(more / max(1, last - first), 4), "flat": flat}


def list_ways(options: argparse.Namespace, folder: Path) -> dict[str, dict[int, Callable[[], Point]]]:
    """What measures each number of images, and each number of models."""
    recipe = Recipe(image_size=options.image_size)
    three = build_panel(folder / "three", {name: name for name in PANEL}, recipe)
    names = {f"{REPEATED}-{number + 1}": REPEATED for number in range(max(options.models))}
    many = build_panel(folder / "many", names, recipe)
    rows = draw_images(folder / "drawn", max(options.images), options.size)

    def few(count: int) -> Task:
        return dataclasses.replace(many, models=many.models[:count])

    measure, least = partial(measure_alone, folder=folder, engine=options.engine), rows[: min(options.images)]
    return {
        "images": {count: partial(measure, three, rows[:count]) for count in options.images},
        "models": {count: partial(measure, few(count), least) for count in options.models},
    }


def print_part(part: str, found: dict[str, Any], unit: str) -> None:
    """The table of images, or that of models."""
    print(f"{part:>8}  ms for {unit}, median (low to high)")
    for size, each in found["sizes"].items():
        print(f"{size:>8} {format_spread(each['milliseconds'], 2):32} peak {each['peak MiB']['median']:.0f} MiB")
    verdict = "flat" if found["flat"] else "not flat"
    print(
        f"from the fewest to the most {part}: time for {unit} x {found['time_grows']['median']:.2f} "
        f"({verdict} within {FLAT:.0%}), {1024 * found['MiB_each']:.1f} KiB for each of the {part}\n"
    )


def run(options: argparse.Namespace) -> None:
    """Measures, prints two tables and writes `growth.json`."""
    machine = describe_machine()
    found: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as name:
        ways = list_ways(options, Path(name))
        flat = {(part, size): work for part, each in ways.items() for size, work in each.items()}
        taken = take_turns(flat, options.rounds, warm=False)
    fewest = min(options.images)
    for part, unit in (("images", "an image"), ("models", "an image and a model")):
        points = {size: taken[part, size] for size in sorted(ways[part])}
        found[part] = sum_up(points, (lambda size: size) if part == "images" else lambda size: size * fewest)
        print_part(part, found[part], unit)
    settings = {key: getattr(options, key) for key in ("images", "models", "rounds", "size", "image_size", "engine")}
    record = {**found, "panel": PANEL, "repeated": REPEATED, "settings": settings, "machine": machine}
    write_record("growth", record | {"versions": list_versions("transformers", "openvino")}, options.out)
