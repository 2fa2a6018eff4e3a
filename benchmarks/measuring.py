"""What the benchmarks share: ways measured in turns, their spread, and a record that names machine and versions."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any, TypeVar

import torch

RESULTS = Path(__file__).parent / "results"
_PROCESSOR = Path("/proc/cpuinfo")  # Linux alone has it
_K = TypeVar("_K")
_T = TypeVar("_T")


def clock(work: Callable[[], object]) -> Callable[[], float]:
    """Makes of some work what does it and returns the seconds that it took."""

    def run() -> float:
        started = time.perf_counter()
        work()
        return time.perf_counter() - started

    return run


def take_turns(ways: Mapping[_K, Callable[[], _T]], rounds: int, warm: bool = True) -> dict[_K, list[_T]]:
    """Asks every way once a round, so that what else the machine does falls on all of them alike.

    Args:
        ways: what to call, by name.
        rounds: how often.
        warm: whether each is called once before the first round, uncounted.

    Returns:
        What each way returned in each round.
    """
    found: dict[_K, list[_T]] = {name: [] for name in ways}
    if warm:
        for work in ways.values():
            work()
    for _ in range(rounds):
        for name, work in ways.items():
            found[name].append(work())
    return found


def summarise(values: Iterable[float], digits: int = 1) -> dict[str, float]:
    """Median, lowest and highest."""
    each = list(values)
    return {
        "median": round(median(each), digits),
        "low": round(min(each), digits),
        "high": round(max(each), digits),
    }


def summarise_all(found: Mapping[str, Iterable[float]], digits: int = 1) -> dict[str, dict[str, float]]:
    """Median, lowest and highest of each way."""
    return {name: summarise(values, digits) for name, values in found.items()}


def compare(ours: Sequence[float], others: Sequence[float]) -> dict[str, float]:
    """Ours divided by the other's, round by round: median, lowest and highest."""
    return summarise((own / other for own, other in zip(ours, others, strict=True)), digits=3)


def describe_machine() -> dict[str, Any]:
    """Processor, threads of torch, and how busy the machine is; call it before anything is measured."""
    lines = _PROCESSOR.read_text(encoding="utf-8").splitlines() if _PROCESSOR.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "processor": names[0] if names else platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load_before": round(os.getloadavg()[0], 2),
    }


def list_versions(*packages: str) -> dict[str, str]:
    """Versions of Python, torch and these packages."""
    return {"python": platform.python_version()} | {name: version(name) for name in ("torch", *packages)}


def write_record(name: str, record: Mapping[str, Any], out: Path = RESULTS) -> None:
    """Writes `<out>/<name>.json`."""
    out.mkdir(parents=True, exist_ok=True)
    text = json.dumps(record, indent=1, allow_nan=False)
    (out / f"{name}.json").write_text(text + "\n", encoding="utf-8")


def format_spread(found: Mapping[str, float], digits: int = 1) -> str:
    """A median with its spread, as a cell of a table."""
    middle, low, high = (f"{found[key]:.{digits}f}" for key in ("median", "low", "high"))
    return f"{middle:>9}  ({low} to {high})"


def format_bar(what: str, ratio: Mapping[str, float], least: float | None) -> str:
    """A line that says whether a ratio reaches the least that was set for it, if anything was."""
    said = f"{what}: {format_spread(ratio, 2).strip()}"
    if least is None:
        return said
    return f"{said}, at least {least:g} wanted: {'reached' if ratio['median'] >= least else 'missed'}"
