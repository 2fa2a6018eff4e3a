"""Scores a task's panel: `python -m evaluation.run --task covid --data DIR`.

images -> the panel's readings, or predictions made elsewhere -> metrics with intervals -> `metrics.json`,
`predictions.csv`, `faults.csv`, PNG plots and `report.html`.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from typing import Any

import pandas as pd
from PIL import Image
from tqdm import tqdm

from evaluation.plots import list_plots, save_png
from evaluation.predictions import Case, PredictionError, Table, read_predictions, tabulate, write_predictions
from evaluation.report import list_cases, render_report
from evaluation.scoring import score
from xray_models import datasets
from xray_models.commands import show_command
from xray_models.images import ImageError, Radiograph, read_image, to_display
from xray_models.panel import Panel
from xray_models.readings import Opinion
from xray_models.tasks import Task, TaskError, load_task

_FAULT = ["image", "label", "reason"]
_AHEAD = 16  # images that are decoded while the models work
_THUMBNAIL = 160  # pixels of the longer side


def read_ahead(paths: Iterable[str]) -> Iterator[Radiograph | str]:
    """Decodes images in threads, a few ahead; yields each image, or the reason why it cannot be read."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        waiting: deque[Future[Radiograph | str]] = deque()
        for path in paths:
            waiting.append(pool.submit(_try_to_read, path))
            if len(waiting) > _AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _try_to_read(path: str) -> Radiograph | str:
    try:
        return read_image(path)
    except ImageError as error:
        return str(error)
    except OSError as error:
        return error.strerror or type(error).__name__


def collect_cases(panel: Panel, rows: pd.DataFrame, folder: Path) -> tuple[list[Case], pd.DataFrame]:
    """Asks a panel about every image of a manifest; memory holds one batch of images.

    Args:
        panel: the models.
        rows: of a manifest: path, label, group.
        folder: the data folder, to which the cases' paths are relative.

    Returns:
        A case for each image that could be read, and the others: image, label, reason.
    """
    asked: deque[tuple[str, str, str]] = deque()
    faults = []
    columns = zip(rows["path"], rows["group"], rows["label"], strict=True)
    known = [(_relative(path, folder), str(group), label) for path, group, label in columns]

    def readable() -> Iterator[Radiograph]:
        for (image, group, label), found in zip(known, read_ahead(rows["path"]), strict=True):
            if isinstance(found, Radiograph):
                asked.append((image, group, label))
                yield found
            else:
                faults.append((image, label, found))

    cases = []
    for reading in tqdm(panel.read_many(readable()), "reading", len(rows), unit="image", disable=None):
        cases.append(Case(*asked.popleft(), reading.opinions, reading.consensus))
    return cases, pd.DataFrame(faults, columns=_FAULT)


def _relative(path: str, folder: Path) -> str:
    return Path(os.path.relpath(path, folder.resolve())).as_posix()


def find_unavailable(cases: Iterable[Case]) -> dict[str, str]:
    """Models that answered on no image, with the first reason that they gave."""
    opinions = [opinion for case in cases for opinion in case.opinions]
    answered = {opinion.model for opinion in opinions if opinion.probs is not None}
    reasons: dict[str, str] = {}
    for opinion in opinions:
        if opinion.model not in answered:
            reasons.setdefault(opinion.model, opinion.reason or "no reason given")
    return reasons


def judge_panel(task: Task, options: argparse.Namespace) -> tuple[list[Case], pd.DataFrame]:
    """Reads a split of a task's data with its panel.

    Raises:
        TaskError: when no model is available.
        DataError: when there are no data, or the split is empty.
    """
    panel = Panel.load(task, options.models)
    if not panel.checkpoints:
        raise TaskError(_explain_empty(task, panel))
    manifest = datasets.open_dataset(task, options.data)
    rows = manifest.part(options.split)
    if rows.empty:
        raise datasets.DataError(
            f"The {options.split} split has no image; the data set has {len(manifest.rows)}. Try --split all."
        )
    folder = datasets.data_folder(task, options.data)
    cases, late = collect_cases(panel, rows, folder)
    early = manifest.faults.rename(columns={"path": "image"})
    early["image"] = [_relative(path, folder) for path in early["image"]]
    return cases, pd.concat([early, late], ignore_index=True)


def _explain_empty(task: Task, panel: Panel) -> str:
    reasons = [f"{member.model}: {member.reason}" for member in panel.members if isinstance(member, Opinion)]
    known = ", ".join(ref.name for ref in task.models) or "none"
    return f"No model of task {task.name!r} is available (models: {known}). " + " ".join(reasons)


def evaluate(task: Task, options: argparse.Namespace) -> dict[str, Any]:
    """Scores predictions or a panel, writes everything to `options.out`, returns what metrics.json holds."""
    if options.predictions:
        cases, faults = read_predictions(options.predictions, task), pd.DataFrame(columns=_FAULT)
    else:
        cases, faults = judge_panel(task, options)
    table = tabulate(task, cases)
    scores = score(table, options.resamples, options.seed) | {
        "task": task.name,
        "split": "given" if options.predictions else options.split,
        "command": options.command,
        "seed": options.seed,
        "resamples": options.resamples,
        "unavailable": find_unavailable(cases),
        "faults": len(faults),
    }
    options.out.mkdir(parents=True, exist_ok=True)
    text = json.dumps(scores, indent=1, sort_keys=True, allow_nan=False, ensure_ascii=False)
    (options.out / "metrics.json").write_text(text + "\n", encoding="utf-8")
    write_predictions(table, options.out / "predictions.csv")
    faults.to_csv(options.out / "faults.csv", index=False, lineterminator="\n")
    for name, plots in list_plots(table, scores).items():
        save_png(plots, options.out / f"{name}.png")
    thumbnails = {} if options.predictions else draw_thumbnails(table, datasets.data_folder(task, options.data))
    report = render_report(task, table, scores, faults, thumbnails)
    (options.out / "report.html").write_text(report, encoding="utf-8")
    return scores


def draw_thumbnails(table: Table, folder: Path) -> dict[str, bytes]:
    """Makes small grey JPEG pictures of the images that the report shows."""
    thumbnails = {}
    for index in list_cases(table):
        image = table.images[index]
        found = _try_to_read(str(folder / image))
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
    parser = argparse.ArgumentParser(prog="python -m evaluation.run", description="Scores a task's panel.")
    parser.add_argument("--task", required=True, help="a YAML file of hub_configs/, without its ending")
    parser.add_argument("--data", type=Path, help="data folder (default: $XRAY_DATA/<task>, or data/<task>)")
    parser.add_argument("--split", choices=("train", "validation", "test", "all"), default="test")
    parser.add_argument("--models", nargs="+", help="models of the task (default: all)")
    parser.add_argument("--predictions", nargs="+", type=Path, help="score these CSV files instead of running models")
    parser.add_argument("--out", type=Path, help="folder of the results (default: reports/<task>)")
    parser.add_argument("--seed", type=int, default=0, help="of the bootstrap")
    parser.add_argument("--resamples", type=_parse_count, default=2000, help="of the bootstrap (default: 2000)")
    options = parser.parse_args(argv)
    options.out = options.out or Path("reports") / options.task
    options.command = show_command("evaluation.run", sys.argv[1:] if argv is None else argv)
    return options


def _parse_count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of resamples; give a whole number above 0")
    return int(text)


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    options = _parse(argv)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(message)s")
    try:
        scores = evaluate(load_task(options.task), options)
    except (TaskError, datasets.DataError, PredictionError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    for model, reason in scores["unavailable"].items():
        sys.stderr.write(f"left out: {model}: {reason}\n")
    sys.stdout.write(f"{format_table(scores)}\n{options.out / 'report.html'}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
