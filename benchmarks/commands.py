"""The command lines of the benchmarks; what a benchmark needs is imported once its command makes sense."""

from __future__ import annotations

import argparse
from pathlib import Path


def bootstrap() -> None:
    """`python -m benchmarks.bootstrap`."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.bootstrap", description="How long the intervals of an evaluation take."
    )
    parser.add_argument("--images", type=int, nargs="+", default=[500, 5000], help="default: 500 5000")
    parser.add_argument("--resamples", type=int, default=2000, help="default: 2000")
    options = parser.parse_args()
    from benchmarks.bootstrap import run

    run(options)


def flags() -> None:
    """`python -m benchmarks.flags`."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.flags", description="Durable flags a second, against gr.CSVLogger."
    )
    parser.add_argument("--rounds", type=int, default=3, help="times that each is measured (default: 3)")
    parser.add_argument("--seconds", type=float, default=1.0, help="for which each is measured (default: 1)")
    parser.add_argument("--folder", type=Path, default=Path(), help="on the disk to be measured (default: here)")
    options = parser.parse_args()
    from benchmarks.flags import run

    run(options)


def near_copies() -> None:
    """`python -m benchmarks.near_copies`."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.near_copies", description="How fast near-copies are found, and how many."
    )
    parser.add_argument("--count", type=int, nargs="+", default=[2000, 20000], help="images (default: 2000 20000)")
    parser.add_argument("--answers", action="store_true", help="compare with what is known below $XRAY_DATA")
    options = parser.parse_args()
    from benchmarks.near_copies import run

    run(options)


def out_of_distribution() -> None:
    """`python -m benchmarks.out_of_distribution`."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.out_of_distribution",
        description="How well a panel tells foreign images from its own.",
    )
    parser.add_argument("--task", default="covid", help="default: covid")
    parser.add_argument("--data", type=Path, default=Path("data"), help="folder of all tasks' data (default: data)")
    parser.add_argument("--out", type=Path, help="JSON file for the same figures")
    options = parser.parse_args()
    from benchmarks.out_of_distribution import run

    run(options)


def panel() -> None:
    """`python -m benchmarks.panel`."""
    argparse.ArgumentParser(
        prog="python -m benchmarks.panel",
        description="A reading with a heatmap of every model, against the models one by one.",
    ).parse_args()
    from benchmarks.panel import run

    run()
