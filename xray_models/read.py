"""A panel's reading in the terminal: `python -m xray_models.read IMAGE ... --task covid [--json] [--report FILE]`."""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from xray_models.commands import leave, leave_in_order, refuse
from xray_models.imports import HEAVY_IMPORTS
from xray_models.tasks import TaskError, load_task

if TYPE_CHECKING:
    from xray_models.panel import Panel
    from xray_models.reading_report import ReadingReport
    from xray_models.readings import Reading


def render_text(reading: Reading) -> str:
    """A reading as lines for a terminal."""
    lines = [f"  ! {warning}" for warning in reading.image["warnings"]]
    said = reading.consensus
    if said is not None and said.in_distribution is False:
        lines.append("  ! unlike the images that these models were trained on: do not rely on any label")
    for opinion in reading.opinions:
        if opinion.probs is None:
            lines.append(f"  {opinion.model:<16} unavailable: {opinion.reason}")
            continue
        probs = "  ".join(f"{label} {p:.3f}" for label, p in opinion.probs.items())
        lines.append(f"  {opinion.model:<16} {opinion.label:<18} {probs}")
    if said is None:
        lines.append("  no model answered")
    else:
        probs = "  ".join(f"{label} {p:.3f}" for label, p in said.probs.items())
        lines.append(f"  {'consensus':<16} {said.label:<18} {probs}  disagreement {said.disagreement:.2f}")
        lines.append(f"  {said.answered} of {said.asked} models answered")
    return "\n".join(lines)


def print_readings(panel: Panel, paths: Sequence[Path], as_json: bool, report: ReadingReport | None = None) -> bool:
    """Prints the reading of every file, or why there is none; returns whether each was read and answered.

    As JSON a line is `Reading.to_json` with the path as `file` before it; what could not be read has no line.
    """
    from xray_models.images import ImageError, read_image

    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a file's name may be no text
    complete = True
    for path in paths:
        try:
            reading = (report or panel).read(read_image(path))
        except ImageError as error:
            sys.stderr.write(f"{path}: not read: {error}\n")
            if report:
                report.note_unread(str(error))
            complete = False
            continue
        line = {"file": str(path), **reading.to_json()}
        text = json.dumps(line, ensure_ascii=False) if as_json else f"{path}\n{render_text(reading)}"
        try:
            sys.stdout.write(text + "\n")
            sys.stdout.flush()  # so that what reads a long list need not wait for its end
        except BrokenPipeError:  # what reads them, `head` for instance, has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            if report is None:
                return False
        complete = complete and reading.consensus is not None
    return complete


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m xray_models.read",
        description="Every model's opinion on images. For research; not a medical device.",
    )
    parser.add_argument("images", nargs="+", type=Path, metavar="IMAGE", help="PNG, JPEG, TIFF, BMP, WebP or DICOM")
    parser.add_argument("--task", required=True)
    parser.add_argument("--models", nargs="+", help="only these models (default: the whole panel)")
    parser.add_argument(
        "--engine",
        choices=("auto", "torch", "openvino"),
        default="torch",
        help="what runs the models (default: torch, which is exact)",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object a line, for each image that could be read")
    parser.add_argument(
        "--report", type=Path, metavar="FILE.html", help="write the images, opinions and heatmaps to an HTML file, too"
    )
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """The command line: 0 when every image was read, 1 when one was not, 2 for a wrong command."""
    options = _parse(argv)
    logging.basicConfig(level=logging.ERROR)
    try:
        task = load_task(options.task)
        task.pick(options.models or ())
        with HEAVY_IMPORTS:
            from xray_models.panel import Panel  # torch takes seconds to import
            from xray_models.reading_report import check_path, writing_report

        if options.report:
            check_path(options.report)
        panel = Panel.load(options.task, options.models, engine=options.engine)
    except TaskError as error:
        return refuse(error)
    if options.engine != "torch":
        sys.stderr.write("".join(f"{name} runs on {engine}\n" for name, engine in panel.engines.items()))
    try:
        with writing_report(options.report, panel) if options.report else contextlib.nullcontext() as report:
            return 0 if print_readings(panel, options.images, options.json, report) else 1
    except OSError as error:
        return refuse(error)


if __name__ == "__main__":
    leave_in_order("SIGTERM", "SIGHUP")  # a report that is not whole holds pictures, and goes
    leave(main)
