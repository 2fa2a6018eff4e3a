"""From a table of answers to the numbers of `metrics.json`."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from itertools import combinations
from typing import Any

import numpy as np

from evaluation.agreement import cohen_kappa, fleiss_kappa, krippendorff_alpha
from evaluation.chance import expect_ece
from evaluation.metrics import LABEL_METRICS, METRICS, REFLECTED, measure
from evaluation.operating import RULES, Points, choose_points, judge_points
from evaluation.predictions import Answers, Table
from evaluation.reliability import find_bins
from evaluation.resamples import confusion, mean_of
from evaluation.statistics import (
    Interval,
    bootstrap,
    compare_delong,
    compare_mcnemar,
    correct_holm,
    describe,
    reflect,
    round_number,
)


def score(table: Table, resamples: int, seed: int) -> dict[str, Any]:
    """Measures every model, every pair and the panel, all on the same resamples.

    Args:
        table: the answers.
        resamples: of the bootstrap over groups.
        seed: of the resamples.

    Returns:
        The keys `n`, `groups`, `labels`, `models`, `pairs`, `agreement` and `in_distribution` of
        `metrics.json`, as plain data; None where a number is not defined.
    """
    points = {name: _choose(table, answers) for name, answers in table.answers.items()}
    intervals = bootstrap(partial(_measure, table, points), table.groups, resamples, seed)
    return {
        "n": len(table.images),
        "groups": len(np.unique(table.groups)),
        "labels": list(table.labels),
        "models": {
            name: _describe(table, name, intervals)
            | {
                **_describe_calibration(table, answers, seed),
                "operating": _describe_points(table, name, points, intervals),
            }
            for name, answers in table.answers.items()
        },
        "pairs": _describe_pairs(table, intervals),
        "agreement": {
            **{name: describe(*intervals[name,]) if (name,) in intervals else None for name in _PANEL},
            "cohen_kappa": {f"{a}|{b}": describe(*intervals["cohen", a, b]) for a, b in combinations(table.models, 2)},
        },
        "in_distribution": {name: _share_within(answers.novelty) for name, answers in table.answers.items()},
    }


def _choose(table: Table, answers: Answers) -> Points:
    rows = answers.answered
    return choose_points(answers.probs[rows], table.truth[rows], table.groups[rows])


def _measure(table: Table, points: Mapping[str, Points], weights: np.ndarray | None) -> dict[tuple[str, ...], Any]:
    """Everything that gets an interval, for the whole sample (None) or for (R, N) resamples."""
    found: dict[tuple[str, ...], Any] = {}
    for name, answers in table.answers.items():
        probs, truth = answers.probs[answers.answered], table.truth[answers.answered]
        part = _pick(weights, answers.answered)
        found |= {(name, metric): values for metric, values in measure(probs, truth, part).items()}
        worth = judge_points(points[name], truth, part)
        found |= {(name, "operating", metric): values for metric, values in worth._asdict().items()}
        if answers.sets is not None:
            sets = answers.sets[answers.answered]
            found[name, "coverage"] = _mean(sets[np.arange(len(truth)), truth], part)
            found[name, "set_size"] = _mean(sets.sum(axis=1), part)
    return found | _measure_pairs(table, weights, found) | _measure_panel(table, weights)


def _measure_pairs(
    table: Table, weights: np.ndarray | None, found: Mapping[tuple[str, ...], Any]
) -> dict[tuple[str, ...], Any]:
    """Differences between two, and their agreement, on the images that both answered; NaN where there are none."""
    pairs: dict[tuple[str, ...], Any] = {}
    undefined = np.nan if weights is None else np.full(len(weights), np.nan)

    def area(name: str, rows: np.ndarray) -> Any:
        if (rows == table.answers[name].answered).all():
            return found[name, "auroc"]
        return METRICS["auroc"](table.answers[name].probs[rows], table.truth[rows], _pick(weights, rows))

    for a, b in combinations(table.answers, 2):
        both = _both(table, a, b)
        first, second = (table.answers[name].predicted[both] for name in (a, b))
        right = (first == table.truth[both]).astype(float) - (second == table.truth[both])
        pairs["accuracy_difference", a, b] = _mean(right, _pick(weights, both)) if both.any() else undefined
        pairs["auroc_difference", a, b] = area(a, both) - area(b, both) if both.any() else undefined
        if a in table.models and b in table.models:
            kappa = partial(cohen_kappa, first, second, len(table.labels))
            pairs["cohen", a, b] = kappa(_pick(weights, both)) if both.any() else undefined
    return pairs


_PANEL = {"fleiss_kappa": fleiss_kappa, "krippendorff_alpha": krippendorff_alpha}


def _measure_panel(table: Table, weights: np.ndarray | None) -> dict[tuple[str, ...], Any]:
    """Agreement of all models: Fleiss' on the images that all answered, Krippendorff's on all images."""
    named = np.array([answers.predicted for answers in table.models.values()])  # (models, N), -1 where missing
    counts = (named[:, :, None] == np.arange(len(table.labels))).sum(axis=0)
    everyone = np.all(named >= 0, axis=0)
    if len(named) < 2:
        return {}
    found: dict[tuple[str, ...], Any] = {("krippendorff_alpha",): krippendorff_alpha(counts, weights)}
    if everyone.any():
        found["fleiss_kappa",] = fleiss_kappa(counts[everyone], _pick(weights, everyone))
    return found


def _pick(weights: np.ndarray | None, rows: np.ndarray) -> np.ndarray | None:
    return weights if weights is None or rows.all() else weights.compress(rows, axis=1)


def _mean(values: np.ndarray, weights: np.ndarray | None) -> Any:
    return mean_of(values, np.ones((1, len(values))))[0] if weights is None else mean_of(values, weights)


def _both(table: Table, a: str, b: str) -> np.ndarray:
    """(N,) bool, which images both answered."""
    return table.answers[a].answered & table.answers[b].answered


def _describe_pairs(table: Table, intervals: Mapping[Any, Interval]) -> list[dict[str, Any]]:
    """The entries of `pairs`; the p-values of both tests are corrected over all pairs."""
    names = list(combinations(table.answers, 2))
    tests = {"mcnemar_p": [_compare_answers(table, *pair) for pair in names]}
    tests["delong_p"] = [_compare_areas(table, *pair) for pair in names]
    tests["holm_p"] = list(correct_holm(np.array(tests["mcnemar_p"])))
    tests["delong_holm_p"] = list(correct_holm(np.array(tests["delong_p"])))
    return [
        {
            "a": a,
            "b": b,
            "n": int(_both(table, a, b).sum()),
            "accuracy_difference": describe(*intervals["accuracy_difference", a, b]),
            "auroc_difference": describe(*intervals["auroc_difference", a, b]),
            **{test: round_number(p_values[place]) for test, p_values in tests.items()},
            "differ": _count_differing(table, a, b),
        }
        for place, (a, b) in enumerate(names)
    ]


def _compare_answers(table: Table, a: str, b: str) -> float:
    both = _both(table, a, b)
    first, second = (table.answers[name].predicted[both] == table.truth[both] for name in (a, b))
    return compare_mcnemar(first, second, table.groups[both]) if both.any() else np.nan


def _compare_areas(table: Table, a: str, b: str) -> float:
    """DeLong's test of the area that `metrics.auroc` gives: with two labels, the second's."""
    both = _both(table, a, b)
    columns = slice(1, 2) if len(table.labels) == 2 else slice(None)
    first, second = (table.answers[name].probs[both, columns] for name in (a, b))
    truth = table.truth[both, None] == np.arange(len(table.labels))[columns]
    return compare_delong(first, second, truth, table.groups[both]) if both.any() else np.nan


def _count_differing(table: Table, a: str, b: str) -> dict[str, int]:
    """On how many images two name different labels, and who is right there."""
    rows = _both(table, a, b) & (table.answers[a].predicted != table.answers[b].predicted)
    a_right, b_right = (int((table.answers[name].predicted == table.truth)[rows].sum()) for name in (a, b))
    n = int(rows.sum())
    return {"n": n, "a_right": a_right, "b_right": b_right, "neither": n - a_right - b_right}


def _describe(table: Table, name: str, intervals: Mapping[Any, Interval]) -> dict[str, Any]:
    """One model's entry under `models`."""
    answers = table.answers[name]
    entry: dict[str, Any] = {
        metric: describe(*(reflect(intervals[name, metric]) if metric in REFLECTED else intervals[name, metric]))
        for metric in METRICS
    }
    for metric in LABEL_METRICS:
        columns = zip(*intervals[name, metric], strict=True)
        entry[metric] = {k: describe(*column) for k, column in zip(table.labels, columns, strict=True)}
    for metric in ("coverage", "set_size"):
        entry[metric] = describe(*intervals[name, metric]) if (name, metric) in intervals else None
    rows = answers.answered
    counts = confusion(table.truth[rows], answers.predicted[rows], len(table.labels), np.ones((1, rows.sum())))
    return entry | {
        "confusion": counts[0].astype(int).tolist(),
        "n": int(rows.sum()),
        "revision": answers.revision,
    }


def _describe_calibration(table: Table, answers: Answers, seed: int) -> dict[str, Any]:
    """The entries `ece_by_chance` and `reliability` of a model."""
    rows = answers.answered
    probs, correct = answers.probs[rows], answers.predicted[rows] == table.truth[rows]
    bins = find_bins(probs.max(axis=1), correct)
    return {
        "ece_by_chance": describe(*expect_ece(probs, table.groups[rows], seed)),
        "reliability": [
            {"n": each.n, "confidence": round_number(each.confidence), "accuracy": describe(*each.accuracy)}
            for each in bins
        ],
    }


def _describe_points(
    table: Table, name: str, points: Mapping[str, Points], intervals: Mapping[Any, Interval]
) -> dict[str, dict[str, Any]]:
    """One model's operating points by label and rule; a threshold keeps all its digits, it is compared with scores."""
    found: dict[str, dict[str, Any]] = {}
    for k, label in enumerate(table.labels):
        found[label] = {}
        for s, rule in enumerate(RULES):
            threshold = points[name].thresholds[k, s]
            worth = {
                metric: describe(*(part[k, s] for part in intervals[name, "operating", metric]))
                for metric in ("sensitivity", "specificity", "ppv", "npv")
            }
            found[label][rule] = {"threshold": None if np.isnan(threshold) else float(threshold)} | worth
    return found


def _share_within(novelty: np.ndarray) -> float | None:
    known = novelty[~np.isnan(novelty)]
    return round_number((known <= 1).mean()) if len(known) else None
