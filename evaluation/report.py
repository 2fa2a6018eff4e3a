"""From numbers to a report: what is said first, and in which order the rest follows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from evaluation.checklist import build_checklist_section, fill_checklist, is_own
from evaluation.checks import Checked
from evaluation.document import Facts, Grid, Paragraph, Report, Section, Tile
from evaluation.failures import build_failure_section
from evaluation.predictions import CONSENSUS, Table
from evaluation.sections import build_model_sections
from evaluation.subgroups import build_subgroup_section
from evaluation.summary import count, format_range, format_value, summarise
from evaluation.worklist import build_worklist_section
from xray_models.tasks import Task

_NOTICE = (
    "Not a medical device. These numbers describe the images named below and no others; they are no ground "
    "for deciding about a patient."
)
_NO_CHECKS = Checked()


def build_report(
    task: Task, table: Table, scores: Mapping[str, Any], faults: pd.DataFrame, checked: Checked = _NO_CHECKS
) -> Report:
    """Builds the report.

    Args:
        task: the task.
        table: the answers.
        scores: the content of `metrics.json`.
        faults: files that could not be read: image, label, reason.
        checked: what the checks that look at images found.

    Returns:
        What the report says, to be set by `page.render_page` or `markdown.render_markdown`.
    """
    lead, *words = summarise(task, table, scores)
    sections = [
        *build_model_sections(task, table, scores),
        build_worklist_section(scores["worklist"], scores["n"]),
        build_failure_section(table),
        *([build_subgroup_section(scores["subgroups"])] if scores.get("subgroups") else []),
        *checked.sections,
        _faults(faults),
        build_checklist_section(fill_checklist(task, table, scores)),
        _about(task, table, scores),
    ]
    return Report(
        title=task.title,
        lead=lead,
        words=(*words, *checked.words),
        warnings=tuple(f"Left out: {name}: {reason}" for name, reason in scores["unavailable"].items()),
        notice=_NOTICE,
        tiles=_tiles(table, scores),
        sections=tuple(sections),
    )


def _tiles(table: Table, scores: Mapping[str, Any]) -> tuple[Tile, ...]:
    found = scores["models"][CONSENSUS]

    def tile(name: str, metric: str, unit: str = "") -> Tile:
        return Tile(name, format_value(found[metric]["value"], metric) + unit, format_range(found[metric], metric))

    return (
        Tile("Images", f"{len(table.images):,}", f"in {count(scores['groups'], 'group')}"),
        tile("Accuracy", "accuracy", " %"),
        tile("AUROC", "auroc"),
        tile("Calibration error", "ece", " %"),
        Tile("Models disagree on", f"{int(table.divided.sum()):,}", "images"),
    )


def _faults(faults: pd.DataFrame) -> Section:
    if faults.empty:
        return Section("Files left out", (Paragraph("None: every file could be read."),))
    rows = tuple((str(image), str(label), str(reason)) for image, label, reason in faults.itertuples(index=False))
    grid = Grid(f"{len(faults):,} files, not counted above.", ("File", "Label", "Reason"), rows, "words")
    return Section("Files left out", (grid,))


def _about(task: Task, table: Table, scores: Mapping[str, Any]) -> Section:
    given = scores["split"] == "given"
    familiar = [f"{name} {100 * share:.1f} %" for name, share in scores["in_distribution"].items() if share is not None]
    facts = {
        "Images": "As the predictions' files name them" if given else "Of the data folder; their source is not known",
        "Split": scores["split"],
        "Models": ", ".join(f"{name} {answers.revision or '(not known)'}" for name, answers in table.models.items()),
        "In distribution": ", ".join(familiar) or "not known",
        "Intervals": f"95 %, bootstrap over groups, {scores['resamples']:,} resamples, seed {scores['seed']}",
        "Command": scores["command"],
    }
    if is_own(scores):
        data = task.dataset
        facts |= {"Images": data.source, "Licence": data.licence, "Citation": data.citation}
    return Section("About this evaluation", (Facts(tuple(facts.items())),))
