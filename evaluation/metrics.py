"""How good probabilities are: one function per metric, for one sample or for many resamples at once.

Every function of `METRICS` and `LABEL_METRICS` is called in one of two ways:

    accuracy(probs, labels)            -> a number          (label metrics: (K,))
    accuracy(probs, labels, weights)   -> (R,) numbers      (label metrics: (R, K))

`probs` is (N, K), rows that sum to 1; `labels` is (N,), true label numbers; `weights` is (R, N), how often
each of R resamples holds each image. A metric that a resample leaves undefined is NaN there. Macro means are
taken over the labels that occur in `labels`. A new metric is one more function below `@_score`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from xray_models.calibration import calibration_error

Metric = Callable[..., Any]
METRICS: dict[str, Metric] = {}
LABEL_METRICS: dict[str, Metric] = {}
_BINS = 15
_SMALLEST = 1e-12  # probability below which the log loss does not grow any more


def _enter(registry: dict[str, Metric]) -> Callable[[Metric], Metric]:
    """Puts a function of (probs, labels, weights) into a registry and lets it be called without weights."""

    def enter(function: Metric) -> Metric:
        @functools.wraps(function)
        def metric(probs: np.ndarray, labels: np.ndarray, weights: np.ndarray | None = None) -> Any:
            if weights is None:
                return function(probs, labels, np.ones((1, len(labels))))[0]
            return function(probs, labels, weights)

        registry[function.__name__] = metric
        return metric

    return enter


_score = _enter(METRICS)
_label_score = _enter(LABEL_METRICS)


def mean_of(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Weighted mean over images.

    Args:
        values: (N,) or (N, ...) a value for each image.
        weights: (R, N).

    Returns:
        (R,) or (R, ...); NaN where a resample holds no image.
    """
    total = weights.sum(axis=1).reshape(-1, *[1] * (values.ndim - 1))
    return _divide(np.tensordot(weights, values.astype(weights.dtype), axes=1), total)


def confusion(first: np.ndarray, second: np.ndarray, classes: int, weights: np.ndarray) -> np.ndarray:
    """Weighted table of two labellings.

    Args:
        first: (N,) label numbers, the rows (the truth).
        second: (N,) label numbers, the columns (what was predicted).
        classes: number of labels, K.
        weights: (R, N).

    Returns:
        (R, K, K) summed weights.
    """
    cells = np.zeros((len(first), classes * classes), dtype=weights.dtype)
    cells[np.arange(len(first)), first * classes + second] = 1
    return (weights @ cells).reshape(-1, classes, classes)


@_score
def accuracy(probs: np.ndarray, labels: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Share of images whose most probable label is true, in [0, 1]."""
    return mean_of(probs.argmax(axis=1) == labels, weights)


@_score
def balanced_accuracy(probs: np.ndarray, labels: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Mean sensitivity of the labels, in [0, 1] (Brodersen et al., 2010)."""
    return sensitivity(probs, labels, weights)[:, np.unique(labels)].mean(axis=1)


@_score
def macro_f1(probs: np.ndarray, labels: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Mean F1 of the labels, in [0, 1] (Sokolova & Lapalme, 2009)."""
    tables = _confusion(probs, labels, weights)
    hits, actual, called = _margins(tables)
    f1 = np.where(actual > 0, _divide(2 * hits, actual + called), np.nan)
    return f1[:, np.unique(labels)].mean(axis=1)


@_score
def mcc(probs: np.ndarray, labels: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Matthews correlation of all labels, in [-1, 1] (Gorodkin, 2004); 0 where only one label was called."""
    tables = _confusion(probs, labels, weights)
    hits, actual, called = _margins(tables / np.maximum(tables.sum(axis=(1, 2), keepdims=True), 1))
    covariance = hits.sum(axis=1) - (actual * called).sum(axis=1)
    spread = (1 - (actual**2).sum(axis=1)) * (1 - (called**2).sum(axis=1))
    return np.where(spread > 1e-9, covariance / np.sqrt(np.maximum(spread, 1e-9)), 0.0)


@_score
def auroc(probs: np.ndarray, labels: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Area under the ROC curve, in [0, 1]; the mean of each label against the rest (Fawcett, 2006).

    With two labels that is the area of either of them; the second's scores are used.
    """
    present = np.unique(labels)
    columns = present[-1:] if probs.shape[1] == 2 else present
    return np.stack([label_auroc(probs[:, k], labels == k, weights) for k in columns], axis=1).mean(axis=1)


@_score
def auprc(probs: np.ndarray, labels: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Average precision, in [0, 1]; the mean of each label against the rest (Davis & Goadrich, 2006)."""
    columns = [_label_auprc(probs[:, k], labels == k, weights) for k in np.unique(labels)]
    return np.stack(columns, axis=1).mean(axis=1)


@_score
def brier(probs: np.ndarray, labels: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Squared distance of the probabilities from the truth, summed over labels, in [0, 2] (Brier, 1950)."""
    return mean_of(((probs - np.eye(probs.shape[1])[labels]) ** 2).sum(axis=1), weights)


def ece(probs: np.ndarray, labels: np.ndarray, weights: np.ndarray | None = None) -> Any:
    """Expected calibration error, in [0, 1], as `xray_models.calibration.calibration_error` defines it.

    Resamples keep the bins of the whole sample. The error is never below 0, so chance pushes that of a
    resample up, and the interval of a well calibrated model lies rather high.
    """
    if weights is None:
        return calibration_error(probs, labels, _BINS)
    confidence, correct = probs.max(axis=1), probs.argmax(axis=1) == labels
    gaps = np.zeros((len(labels), min(_BINS, len(labels))), dtype=weights.dtype)
    for index, part in enumerate(equal_bins(confidence)):
        gaps[part, index] = confidence[part] - correct[part]
    return _divide(np.abs(weights @ gaps).sum(axis=1), weights.sum(axis=1))


METRICS["ece"] = ece


def equal_bins(confidence: np.ndarray) -> list[np.ndarray]:
    """Divides (N,) confidences into up to 15 bins of equal counts; returns the images' numbers in each."""
    order = np.argsort(confidence, kind="stable")
    return np.array_split(order, min(_BINS, len(order)))


@_score
def nll(probs: np.ndarray, labels: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Negative log likelihood of the true label, in nats, at least 0 (Good, 1952)."""
    return mean_of(-np.log(np.maximum(probs[np.arange(len(labels)), labels], _SMALLEST)), weights)


@_label_score
def sensitivity(probs: np.ndarray, labels: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Of the images with a label, the share called so; in [0, 1], NaN for a label that does not occur."""
    hits, actual, _ = _margins(_confusion(probs, labels, weights))
    return _divide(hits, actual)


@_label_score
def specificity(probs: np.ndarray, labels: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Of the images without a label, the share not called so; in [0, 1], NaN where every image has it."""
    tables = _confusion(probs, labels, weights)
    hits, actual, called = _margins(tables)
    others = tables.sum(axis=(1, 2))[:, None] - actual
    return _divide(others - called + hits, others)


def label_auroc(scores: np.ndarray, truth: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Area under one label's ROC curve, ties counted half (Hanley & McNeil, 1982).

    Args:
        scores: (N,) higher means more likely.
        truth: (N,) bool.
        weights: (R, N).

    Returns:
        (R,) in [0, 1]; NaN where a resample holds only one kind.
    """
    own, above, level = _rank(scores, truth, weights)
    outranked = np.einsum("rp,rp->r", own, above) + np.einsum("rp,rp->r", own, level)
    hits = own.sum(axis=1)
    return 1 - _divide(outranked / 2, hits * (weights.sum(axis=1) - hits))


def _label_auprc(scores: np.ndarray, truth: np.ndarray, weights: np.ndarray) -> np.ndarray:
    own, _, alarms = _rank(scores, truth, weights)
    ranked = -np.sort(-scores[truth])
    hits = np.cumsum(own, axis=1).take(np.searchsorted(-ranked, -ranked, "right") - 1, axis=1)
    precision = hits / np.maximum(hits + alarms, _SMALLEST)
    return _divide(np.einsum("rp,rp->r", own, precision), own.sum(axis=1))


def _rank(scores: np.ndarray, truth: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sorts once, for all resamples: the P true images, highest score first, among the others.

    Returns:
        (R, P) weights of the true images; of the others above each of them; of the others above or level.
    """
    order = np.argsort(-scores, kind="stable")
    own, others = order[truth[order]], order[~truth[order]]
    running = np.zeros((len(weights), len(others) + 1), dtype=weights.dtype)
    np.cumsum(weights.take(others, axis=1), axis=1, out=running[:, 1:])
    above, level = (np.searchsorted(-scores[others], -scores[own], side) for side in ("left", "right"))
    return weights.take(own, axis=1), running.take(above, axis=1), running.take(level, axis=1)


def _confusion(probs: np.ndarray, labels: np.ndarray, weights: np.ndarray) -> np.ndarray:
    return confusion(labels, probs.argmax(axis=1), probs.shape[1], weights)


def _margins(tables: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(R, K, K) tables -> diagonal, row sums, column sums; (R, K) each."""
    return np.diagonal(tables, axis1=1, axis2=2), tables.sum(axis=2), tables.sum(axis=1)


def _divide(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    """Divides; NaN where the divisor is 0."""
    return np.divide(above, below, out=np.full(np.broadcast(above, below).shape, np.nan), where=below != 0)
