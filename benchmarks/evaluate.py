"""Images a second of scoring a folder: `python -m benchmarks.evaluate [--images N] [--size PIXELS] [--rounds R]`.

Six untrained networks answer for the same drawn PNG files, in turns, in one run; medians with spread:

    scoring         this project's way, as `python -m evaluation.run` does it: decoded ahead, answered in batches, kept
                    as cases, put into a table; on torch and on OpenVINO, without the cache of earlier opinions
    pipelines       what a user would pick instead: for each model a pipeline of transformers over all files, in batches
    bare forwards   the bodies of the same engines alone, on a batch that is prepared, again and again
    preparing       decoding every file and resizing it for every network, with no network behind it

An engine that answers after another one has to find its memory again: before each way on an engine of this project
that engine runs one batch uncounted.
"""

from __future__ import annotations

import sys

if __name__ == "__main__":  # answers --help before what follows is imported
    from benchmarks.commands import evaluate

    sys.exit(evaluate())

import argparse
import tempfile
from collections.abc import Callable
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from transformers import pipeline

from benchmarks.measuring import (
    clock,
    compare,
    describe_machine,
    format_bar,
    format_spread,
    list_versions,
    summarise_all,
    take_turns,
    write_record,
)
from benchmarks.subjects import MODELS, build_panel, draw_images
from evaluation.cases import BATCH, collect_cases, read_ahead
from evaluation.predictions import tabulate
from xray_models.images import Radiograph, read_image
from xray_models.memory import keep_memory, release_memory
from xray_models.panel import Batch, Panel

ENGINES = ("torch", "auto")
BARS = {"pipelines": 5.0, "bare forwards": 0.85}  # how many times as fast as these `scoring` shall be


def score_folder(panel: Panel, rows: pd.DataFrame, folder: Path) -> None:
    """Asks a panel about files and puts its answers into arrays, ready to be measured."""
    keep_memory()
    cases, faults = collect_cases(panel, rows, folder)
    if len(faults):
        raise RuntimeError(f"{len(faults)} files cannot be read; the first: {faults['reason'].iloc[0]}")
    tabulate(panel.task, cases)


def prepare_files(panel: Panel, paths: list[str]) -> None:
    """Decodes files as scoring does, and resizes each once for every distinct input."""
    images = read_ahead(paths)
    while decoded := list(islice(images, BATCH)):
        batch = Batch([image for image in decoded if isinstance(image, Radiograph)])
        for member in panel.checkpoints.values():
            batch.prepare(member.spec)


def run_pipelines(asked: list[Any], paths: list[str]) -> None:
    """Each model on its own, in batches, as a user would have it."""
    release_memory()
    for one in asked:
        list(one(paths, batch_size=BATCH))


@torch.inference_mode()
def run_bare(panel: Panel, inputs: dict[str, torch.Tensor], count: int) -> None:
    """The bodies' forwards for so many images, and nothing else: the same batch as often as need be."""
    keep_memory()
    for first in range(0, count, BATCH):
        for name, member in panel.checkpoints.items():
            member.forward.body(inputs[name][: count - first])


def list_ways(folder: Path, panels: dict[str, Panel], rows: pd.DataFrame) -> dict[str, Callable[[], float]]:
    """Every way of going through the files once, by name; each returns the seconds that it took."""
    paths = list(rows["path"])
    names = [ref.name for ref in panels["torch"].task.models]
    asked = [pipeline("image-classification", str(folder / name), device="cpu") for name in names]
    ways: dict[str, Callable[[], float]] = {}
    for engine, panel in panels.items():
        batch = Batch([read_image(path) for path in paths[:BATCH]])
        inputs = {name: batch.prepare(member.spec) for name, member in panel.checkpoints.items()}
        wake = partial(run_bare, panel, inputs, BATCH)
        ways[f"scoring, {engine}"] = _clock_awake(wake, partial(score_folder, panel, rows, folder))
        ways[f"bare forwards, {engine}"] = _clock_awake(wake, partial(run_bare, panel, inputs, len(paths)))
    ways["pipelines"] = clock(partial(run_pipelines, asked, paths))
    ways["preparing"] = clock(partial(prepare_files, panels["torch"], paths))
    return ways


def _clock_awake(wake: Callable[[], None], work: Callable[[], None]) -> Callable[[], float]:
    def run() -> float:
        wake()
        return clock(work)()

    return run


def run(options: argparse.Namespace) -> None:
    """Measures, prints a table and writes `evaluate.json`."""
    machine = describe_machine()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        task = build_panel(folder, {name: name for name in options.models or MODELS})
        rows = draw_images(folder / "images", options.images, options.size)
        panels = {engine: Panel.load(task, device="cpu", engine=engine) for engine in ENGINES}
        ways = list_ways(folder, panels, rows)
        taken = take_turns(ways, options.rounds)
        engines = dict(panels["auto"].engines)
    rates = {way: [options.images / seconds for seconds in each] for way, each in taken.items()}
    found = summarise_all(rates)
    print(f"{len(engines)} models, {options.images} images of {options.size} x {options.size} pixels")
    for way, spread in found.items():
        print(f"{way:24} {format_spread(spread)} images/s")
    ratios = {}
    for engine in ENGINES:
        others = {"pipelines": "pipelines", "bare forwards": f"bare forwards, {engine}"}
        ratios[engine] = {kind: compare(rates[f"scoring, {engine}"], rates[way]) for kind, way in others.items()}
        for kind, least in BARS.items():
            print(format_bar(f"scoring, {engine}, against {kind}", ratios[engine][kind], least))
    settings = {"images": options.images, "size": options.size, "rounds": options.rounds}
    record = {"images_per_second": found, "ratios": ratios, "bars": BARS, "engines": engines, "settings": settings}
    versions = list_versions("transformers", "timm", "openvino")
    write_record("evaluate", record | {"machine": machine, "versions": versions}, options.out)
