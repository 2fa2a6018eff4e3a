"""What every report says of the models: figures, labels, operating points, comparisons, agreement."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np

from evaluation.document import Cell, Figures, Grid, Paragraph, Section
from evaluation.metrics import METRICS
from evaluation.plots import list_plots
from evaluation.predictions import CONSENSUS, Table
from evaluation.summary import TITLES, format_range, format_value
from xray_models.calibration import COVERAGE
from xray_models.tasks import Task

_PROBABILITY = ("brier", "nll", "ece", "ece_by_chance", "overconfidence", "coverage", "set_size")
_NOTES = {
    "accuracy": ("Accuracy", "Dot: all images. Line: 95 % interval."),
    "confusion": ("What is taken for what", "Rows: the truth. Columns: the prediction. Figures: images."),
    "roc": ("ROC curves", "Each label against the rest."),
    "reliability": (
        "Reliability",
        "On the diagonal a probability means what it says; below it, it is too sure. Dots: as many images each. Lines: "
        "95 % intervals, Wilson’s, which take each image as independent.",
    ),
}
_INTERVALS = (
    "Small figures: 95 % interval, from a bootstrap over groups. “No spread”: every resample gives the same figure, as "
    "where nothing goes wrong. That is no certainty: what never happens in n groups may yet happen in 3 of n."
)
_RULES = {
    "sensitivity_95": "a sensitivity of 95 % is asked for",
    "specificity_95": "a specificity of 95 % is asked for",
    "youden": "sensitivity plus specificity is to be largest (Youden)",
}


def build_model_sections(task: Task, table: Table, scores: Mapping[str, Any]) -> list[Section]:
    """Builds the sections that need nothing but the answers.

    Args:
        task: the task.
        table: the answers.
        scores: the content of `metrics.json`.

    Returns:
        Models, labels, operating points, the plots, comparisons and agreement.
    """
    plots = list_plots(table, scores)
    return [
        _models(scores),
        *(Section(title, (Figures(name, tuple(plots[name]), note),)) for name, (title, note) in _NOTES.items()),
        _labels(task, table, scores),
        _operating(task, scores),
        *_comparisons(scores),
        _agreement(table, scores),
    ]


def show(found: Mapping[str, Any] | None, metric: str) -> Cell:
    """A number with its interval, or – where it is not defined."""
    if found is None or found["value"] is None:
        return Cell("–")
    return Cell(format_value(found["value"], metric), format_range(found, metric))


def show_p(p: float | None) -> str:
    """A p-value: four digits, or "< 0.0001"."""
    if p is None:
        return "–"
    return f"{p:.4f}" if p >= 0.0001 else "< 0.0001"


def _models(scores: Mapping[str, Any]) -> Section:
    answers = [metric for metric in METRICS if metric not in _PROBABILITY]
    models, given = scores["models"], scores["split"] == "given"
    aim = "" if given else f"a model’s sets are made for {100 * COVERAGE:.0f} % and may be empty; "

    def grid(metrics: Sequence[str], caption: str) -> Grid:
        rows = tuple((name, *(show(models[name][metric], metric) for metric in metrics)) for name in models)
        return Grid(caption, ("Model", *(TITLES.get(m, m) for m in metrics)), rows)

    return Section(
        "Models",
        (
            Paragraph(_INTERVALS, "note"),
            grid(answers, "Answers. Higher is better."),
            grid(
                _PROBABILITY,
                "Probabilities. Brier score, calibration error and log loss: lower is better. Coverage: how often the "
                f"prediction set holds the truth; {aim}the consensus’ set is the union of the models’. By chance: the "
                "calibration error that probabilities would show on these images if each meant just what it says, with "
                "the range of 95 % of draws; an error within it shows nothing against a model. Confidence − accuracy: "
                "above 0, a model is too sure.",
            ),
            *_warn_of_coverage(models, given),
            *_name_miscalibrated(models),
        ),
    )


def _warn_of_coverage(models: Mapping[str, Any], given: bool) -> list[Paragraph]:
    """Names the models whose sets are shown to hold the truth less often than they were made to."""
    short = [
        name
        for name, found in models.items()
        if name != CONSENSUS and found["coverage"] and (found["coverage"]["high"] or 1) < COVERAGE
    ]
    if given or not short:
        return []
    said = (
        f"The prediction sets of {', '.join(short)} hold the truth in fewer of these images than the "
        f"{100 * COVERAGE:.0f} % that they were made for."
    )
    return [Paragraph(said, "warning")]


def _name_miscalibrated(models: Mapping[str, Any]) -> list[Paragraph]:
    """Names those whose calibration error is larger than chance makes it, and to which side they err."""
    sides = {
        name: "too sure" if scores["overconfidence"]["value"] > 0 else "not sure enough"
        for name, scores in models.items()
        if scores["ece"]["value"] > scores["ece_by_chance"]["high"]
    }
    if not sides:
        return []
    said = [f"Calibration errors beyond chance: {', '.join(f'{name} is {side}' for name, side in sides.items())}."]
    if sides.get(CONSENSUS) == "not sure enough":
        said.append("A mean of models’ calibrated probabilities, as the consensus is, is less sure than it is right.")
    return [Paragraph(" ".join(said), "note")]


def _labels(task: Task, table: Table, scores: Mapping[str, Any]) -> Section:
    held = np.bincount(table.truth, minlength=len(task.labels))
    free = len(table.truth) - held
    kinds = {
        "sensitivity": ("Sensitivity, %: of the images with the label, how many are called so.", held),
        "specificity": ("Specificity, %: of the images without it, how many are not.", free),
        "ppv": ("Positive predictive value, %: of the images called so, how many have the label.", None),
        "npv": ("Negative predictive value, %: of the images not called so, how many lack it.", None),
        "auroc_by_label": ("AUROC, the label against the rest.", held),
        "auprc_by_label": ("Average precision, the label against the rest; chance is the label’s share.", held),
    }
    must = Paragraph(f"A reader must not miss: {', '.join(task.positive)}.", "note")

    def grid(metric: str, text: str, counts: np.ndarray | None) -> Grid:
        heads = [name if counts is None else f"{name} (n = {counts[k]:,})" for k, name in enumerate(task.labels)]
        rows = tuple(
            (name, *(show(found[metric][label], metric) for label in task.labels))
            for name, found in scores["models"].items()
        )
        return Grid(text, ("Model", *heads), rows, folded=metric not in ("sensitivity", "specificity"))

    return Section("Labels", (must, *(grid(metric, text, counts) for metric, (text, counts) in kinds.items())))


def _operating(task: Task, scores: Mapping[str, Any]) -> Section:
    about = Paragraph(
        "Each label against the rest, called from a threshold on instead of the most probable label. The threshold "
        "that is judged was chosen on other images (five folds of groups); the one shown was chosen on all of them. "
        "Predictive values hold for these images’ mix of labels only.",
        "note",
    )

    def grid(label: str, rule: str) -> Grid:
        names = ("sensitivity", "specificity", "ppv", "npv")
        rows = []
        for model, found in scores["models"].items():
            point = found["operating"][label][rule]
            threshold = "–" if point["threshold"] is None else f"{point['threshold']:.3f}"
            rows.append((model, threshold, *(show(point[name], name) for name in names)))
        heads = ("Model", "Threshold", *(TITLES[name] for name in names))
        return Grid(f"{label}, where {_RULES[rule]}.", heads, tuple(rows), folded=rule != "sensitivity_95")

    labels = task.positive if len(task.labels) > 2 else task.positive[:1]
    return Section("Operating points", (about, *(grid(label, rule) for label in labels for rule in _RULES)))


def _comparisons(scores: Mapping[str, Any]) -> list[Section]:
    pairs = scores["pairs"]
    if not pairs:
        return []
    rows = tuple(
        (
            f"{pair['a']} − {pair['b']}",
            show(pair["accuracy_difference"], "accuracy"),
            show_p(pair["mcnemar_p"]),
            show_p(pair["holm_p"]),
            show(pair["auroc_difference"], "auroc"),
            show_p(pair["delong_p"]),
            show_p(pair["delong_holm_p"]),
        )
        for pair in pairs
    )
    heads = ("Pair", "Accuracy, points", "p (McNemar)", "Holm", "AUROC", "p (DeLong)", "Holm")
    tests = Grid(
        "Differences on the same images. Both tests and the intervals count groups, so images of one patient are not "
        "independent. Holm: p-values for all pairs together; read these when you look for the pairs that differ.",
        heads,
        rows,
    )
    differ = tuple(
        (f"{p['a']}, {p['b']}", *(f"{p['differ'][key]:,}" for key in ("n", "a_right", "b_right", "neither")))
        for p in pairs
    )
    who = Grid(
        "Images on which two give different labels, and who is right on them.",
        ("Pair", "They differ on", "First is right", "Second is right", "Neither is"),
        differ,
    )
    return [Section("Do they differ?", (tests, who))]


def _agreement(table: Table, scores: Mapping[str, Any]) -> Section:
    names, found = list(table.models), scores["agreement"]
    if found["fleiss_kappa"] is None:
        return Section("Agreement", (Paragraph("There is only one model."),))
    said = [
        f"{title}: {format_value(found[key]['value'], 'kappa')} ({format_range(found[key], 'kappa')})."
        for key, title in (
            ("fleiss_kappa", "Fleiss’ kappa of all models"),
            ("krippendorff_alpha", "Krippendorff’s alpha"),
        )
    ]
    kappas = {frozenset(pair): found["cohen_kappa"]["|".join(pair)] for pair in combinations(names, 2)}
    rows = tuple(
        (name, *("1" if name == other else show(kappas[frozenset((name, other))], "kappa") for other in names))
        for name in names
    )
    matrix = Grid("Cohen’s kappa of each two: agreement beyond chance, right or wrong.", ("Model", *names), rows)
    return Section("Agreement", (Paragraph(" ".join(said)), matrix))
