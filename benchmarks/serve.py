"""Many readers at once: `python -m benchmarks.serve [--task T] [--clients N] [--readings M] [--rounds R]`.

Clients of gradio, in a process of their own, send drawn images to `/read` of the running app, each its next one as soon
as it has its answer, after one call each that does not count; and the panel of that app reads the same files alone, in
batches and one by one. In turns, in one run. Told are readings a second; how long a client waits, against its fair
share (clients / readings a second: what each would wait if the app took them in turn); the memory of the app's process;
and how many readings were lost, or are not what the panel says of that very image.
"""

from __future__ import annotations

import sys

if __name__ == "__main__":  # answers --help before what follows is imported
    from benchmarks.commands import serve

    sys.exit(serve())

import argparse
import itertools
import multiprocessing
import queue
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from xray_models.tasks import TaskError

TOLERANCE = 5e-3  # of a probability: `engine.TOLERANCE`; the images of two cases differ by more, or in their sha256
_PATIENCE = 300.0  # seconds without an answer after which the clients are given up


class Answer(NamedTuple):
    """What came back for one file: its place, when it was asked for and answered, in seconds, and the reading."""

    place: int
    asked: float
    answered: float
    reading: dict[str, Any]


class Round(NamedTuple):
    """One round: what came back, and the memory of the app, in MiB, after a tenth of it and at its end."""

    answers: list[Answer]
    tenth: float
    end: float

    @property
    def rate(self) -> float:
        """Readings a second."""
        started, ended = min(one.asked for one in self.answers), max(one.answered for one in self.answers)
        return len(self.answers) / (ended - started)

    @property
    def waits(self) -> np.ndarray:
        """(M,) seconds from asking to the answer."""
        return np.array([one.answered - one.asked for one in self.answers])


def ask_all(url: str, task: str, paths: list[str], clients: int, answers: Any) -> None:
    """The clients' process: every client takes the next file as soon as it is free, until there are none."""
    from gradio_client import Client, handle_file

    places = itertools.count()
    together = threading.Barrier(clients)

    def ask(_: int) -> None:
        client = Client(url, verbose=False, ssl_verify=False)  # over HTTP; it would build a TLS context for each call
        client.predict(handle_file(paths[0]), task, api_name="/read")  # a client's first call prepares the client
        together.wait()
        while (place := next(places)) < len(paths):
            asked = time.perf_counter()
            reading = client.predict(handle_file(paths[place]), task, api_name="/read")
            answers.put(Answer(place, asked, time.perf_counter(), reading))

    with ThreadPoolExecutor(clients) as pool:
        list(pool.map(ask, range(clients)))


def serve_once(url: str, task: str, paths: list[str], clients: int) -> Round:
    """Sends every file once and gathers what comes back; the clock of both processes is the machine's."""
    spawn = multiprocessing.get_context("spawn")
    answers = spawn.Queue()
    process = spawn.Process(target=ask_all, args=(url, task, paths, clients, answers))
    found: list[Answer] = []
    tenth = 0.0
    process.start()
    heard = time.monotonic()
    while len(found) < len(paths) and time.monotonic() - heard < _PATIENCE:
        over = not process.is_alive()
        try:
            found.append(answers.get(timeout=1))
            heard = time.monotonic()
        except queue.Empty:
            if over:
                break
        if not tenth and 10 * len(found) >= len(paths):
            tenth = measure_memory()
    if len(found) < len(paths):
        process.terminate()
    process.join()
    if not found:
        raise TaskError("No reading came back; what went wrong is said above.")
    return Round(found, tenth, measure_memory())


def measure_memory() -> float:
    """MiB that this process holds now."""
    import psutil  # comes with accelerate

    return psutil.Process().memory_info().rss / 2**20


def count_wrong(panel: Any, paths: list[str], answers: list[Answer]) -> int:
    """Readings that are of another image, or are not what the panel says of theirs."""
    from xray_models.images import read_image

    wrong = 0
    for one in answers:
        own = panel.read(read_image(paths[one.place])).to_json()
        same = own["image"] == one.reading["image"]
        for ours, theirs in zip(own["opinions"], one.reading["opinions"], strict=True):
            said, heard = ([*opinion.get("probs", {}).values()] for opinion in (ours, theirs))
            same &= ours["model"] == theirs["model"] and len(said) == len(heard)
            same = same and bool(np.allclose(said, heard, rtol=0, atol=TOLERANCE))
        wrong += not same
    return wrong


def time_alone(panel: Any, paths: list[str], batched: bool = True) -> float:
    """Images a second of the panel alone, in batches or one by one."""
    from xray_models.images import read_image

    started = time.perf_counter()
    images = map(read_image, paths)
    for _ in panel.read_many(images) if batched else map(panel.read, images):
        pass
    return len(paths) / (time.perf_counter() - started)


def measure(options: argparse.Namespace, folder: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """Starts the app and measures it; returns the figures and the models' engines."""
    from benchmarks.measuring import take_turns
    from benchmarks.subjects import draw_images
    from reading_room.app import build_app, launch_options
    from xray_models.tasks import load_task

    load_task(options.task)  # says at once when there is none
    app = build_app(folder / "flags", options.task)
    _, url, _ = app.launch(prevent_thread_lock=True, quiet=True, server_name="127.0.0.1", **launch_options())
    try:
        panel = app.room.panels.get(options.task)
        if not panel.checkpoints:
            raise TaskError(f"No model of task {options.task!r} is here to be asked. Name a task that has one.")
        paths = list(draw_images(folder / "images", options.readings, options.size)["path"])
        panel.choose_engines(options.engine)
        time_alone(panel, paths[:16])
        serve_once(url, options.task, paths[: options.clients], options.clients)
        ways: dict[str, Callable[[], Any]] = {
            "batched": lambda: time_alone(panel, paths),
            "single": lambda: time_alone(panel, paths, batched=False),
            "served": lambda: serve_once(url, options.task, paths, options.clients),
        }
        taken = take_turns(ways, options.rounds, warm=False)
        rounds = taken["served"]
        found = sum_up(taken["batched"], taken["single"], rounds, options.clients)
        found["lost"] = sum(options.readings - len(one.answers) for one in rounds)
        found["wrong"] = count_wrong(panel, paths, rounds[-1].answers)
    finally:
        app.close(verbose=False)
    return found, dict(panel.engines)


def sum_up(batched: list[float], single: list[float], rounds: list[Round], clients: int) -> dict[str, Any]:
    """The figures of all rounds."""
    from benchmarks.measuring import compare, summarise

    def wait(share: float) -> dict[str, float]:
        return summarise((1000 * np.quantile(one.waits, share) for one in rounds), 0)

    served = [one.rate for one in rounds]
    return {
        "app, readings/s": summarise(served),
        "panel in batches, images/s": summarise(batched),
        "panel one by one, images/s": summarise(single),
        "app / panel in batches": compare(served, batched),
        "app / panel one by one": compare(served, single),
        "wait, ms, median": wait(0.5),
        "wait, ms, 95th": wait(0.95),
        "wait, ms, slowest": wait(1.0),
        "fair share, ms": summarise((1000 * clients / rate for rate in served), 0),
        "slowest wait / fair share": summarise(one.waits.max() * one.rate / clients for one in rounds),
        "memory, MiB, at a tenth": round(rounds[0].tenth),
        "memory, MiB, at the end": round(rounds[-1].end),
    }


def run(options: argparse.Namespace) -> None:
    """Measures, prints a table and writes `serve.json`."""
    from benchmarks.measuring import describe_machine, format_spread, list_versions, write_record

    machine = describe_machine()
    with tempfile.TemporaryDirectory() as folder:
        found, engines = measure(options, Path(folder))
    size = f"{options.size} x {options.size} pixels"
    print(f"task {options.task}, {options.clients} clients, {options.readings} readings a round, {size}")
    for name, value in found.items():
        digits = 0 if "ms" in name else 2
        print(f"{name:28} {format_spread(value, digits) if isinstance(value, dict) else f'{value:>9}'}")
    settings = {key: getattr(options, key) for key in ("task", "clients", "readings", "size", "rounds", "engine")}
    record = {"found": found, "engines": engines, "settings": settings, "machine": machine}
    write_record("serve", record | {"versions": list_versions("gradio", "transformers")}, options.out)
