"""Judges a task's panel: `python -m evaluation.run --task covid --data DIR`.

images -> the panel's opinions (kept in a cache), or predictions made elsewhere -> numbers with intervals -> checks that
look at the images -> `metrics.json`, `predictions.csv`, `worklist.csv`, `faults.csv`, PNG plots and `report.html`.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
from PIL import Image

from evaluation.audit import write_audit
from evaluation.cache import OpinionCache
from evaluation.cases import FAULT, choose_models, collect_cases, find_unavailable, load_panel, relative, try_to_read
from evaluation.checks import Checked, Sizes, run_checks
from evaluation.distributed import Cluster, collect_cases_ray
from evaluation.document import Report
from evaluation.markdown import render_markdown
from evaluation.page import render_page
from evaluation.plots import save_png
from evaluation.predictions import PredictionError, Table, read_predictions, tabulate, write_predictions
from evaluation.report import build_report
from evaluation.scoring import score
from evaluation.subgroups import judge_subgroups, read_metadata
from evaluation.worklist import judge_worklist, list_worklist
from xray_models import datasets
from xray_models.arrays import cache_folder
from xray_models.commands import show_command
from xray_models.hub_client import HubError
from xray_models.images import Radiograph, to_display
from xray_models.panel import Panel
from xray_models.tasks import Task, TaskError, load_task

_THUMBNAIL = 160  # pixels of the longer side
FORMATS = ("html", "md", "json")
IMAGES = 24  # that a check looks at which needs many readings of each


class Material(NamedTuple):
    """What was judged: answers and files left out; and for the checks the panel and the data, None for predictions."""

    table: Table
    faults: pd.DataFrame
    unavailable: dict[str, str]
    panel: Panel | None = None
    manifest: datasets.Manifest | None = None


def evaluate(task: Task, options: argparse.Namespace) -> dict[str, Any]:
    """Judges predictions or a panel, writes everything to `options.out`, returns what metrics.json holds."""
    material = _score_files(task, options) if options.predictions else ask_panel(task, options)
    table = material.table
    scores = score(table, options.resamples, options.seed) | {
        "task": task.name,
        "split": "given" if options.predictions else options.split,
        "command": options.command,
        "seed": options.seed,
        "resamples": options.resamples,
        "unavailable": material.unavailable,
        "faults": len(material.faults),
        "worklist": judge_worklist(table, options.resamples, options.seed, options.inject_noise),
    }
    if options.metadata:
        metadata = read_metadata(options.metadata, table)
        scores["subgroups"] = judge_subgroups(table, metadata, options.resamples, options.seed)
    checked = Checked()
    if material.panel is not None and material.manifest is not None:
        sizes = Sizes(options.robustness, options.heatmaps, options.margins)
        checked = run_checks(material.panel, material.manifest, options.split, sizes, options.seed)
    scores |= checked.found
    report = build_report(task, table, scores, material.faults, checked)
    write_results(report, material, scores, options)
    if checked.audit:
        write_audit(checked.audit, options.out)
    return scores


def ask_panel(task: Task, options: argparse.Namespace) -> Material:
    """Asks a task's panel about a split of its data.

    Raises:
        TaskError: when no model is available.
        DataError: when there are no data, or the split is empty.
    """
    task = choose_models(task, options.models)
    panel = load_panel(task)
    manifest = datasets.open_dataset(task, options.data)
    rows = manifest.part(options.split)
    if rows.empty:
        raise datasets.DataError(
            f"The {options.split} split has no image; the data set has {len(manifest.rows)}. Try --split all."
        )
    early = manifest.faults.rename(columns={"path": "image"})
    early["image"] = [relative(path, manifest.folder) for path in early["image"]]
    if options.engine == "ray":
        folder = None if options.no_cache else cache_folder()
        cluster = Cluster(options.ray_address, options.workers, cache=folder)
        table, late, unavailable = collect_cases_ray(task, None, rows, manifest.folder, options.out, cluster)
    else:
        with nullcontext() if options.no_cache else OpinionCache() as cache:
            cases, late = collect_cases(panel, rows, manifest.folder, cache)
        table, unavailable = tabulate(task, cases), find_unavailable(cases)
    return Material(table, pd.concat([early, late], ignore_index=True), unavailable, panel, manifest)


def _score_files(task: Task, options: argparse.Namespace) -> Material:
    cases = read_predictions(options.predictions, task)
    return Material(tabulate(task, cases), pd.DataFrame(columns=list(FAULT)), find_unavailable(cases))


def write_results(report: Report, material: Material, scores: dict[str, Any], options: argparse.Namespace) -> None:
    """Writes the numbers, the tables, the plots and the report."""
    options.out.mkdir(parents=True, exist_ok=True)
    text = json.dumps(scores, indent=1, sort_keys=True, allow_nan=False, ensure_ascii=False)
    (options.out / "metrics.json").write_text(text + "\n", encoding="utf-8")
    write_predictions(material.table, options.out / "predictions.csv")
    material.faults.to_csv(options.out / "faults.csv", index=False, lineterminator="\n")
    list_worklist(material.table).to_csv(options.out / "worklist.csv", index=False, lineterminator="\n")
    for figures in report.figures:
        save_png(figures.plots, options.out / f"{figures.name}.png")
    if "html" in options.format:
        thumbnails = draw_thumbnails(report.images, material.manifest.folder) if material.manifest else {}
        (options.out / "report.html").write_text(render_page(report, thumbnails), encoding="utf-8")
    if "md" in options.format:
        (options.out / "report.md").write_text(render_markdown(report), encoding="utf-8")


def draw_thumbnails(images: Iterable[str], folder: Path) -> dict[str, bytes]:
    """Makes small grey JPEG pictures of the images that the report shows."""
    thumbnails = {}
    for image in images:
        found = try_to_read(str(folder / image))
        if isinstance(found, Radiograph):
            file = BytesIO()
            Image.fromarray(to_display(found, _THUMBNAIL)).save(file, "JPEG", quality=85)
            thumbnails[image] = file.getvalue()
    return thumbnails


def format_table(scores: dict[str, Any]) -> str:
    """The most important numbers as plain text, one line a model."""
    width = max(len(name) for name in scores["models"])
    lines = [f"{'':{width}}  accuracy               AUROC                  ECE"]
    for name, found in scores["models"].items():
        cells = [_format_interval(found[metric]) for metric in ("accuracy", "auroc")]
        lines.append(f"{name:{width}}  {cells[0]:21}  {cells[1]:21}  {found['ece']['value']:.3f}")
    return "\n".join(lines)


def _format_interval(found: dict[str, float | None]) -> str:
    value, low, high = ("–" if number is None else f"{number:.3f}" for number in found.values())
    return f"{value} [{low}, {high}]"


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m evaluation.run", description="Judges a task's panel.")
    parser.add_argument("--task", required=True, help="a YAML file of hub_configs/, without its ending")
    parser.add_argument("--data", type=Path, help="data folder (default: $XRAY_DATA/<task>, or data/<task>)")
    parser.add_argument("--split", choices=("train", "validation", "test", "all"), default="test")
    parser.add_argument(
        "--models", nargs="+", help="models of the task, or of the Hub as owner/repo@commit (default: the task's)"
    )
    parser.add_argument("--predictions", nargs="+", type=Path, help="judge these CSV files instead of running models")
    parser.add_argument("--metadata", type=Path, help="CSV with image and, say, sex, age, view: results by subgroup")
    parser.add_argument(
        "--inject-noise", type=_parse_share, default=0.0, help="share of labels to make wrong, as a trial"
    )
    parser.add_argument(
        "--robustness", type=_parse_images, default=IMAGES, help=f"images to disturb (default: {IMAGES}; 0: none)"
    )
    parser.add_argument(
        "--heatmaps", type=_parse_images, default=IMAGES, help=f"images whose heatmaps to judge (default: {IMAGES})"
    )
    parser.add_argument(
        "--margins",
        type=_parse_images,
        default=IMAGES,
        help=f"images to hide the margins of (default: {IMAGES}; 0: no audit)",
    )
    parser.add_argument("--engine", choices=("local", "ray"), default="local", help="one process, or a Ray cluster")
    parser.add_argument("--ray-address", help="a running cluster's address (default: one on this machine alone)")
    parser.add_argument("--workers", type=_parse_count, help="panels of a cluster (default: one a core or GPU)")
    parser.add_argument("--out", type=Path, help="folder of the results (default: reports/<task>)")
    parser.add_argument("--format", nargs="+", choices=FORMATS, default=["html"], help="of the report (default: html)")
    parser.add_argument("--no-cache", action="store_true", help="neither take nor keep finished opinions")
    parser.add_argument("--seed", type=int, default=0, help="of the bootstrap and of every choice of images")
    parser.add_argument("--resamples", type=_parse_count, default=2000, help="of the bootstrap (default: 2000)")
    options = parser.parse_args(argv)
    options.out = options.out or Path("reports") / options.task
    options.command = show_command("evaluation.run", sys.argv[1:] if argv is None else argv)
    return options


def _parse_count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


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
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(message)s")
    try:
        scores = evaluate(load_task(options.task), options)
    except (TaskError, HubError, datasets.DataError, PredictionError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    except KeyboardInterrupt:
        sys.stderr.write("stopped; opinions formed so far are kept, and the same command goes on from there\n")
        return 130
    for model, reason in scores["unavailable"].items():
        sys.stderr.write(f"left out: {model}: {reason}\n")
    shown = {"html": "report.html", "md": "report.md", "json": "metrics.json"}
    written = "\n".join(str(options.out / shown[name]) for name in options.format)
    sys.stdout.write(f"{format_table(scores)}\n{written}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
