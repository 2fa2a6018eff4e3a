"""Judges a task's panel from its images to the report; `run` is the command.

images -> the panel's opinions (kept in a cache), or predictions made elsewhere -> numbers with intervals -> checks that
look at the images -> `metrics.json`, `predictions.csv`, `worklist.csv`, `faults.csv`, PNG plots and `report.html`.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import logging
from collections.abc import Iterable
from contextlib import nullcontext
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from PIL import Image

from evaluation.audit import write_audit
from evaluation.cache import OpinionCache
from evaluation.cases import FAULT, choose_models, collect_cases, find_unavailable, load_panel, try_to_read
from evaluation.checks import Checked, Sizes, run_checks
from evaluation.distributed import Cluster, collect_cases_ray
from evaluation.document import Report
from evaluation.markdown import render_markdown
from evaluation.page import render_page
from evaluation.plots import save_png
from evaluation.predictions import Table, read_predictions, tabulate, write_predictions
from evaluation.report import build_report
from evaluation.scoring import score
from evaluation.strangers import judge_strangers
from evaluation.strangers_section import build_strangers_section
from evaluation.subgroups import judge_subgroups, match_metadata, read_metadata
from evaluation.worklist import judge_worklist, list_worklist
from xray_models import datasets
from xray_models.arrays import cache_folder
from xray_models.commands import writing
from xray_models.images import Radiograph, to_display
from xray_models.layouts import name_below
from xray_models.panel import Panel
from xray_models.rows import write_sheet
from xray_models.seen import find_seen
from xray_models.tasks import Task

_log = logging.getLogger(__name__)
_THUMBNAIL = 160  # pixels of the longer side


class Material(NamedTuple):
    """What was judged: answers and files left out; and for the checks the panel and the data, None for predictions.

    `made_with` is what `count_seen` says of the data; None for predictions.
    """

    table: Table
    faults: pd.DataFrame
    unavailable: dict[str, str]
    made_with: dict[str, int] | None = None
    panel: Panel | None = None
    manifest: datasets.Manifest | None = None


def evaluate(task: Task, options: argparse.Namespace) -> dict[str, Any]:
    """Judges predictions or a panel, writes everything to `options.out`, returns what metrics.json holds."""
    metadata = read_metadata(options.metadata) if options.metadata else None  # says at once what is wrong with it
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
        "made_with": material.made_with,
        "worklist": judge_worklist(table, options.resamples, options.seed, options.inject_noise),
    }
    if metadata is not None:
        matched = match_metadata(metadata, table)
        scores["subgroups"] = judge_subgroups(table, matched, options.resamples, options.seed)
    checked = Checked()
    if material.panel is not None and material.manifest is not None:
        sizes = Sizes(options.robustness, options.heatmaps, options.margins)
        checked = run_checks(material.panel, material.manifest, options.split, sizes, options.seed)
        if options.foreign:
            strangers = judge_strangers(material.panel, table, options.foreign, options.seed)
            checked = checked.add("strangers", strangers, build_strangers_section(strangers))
    scores |= checked.found
    report = build_report(task, table, scores, material.faults, checked)
    with writing(options.out):
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
    panel = load_panel(task, engine=options.compute)
    manifest = datasets.open_dataset(task, options.data, relabels=options.labels)
    left_out, made_with = manifest.faults, count_seen(manifest, panel, options.by_picture)
    if options.split == "test":
        manifest, seen = leave_out_seen(manifest, panel, options.by_picture)
        left_out = pd.concat([left_out, seen], ignore_index=True)
    rows = manifest.part(options.split)
    if rows.empty:
        raise datasets.DataError(
            f"The {options.split} split has no image; the data set has {len(manifest.rows)}. Try --split all."
        )
    early = left_out.rename(columns={"path": "image"})
    early["image"] = [name_below(path, manifest.folder) for path in early["image"]]
    if options.engine == "ray":
        folder = None if options.no_cache else cache_folder()
        cluster = Cluster(options.ray_address, options.workers, cache=folder)
        table, late, unavailable = collect_cases_ray(task, None, rows, manifest.folder, options.out, cluster)
    else:
        with nullcontext() if options.no_cache else OpinionCache() as cache:
            cases, late = collect_cases(panel, rows, manifest.folder, cache)
        table, unavailable = tabulate(task, cases), find_unavailable(cases)
    return Material(table, pd.concat([early, late], ignore_index=True), unavailable, made_with, panel, manifest)


def count_seen(manifest: datasets.Manifest, panel: Panel, by_picture: bool = False) -> dict[str, int] | None:
    """Of a data set's `images`, how many were `seen` by a model as it was made; None where no model knows.

    `by_name` of them are recognised by their file names alone.
    """
    if not any(member.seen for member in panel.checkpoints.values()):
        return None
    pictures, either = _recognise(manifest.rows, panel, by_picture)
    return {"seen": int(either.sum()), "by_name": int((either & ~pictures).sum()), "images": len(either)}


def _recognise(rows: pd.DataFrame, panel: Panel, by_picture: bool) -> tuple[np.ndarray, np.ndarray]:
    """(N,) bool: what a model of the panel was made with by its pixels, and by its pixels or its file's name."""
    known = [member.seen for member in panel.checkpoints.values() if member.seen]
    nothing = np.zeros(len(rows), dtype=bool)
    pictures = np.any([nothing, *(find_seen(rows, each, by_picture=True) for each in known)], axis=0)
    return pictures, np.any([pictures, *(find_seen(rows, each, by_picture) for each in known)], axis=0)


def leave_out_seen(
    manifest: datasets.Manifest, panel: Panel, by_picture: bool = False
) -> tuple[datasets.Manifest, pd.DataFrame]:
    """Takes out of the test split what a model of the panel was made with, and near-copies of that.

    The split is dealt from the images that are there: with one more or less, or after a training on the publisher's
    split, test images may be among those that a model learned from. An image that is known by its file's name alone is
    taken out, too: it may be the publisher's at another resolution, and nothing in it tells that from a stranger's.

    Args:
        manifest: the data set.
        panel: whose models know what they were made with.
        by_picture: whether names tell nothing, since the collection is another one.

    Returns:
        The data set, in which such images count as training images; and these images: path, label, reason, which says
        by what they are known.

    Raises:
        DataError: when no test image is left.
    """
    rows = manifest.rows
    tested = (rows["split"] == "test").to_numpy()
    models = pd.Series("", index=rows.index)
    for name, member in panel.checkpoints.items():
        if member.seen:
            groups = rows.loc[find_seen(rows, member.seen, by_picture), "group"]
            models[tested & rows["group"].isin(groups).to_numpy()] += f", {name}"
    known = (models != "").to_numpy()
    pictures, either = _recognise(rows, panel, by_picture)
    pictured = rows["group"].isin(rows.loc[pictures, "group"]).to_numpy()
    _say_left_out(int(known.sum()), int((known & ~pictured).sum()), int(tested.sum()))
    how = np.select([pictures, either], ["its picture", "its file's name"], "an image of the same group")
    reasons = "used to make " + models.str.removeprefix(", ") + ": known by " + pd.Series(how, index=rows.index)
    moved = dataclasses.replace(manifest, rows=rows.assign(split=rows["split"].where(~known, "train")))
    return moved, rows.loc[known, ["path", "label"]].assign(reason=reasons[known])


def _say_left_out(known: int, named: int, tested: int) -> None:
    """Warns that `known` of the `tested` images are left out, `named` for names alone; raises where none remain."""
    alone = ""
    if named:
        alone = (
            f" Of these, {named:,} are known by file names alone, as copies at another resolution are. Where the "
            "collection is another one, and names are alike by chance, add --by-picture."
        )
    if known and known == tested:
        raise datasets.DataError(
            f"All {tested:,} test images were used to train or calibrate a model of this panel: no figure would mean "
            f"anything. Choose other models with --models, or other data with --data.{alone}"
        )
    if known:
        _log.warning(
            "%d of %d test images are left out: models of this panel were trained or calibrated on them or on "
            "near-copies of them; faults.csv lists them.%s",
            known,
            tested,
            alone,
        )


def _score_files(task: Task, options: argparse.Namespace) -> Material:
    cases = read_predictions(options.predictions, task)
    return Material(tabulate(task, cases), pd.DataFrame(columns=list(FAULT)), find_unavailable(cases))


def write_results(report: Report, material: Material, scores: dict[str, Any], options: argparse.Namespace) -> None:
    """Writes the numbers, the tables, the plots and the report."""
    options.out.mkdir(parents=True, exist_ok=True)
    text = json.dumps(scores, indent=1, sort_keys=True, allow_nan=False, ensure_ascii=False)
    (options.out / "metrics.json").write_text(text + "\n", encoding="utf-8")
    write_predictions(material.table, options.out / "predictions.csv")
    write_sheet(material.faults, options.out / "faults.csv")
    write_sheet(list_worklist(material.table), options.out / "worklist.csv")
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
