"""From a table of answers to the numbers of `metrics.json`."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from itertools import combinations
from typing import Any

import numpy as np

from evaluation.agreement import cohen_kappa, fleiss_kappa
from evaluation.metrics import LABEL_METRICS, METRICS, confusion, mean_of
from evaluation.predictions import Table
from evaluation.statistics import Interval, bootstrap, compare_mcnemar

_DIGITS = 6


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
    intervals = bootstrap(partial(_measure, table), table.groups, resamples, seed)
    return {
        "n": len(table.images),
        "groups": len(np.unique(table.groups)),
        "labels": list(table.labels),
        "models": {name: _describe(table, name, intervals) for name in table.answers},
        "pairs": [
            {
                "a": a,
                "b": b,
                "accuracy_difference": _plain(intervals["difference", a, b]),
                "mcnemar_p": _number(_compare(table, a, b)),
            }
            for a, b in combinations(table.answers, 2)
        ],
        "agreement": {
            "fleiss_kappa": _plain(intervals["fleiss",]) if ("fleiss",) in intervals else None,
            "cohen_kappa": {f"{a}|{b}": _plain(intervals["cohen", a, b]) for a, b in combinations(table.models, 2)},
        },
        "in_distribution": {name: _share(answers.familiar) for name, answers in table.answers.items()},
    }


def _measure(table: Table, weights: np.ndarray | None) -> dict[tuple[str, ...], Any]:
    """Everything that gets an interval, for the whole sample (None) or for (R, N) resamples."""
    found: dict[tuple[str, ...], Any] = {}
    for name, answers in table.answers.items():
        probs, truth = answers.probs[answers.answered], table.truth[answers.answered]
        part = _pick(weights, answers.answered)
        for metric, function in (METRICS | LABEL_METRICS).items():
            found[name, metric] = function(probs, truth, part)
        if answers.sets is not None:
            sets = answers.sets[answers.answered]
            found[name, "coverage"] = _mean(sets[np.arange(len(truth)), truth], part)
            found[name, "set_size"] = _mean(sets.sum(axis=1), part)
    for a, b in combinations(table.answers, 2):
        first, second, both = _both_right(table, a, b)
        found["difference", a, b] = _mean(first.astype(float) - second, _pick(weights, both))
    for a, b in combinations(table.models, 2):
        one, other = table.models[a], table.models[b]
        both = one.answered & other.answered
        kappa = partial(cohen_kappa, one.predicted[both], other.predicted[both], len(table.labels))
        found["cohen", a, b] = kappa(_pick(weights, both)) if both.any() else np.nan
    return found | _measure_panel(table, weights)


def _measure_panel(table: Table, weights: np.ndarray | None) -> dict[tuple[str, ...], Any]:
    everyone = np.all([answers.answered for answers in table.models.values()], axis=0)
    if len(table.models) < 2 or not everyone.any():
        return {}
    named = np.array([answers.predicted[everyone] for answers in table.models.values()])  # (models, N)
    counts = (named[:, :, None] == np.arange(len(table.labels))).sum(axis=0)
    return {("fleiss",): fleiss_kappa(counts, _pick(weights, everyone))}


def _pick(weights: np.ndarray | None, rows: np.ndarray) -> np.ndarray | None:
    return weights if weights is None or rows.all() else weights.compress(rows, axis=1)


def _mean(values: np.ndarray, weights: np.ndarray | None) -> Any:
    return mean_of(values, np.ones((1, len(values))))[0] if weights is None else mean_of(values, weights)


def _both_right(table: Table, a: str, b: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where each of two is right, on the images that both answered, and which these are."""
    both = table.answers[a].answered & table.answers[b].answered
    first, second = (table.answers[name].predicted[both] == table.truth[both] for name in (a, b))
    return first, second, both


def _compare(table: Table, a: str, b: str) -> float:
    first, second, both = _both_right(table, a, b)
    return compare_mcnemar(first, second) if both.any() else np.nan


def _describe(table: Table, name: str, intervals: Mapping[Any, Interval]) -> dict[str, Any]:
    """One model's entry under `models`."""
    answers = table.answers[name]
    entry: dict[str, Any] = {metric: _plain(intervals[name, metric]) for metric in METRICS}
    for metric in LABEL_METRICS:
        columns = zip(*intervals[name, metric], strict=True)
        entry[metric] = {k: _plain(Interval(*column)) for k, column in zip(table.labels, columns, strict=True)}
    for metric in ("coverage", "set_size"):
        entry[metric] = _plain(intervals[name, metric]) if (name, metric) in intervals else None
    rows = answers.answered
    counts = confusion(table.truth[rows], answers.predicted[rows], len(table.labels), np.ones((1, rows.sum())))
    return entry | {
        "confusion": counts[0].astype(int).tolist(),
        "n": int(rows.sum()),
        "revision": answers.revision,
    }


def _share(values: np.ndarray) -> float | None:
    known = values[~np.isnan(values)]
    return _number(known.mean()) if len(known) else None


def _plain(interval: Interval) -> dict[str, float | None]:
    return {key: _number(number) for key, number in interval._asdict().items()}


def _number(value: Any) -> float | None:
    """A float of six digits behind the point; None for NaN."""
    return None if np.isnan(value) else round(float(value), _DIGITS) + 0.0
