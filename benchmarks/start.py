"""How long it takes to start: `python -m benchmarks.start [--rounds N]`.

From the start of the process, each way as often, in turns, in one run; medians with spread:

    import torch, gradio     what any program with a model and a page has to wait for
    first line               until `python dashboard.py` says that it is starting
    page                     until it answers the first request for its page
    reading                  until the phantom panel's reading of an image is there, asked for over the API at once
    --help                   of the commands
"""

from __future__ import annotations

import sys

if __name__ == "__main__":  # answers --help before what follows is imported
    from benchmarks.commands import start

    sys.exit(start())

import argparse
import contextlib
import os
import platform
import socket
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from statistics import median

from benchmarks.measuring import write_record
from xray_models.tasks import TaskError

ROOT = Path(__file__).resolve().parents[1]
BASE = "import torch, gradio"
HELP = (
    ("dashboard.py",),
    ("-m", "xray_models.read"),
    ("-m", "xray_models.train"),
    ("-m", "xray_models.datasets"),
    ("-m", "xray_models.hub"),
    ("-m", "evaluation.run"),
    ("-m", "evaluation.audit"),
)
_PATIENCE = 120.0  # seconds


def time_process(*words: str) -> float:
    """Seconds that a Python process with these arguments takes."""
    started = time.perf_counter()
    subprocess.run([sys.executable, *words], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


@contextlib.contextmanager
def open_dashboard() -> Iterator[tuple[subprocess.Popen, str]]:
    """A dashboard that has just been started, with a ledger of its own, and its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        words = ["dashboard.py", "--task", "phantom", "--port", str(port), "--flags", folder]
        process = subprocess.Popen([sys.executable, *words], cwd=ROOT, stdout=subprocess.PIPE)
        try:
            yield process, f"http://127.0.0.1:{port}/"
        finally:
            process.terminate()
            process.wait()


def time_dashboard() -> dict[str, float]:
    """Seconds from a dashboard's start to its first line, its page, and its first reading."""
    from gradio_client import Client, handle_file

    found, started = {}, time.perf_counter()
    with open_dashboard() as (process, address):
        assert process.stdout is not None
        process.stdout.readline()
        found["first line"] = time.perf_counter() - started
        _await_page(process, address, started + _PATIENCE)
        found["page"] = time.perf_counter() - started
        client = Client(address, verbose=False)
        reading = client.predict(handle_file(ROOT / "docs" / "phantom.png"), "phantom", api_name="/read")
        found["reading"] = time.perf_counter() - started
        if reading["consensus"] is None:
            raise TaskError("No model of the phantom task answered; its starter models are missing.")
    return found


def _await_page(process: subprocess.Popen, address: str, deadline: float) -> None:
    while process.poll() is None and time.perf_counter() < deadline:
        try:
            with urllib.request.urlopen(address, timeout=_PATIENCE) as answer:
                answer.read()
        except OSError:
            time.sleep(0.02)
        else:
            return
    raise TaskError(f"The dashboard did not answer within {_PATIENCE:.0f} seconds; try `python dashboard.py`.")


def measure(rounds: int) -> dict[str, list[float]]:
    """Seconds of everything, in turns; before the first round each runs once, for the disk's cache."""
    ways: list[Callable[[], dict[str, float]]] = [
        lambda: {BASE: time_process("-c", BASE)},
        time_dashboard,
        *(lambda words=words: {f"{' '.join(words)} --help": time_process(*words, "--help")} for words in HELP),
    ]
    taken: dict[str, list[float]] = {}
    for number in range(rounds + 1):
        for way in ways:
            for name, seconds in way().items():
                taken.setdefault(name, []).extend([seconds] if number else [])
    return taken


def run(options: argparse.Namespace) -> None:
    """Measures, prints a table and writes `start.json`."""
    load = os.getloadavg()[0]
    taken = measure(options.rounds)
    found = {
        name: {"median": round(median(each), 3), "low": round(min(each), 3), "high": round(max(each), 3)}
        for name, each in taken.items()
    }
    for name, seconds in found.items():
        ratio = f"{seconds['median'] / found[BASE]['median']:6.2f} x" if name in ("page", "reading") else ""
        print(f"{name:36} {seconds['median']:7.2f} s  ({seconds['low']:.2f} to {seconds['high']:.2f})  {ratio}")
    machine = {"processor": platform.processor() or platform.machine(), "cores": os.cpu_count(), "load_before": load}
    versions = {"python": platform.python_version()}
    versions |= {name: version(name) for name in ("torch", "gradio", "transformers")}
    record = {"seconds": found, "rounds": options.rounds, "machine": machine, "versions": versions}
    write_record("start", record, options.out)
