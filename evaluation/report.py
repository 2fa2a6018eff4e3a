"""The report: one HTML file that needs nothing around it, on a screen, on a phone and on paper."""

from __future__ import annotations

import base64
import html
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from evaluation.metrics import METRICS
from evaluation.plots import Plot, list_plots, render_svg
from evaluation.predictions import CONSENSUS, Table
from evaluation.summary import TITLES, format_range, format_value, summarise
from xray_models.tasks import Task

SHOWN_CASES = 12
_PROBABILITY = ("brier", "ece", "nll", "coverage", "set_size")
_PLOTS = {
    "accuracy": ("Accuracy", "Dot: all images. Line: 95 % interval."),
    "confusion": ("What is taken for what", "Rows: the truth. Columns: the prediction. Figures: images."),
    "roc": ("ROC curves", "Each label against the rest."),
    "reliability": (
        "Reliability",
        "On the diagonal a probability means what it says; below it, it is too sure.",
    ),
}
_NOTICE = (
    "Not a medical device. These numbers describe the images named below and no others; they are no ground "
    "for deciding about a patient."
)


def render_report(
    task: Task, table: Table, scores: Mapping[str, Any], faults: pd.DataFrame, thumbnails: Mapping[str, bytes]
) -> str:
    """Sets the report.

    Args:
        task: the task.
        table: the answers.
        scores: the content of `metrics.json`.
        faults: files that could not be read: image, label, reason.
        thumbnails: small JPEG pictures by image, for those of `list_cases` that have one.

    Returns:
        The HTML page.
    """
    plots = list_plots(table, scores)
    sections = [
        _header(task, table, scores),
        _section("Models", _metrics(scores)),
        _section("Labels", _label_metrics(task, table, scores)),
        *(_plots(name, plots[name]) for name in _PLOTS),
        _section("Where the models are most divided", _cases(table, thumbnails)),
        _section("Agreement", _agreement(scores)),
        _section("Files left out", _faults(faults)),
        _section("About this evaluation", _about(task, table, scores)),
    ]
    style = Path(__file__).with_name("report.css").read_text(encoding="utf-8")
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{_escape(task.title)}: evaluation</title>\n<style>\n{style}</style>\n</head>\n<body>\n"
        + "\n".join(sections)
        + f"\n<footer><p><strong>{_NOTICE}</strong></p></footer>\n</body>\n</html>\n"
    )


def list_cases(table: Table) -> list[int]:
    """Numbers of at most 12 images on which models name different labels, the most divided first."""
    order = np.argsort(-table.disagreement, kind="stable")
    return [int(index) for index in order if table.divided[index]][:SHOWN_CASES]


def _header(task: Task, table: Table, scores: Mapping[str, Any]) -> str:
    first, *rest = summarise(task, table, scores)
    found = scores["models"][CONSENSUS]
    facts = [
        ("Images", f"{len(table.images):,}", f"in {scores['groups']:,} groups"),
        ("Accuracy", *_split_interval(found["accuracy"], "accuracy", " %")),
        ("AUROC", *_split_interval(found["auroc"], "auroc")),
        ("Calibration error", *_split_interval(found["ece"], "ece", " %")),
        ("Models disagree on", f"{int(table.divided.sum()):,}", "images"),
    ]
    tiles = "".join(f"<div><dt>{a}</dt><dd>{b}<small>{c}</small></dd></div>" for a, b, c in facts)
    left_out = "; ".join(f"{name}: {reason}" for name, reason in scores["unavailable"].items())
    warning = f'<p class="warning"><strong>Left out.</strong> {_escape(left_out)}</p>' if left_out else ""
    return (
        f'<header><p class="eyebrow">Second Read, evaluation</p>\n<h1>{_escape(task.title)}</h1>\n'
        f'<p class="lead">{_escape(first)}</p>\n<p>{_escape(" ".join(rest))}</p>\n{warning}'
        f'<p class="note">{_NOTICE}</p>\n<dl class="facts">{tiles}</dl></header>'
    )


def _metrics(scores: Mapping[str, Any]) -> str:
    answers = [metric for metric in METRICS if metric not in _PROBABILITY]
    probabilities = [m for m in (*METRICS, "coverage", "set_size") if m in _PROBABILITY]
    models = scores["models"]

    def rows(metrics: Sequence[str]) -> list[list[str]]:
        return [[name, *(_cell(models[name][metric], metric) for metric in metrics)] for name in models]

    note = '<p class="note">Small figures: 95 % interval, from a bootstrap over groups.</p>'
    return (
        note
        + _tabulate([TITLES.get(m, m) for m in answers], rows(answers), "Answers. Higher is better.")
        + _tabulate(
            [TITLES.get(m, m) for m in probabilities],
            rows(probabilities),
            "Probabilities. Brier score, calibration error and log loss: lower is better. Coverage: how "
            "often the prediction set holds the truth; the consensus’ set is the union of the models’.",
        )
    )


def _label_metrics(task: Task, table: Table, scores: Mapping[str, Any]) -> str:
    with_label = np.bincount(table.truth, minlength=len(task.labels))
    kinds = {
        "sensitivity": ("Sensitivity, %: of the images with the label, how many are called so.", with_label),
        "specificity": (
            "Specificity, %: of the images without it, how many are not.",
            len(table.truth) - with_label,
        ),
    }
    must = f'<p class="note">A reader must not miss: {_escape(", ".join(task.positive))}.</p>'
    tables = [
        _tabulate(
            [f"{label} (n = {count:,})" for label, count in zip(task.labels, counts, strict=True)],
            [[name, *(_cell(m[metric][k], metric) for k in task.labels)] for name, m in scores["models"].items()],
            text,
        )
        for metric, (text, counts) in kinds.items()
    ]
    return must + "".join(tables)


def _plots(name: str, plots: Sequence[Plot]) -> str:
    title, note = _PLOTS[name]
    figures = "".join(
        f"<figure>{f'<h3>{_escape(plot.title)}</h3>' if len(plots) > 1 else ''}"
        f'<div role="img" aria-label="{title}: {_escape(plot.title)}">{render_svg(plot)}</div></figure>'
        for plot in plots
    )
    wide = " wide" if len(plots) == 1 else ""
    return _section(title, f'<p class="note">{note}</p><div class="plots{wide}">{figures}</div>')


def _cases(table: Table, thumbnails: Mapping[str, bytes]) -> str:
    chosen = list_cases(table)
    if not chosen:
        return "<p>On no image do the models name different labels.</p>"
    note = '<p class="note">The highest Jensen-Shannon divergence of the models’ probabilities.</p>'
    return note + f'<div class="cases">{"".join(_case(table, index, thumbnails) for index in chosen)}</div>'


def _case(table: Table, index: int, thumbnails: Mapping[str, bytes]) -> str:
    image, truth = table.images[index], int(table.truth[index])
    picture = thumbnails.get(image)
    shown = ""
    if picture is not None:
        shown = f'<img alt="" src="data:image/jpeg;base64,{base64.b64encode(picture).decode()}">'
    lines = []
    for name, answers in table.answers.items():
        if answers.answered[index]:
            number = int(answers.predicted[index])
            mark = "right" if number == truth else "wrong"
            confidence = 100 * answers.probs[index, number]
            said = f'<dd class="{mark}">{_escape(table.labels[number])}</dd>'
            lines.append(f'<dt>{_escape(name)}</dt>{said}<dd class="share">{confidence:.0f} %</dd>')
    return (
        f'<article class="case{"" if shown else " bare"}">{shown}<div><p class="file">{_escape(image)}</p>'
        f'<p class="truth">True label: {_escape(table.labels[truth])}</p>'
        f"<dl>{''.join(lines)}</dl></div></article>"
    )


def _agreement(scores: Mapping[str, Any]) -> str:
    fleiss = scores["agreement"]["fleiss_kappa"]
    if fleiss is None:
        return "<p>There is only one model.</p>"
    kappas = scores["agreement"]["cohen_kappa"]
    rows = [
        [
            f"{pair['a']} − {pair['b']}",
            _cell(pair["accuracy_difference"], "accuracy"),
            _probability(pair["mcnemar_p"]),
            _cell(kappas.get(f"{pair['a']}|{pair['b']}"), "kappa"),
        ]
        for pair in scores["pairs"]
    ]
    kappa = f"{format_value(fleiss['value'], 'kappa')} ({format_range(fleiss, 'kappa')})"
    caption = (
        "Difference of accuracy in points, on the same images; exact McNemar test, each for itself; kappa "
        "between models only, since the consensus contains them."
    )
    return f"<p>Fleiss’ kappa of all models: {kappa}.</p>" + _tabulate(
        ["Difference", "p (McNemar)", "Cohen’s kappa"], rows, caption, "Pair"
    )


def _probability(p: float | None) -> str:
    if p is None:
        return "–"
    return f"{p:.4f}" if p >= 0.0001 else "&lt; 0.0001"


def _faults(faults: pd.DataFrame) -> str:
    if faults.empty:
        return "<p>None: every file could be read.</p>"
    rows = [[image, _escape(label), _escape(reason)] for image, label, reason in faults.itertuples(index=False)]
    return _tabulate(["Label", "Reason"], rows, f"{len(faults):,} files, not counted above.", "File", "words")


def _about(task: Task, table: Table, scores: Mapping[str, Any]) -> str:
    revisions = ", ".join(f"{name} {answers.revision or '(not known)'}" for name, answers in table.models.items())
    familiar = ", ".join(
        f"{name} {100 * share:.1f} %" for name, share in scores["in_distribution"].items() if share is not None
    )
    facts = {
        "Images": task.dataset.source if scores["split"] != "given" else "As the predictions' files name them",
        "Licence": task.dataset.licence,
        "Citation": task.dataset.citation,
        "Split": scores["split"],
        "Models": revisions,
        "In distribution": familiar or "not known",
        "Intervals": f"95 %, bootstrap over groups, {scores['resamples']:,} resamples, seed {scores['seed']}",
    }
    lines = "".join(f"<dt>{key}</dt><dd>{_escape(value)}</dd>" for key, value in facts.items())
    return f'<dl class="about">{lines}<dt>Command</dt><dd><code>{_escape(scores["command"])}</code></dd></dl>'


def _section(title: str, content: str) -> str:
    return f"<section><h2>{title}</h2>\n{content}</section>"


def _tabulate(
    heads: Sequence[str], rows: Iterable[Sequence[str]], caption: str, first: str = "Model", kind: str = ""
) -> str:
    """A table; the first cell of each row is text, the others are HTML."""
    head = "".join(f'<th scope="col">{_escape(text)}</th>' for text in (first, *heads))
    body = "".join(
        f'<tr{" class=consensus" if name == CONSENSUS else ""}><th scope="row">{_escape(name)}</th>'
        + "".join(f"<td>{cell}</td>" for cell in cells)
        + "</tr>"
        for name, *cells in rows
    )
    return (
        f'<p class="note above">{_escape(caption)}</p><div class="scroll"><table class="{kind}">'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _cell(found: Mapping[str, Any] | None, metric: str) -> str:
    if found is None or found["value"] is None:
        return "–"
    return f"{format_value(found['value'], metric)}<small>{format_range(found, metric)}</small>"


def _split_interval(found: Mapping[str, Any], metric: str, unit: str = "") -> tuple[str, str]:
    return format_value(found["value"], metric) + unit, format_range(found, metric)


def _escape(text: object) -> str:
    return html.escape(str(text))
