"""Durable flags a second: `python -m benchmarks.flags [--rounds N] [--seconds S] [--folder DIR]`.

1, 4 and 16 processes append the same flags to an empty ledger and to one of 100,000 rows: this project's ledger, in
which a flag is on the disk before it is acknowledged, and `gr.CSVLogger`, as it is and with its file flushed to the
disk after each flag. In turns, in one run; medians with spread. Afterwards the rows are counted: none that was
acknowledged may be missing.
"""

from __future__ import annotations

import sys

if __name__ == "__main__":  # answers --help before what follows is imported
    from benchmarks.commands import flags

    sys.exit(flags())

import argparse
import csv
import json
import multiprocessing
import os
import platform
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import gradio as gr

from xray_models import phantom
from xray_models.flags import Flag, Ledger
from xray_models.images import from_pixels
from xray_models.tasks import load_task

PROCESSES = (1, 4, 16)
ROWS = (0, 100_000)
_COMMENT = "left upper zone, smooth border"
_OPINIONS = {"resnet18": {"label": "Normal", "probs": {"Normal": 0.7, "Nodule": 0.3}, "revision": "0123456789ab"}}
_fork = multiprocessing.get_context("fork")  # what was imported here need not be imported sixteen times


class Run(NamedTuple):
    """One measurement: flags acknowledged a second by all processes together, and how many of them are gone."""

    rate: float
    lost: int


def open_ledger(folder: Path, rows: int) -> Callable[[], Any]:
    """A process's own file with some rows; returns what appends one more."""
    task, image = load_task("phantom"), from_pixels(phantom.draw_phantom("Nodule", 1, size=256).pixels)
    ledger = Ledger(folder)
    fields: dict[str, Any] = {"reader": "AB", "task": "phantom", "corrected_label": "Nodule", "comment": _COMMENT}
    flag = Flag(**fields, image_sha256=image.sha256, opinions=_OPINIONS, consensus_label="Normal", disagreement=0.2)
    if rows:
        ledger.append(flag, image, task)
        table = ledger.folder / "metadata.csv"
        with table.open("rb+") as file:
            _, row = file.readlines()
            file.write(row * (rows - 1))
    return lambda: ledger.append(flag, image, task)


def open_logger(folder: Path, rows: int, durable: bool) -> Callable[[], Any]:
    """The same of `gr.CSVLogger`, which has one file for all processes; the first fills it."""
    names = ("image", "reader", "task", "label", "consensus", "comment", "opinions")
    values = ["0" * 64, "AB", "phantom", "Nodule", "Normal", _COMMENT, json.dumps(_OPINIONS)]
    logger = gr.CSVLogger(verbose=False, dataset_file_name="dataset.csv")
    logger.setup([gr.Textbox(label=name, render=False) for name in names], folder)
    table = folder / "dataset.csv"
    if not table.exists():
        folder.mkdir(exist_ok=True)
        with table.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerow([*names, "timestamp"])
            csv.writer(file).writerows([[*values, "2026-01-01 00:00:00.000000"]] * rows)

    def flag() -> None:
        logger.flag(values)
        if durable:
            descriptor = os.open(table, os.O_RDWR)
            os.fsync(descriptor)
            os.close(descriptor)

    return flag


WAYS: dict[str, Callable[[Path, int, int], Callable[[], Any]]] = {
    "ledger": lambda folder, rows, processes: open_ledger(folder, rows // processes),
    "gr.CSVLogger": lambda folder, rows, _: open_logger(folder, rows, durable=False),
    "gr.CSVLogger, flushed": lambda folder, rows, _: open_logger(folder, rows, durable=True),
}


def append_for(seconds: float, append: Callable[[], Any], start: Any, answers: Any) -> None:
    """A process's part: appends from the common start on until the time is over, and at least once."""
    append()  # what a first flag makes (files, the image) is not measured
    start.wait()
    count, started = 0, time.perf_counter()
    while not count or time.perf_counter() - started < seconds:
        append()
        count += 1
    answers.put((count, started, time.perf_counter()))


def run_once(way: str, processes: int, rows: int, seconds: float, parent: Path) -> Run:
    """Measures one way with so many processes."""
    with tempfile.TemporaryDirectory(dir=parent) as name:
        folder = Path(name) / "flags"
        start, answers = _fork.Barrier(processes), _fork.Queue()
        appends = [WAYS[way](folder, rows, processes) for _ in range(processes)]
        before = _count_rows(folder)
        workers = [_fork.Process(target=append_for, args=(seconds, append, start, answers)) for append in appends]
        for worker in workers:
            worker.start()
        counts, starts, ends = zip(*(answers.get() for _ in workers), strict=True)
        for worker in workers:
            worker.join()
        lost = before + sum(counts) + processes - _count_rows(folder)
    return Run(sum(counts) / (max(ends) - min(starts)), lost)


def _count_rows(folder: Path) -> int:
    """Rows of all the files below a folder, without their heads."""
    total = 0
    for path in folder.rglob("*.csv"):
        with path.open(newline="", encoding="utf-8") as file:
            total += sum(1 for _ in csv.reader(file)) - 1
    return total


def measure(options: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Flags a second of every way, number of processes and number of rows, in turns."""
    runs: dict[str, list[Run]] = {}
    for number in range(options.rounds):
        for rows in ROWS:
            for processes in PROCESSES:
                for way in WAYS:
                    run = run_once(way, processes, rows, options.seconds, options.folder)
                    runs.setdefault(f"{way}; {processes} processes; {rows} rows", []).append(run)
                    print(
                        f"round {number + 1}: {way}, {processes} processes, {rows} rows: {run.rate:.0f}/s", flush=True
                    )
    found = {}
    for name, each in runs.items():
        rates = [run.rate for run in each]
        found[name] = {"median": round(median(rates), 1), "low": round(min(rates), 1), "high": round(max(rates), 1)}
        found[name]["lost"] = sum(run.lost for run in each)
    return found


def run(options: argparse.Namespace) -> None:
    """Measures, prints a table and writes `flags.json`."""
    load = os.getloadavg()[0]
    found = measure(options)
    print(f"\n{'flags a second':52} median  (low to high)  lost")
    for name, rates in found.items():
        spread = f"({rates['low']:.1f} to {rates['high']:.1f})"
        print(f"{name:52} {rates['median']:7.1f}  {spread:20} {rates['lost']}")
    machine = {"processor": platform.processor() or platform.machine(), "cores": os.cpu_count(), "load_before": load}
    versions = {"python": platform.python_version(), "gradio": version("gradio")}
    settings = {"rounds": options.rounds, "seconds": options.seconds}
    record = {"flags_per_second": found, **settings, "machine": machine, "versions": versions}
    from benchmarks.measuring import write_record  # torch with it, which the processes measured do without

    write_record("flags", record, options.out)
