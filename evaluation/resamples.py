"""What metrics are made of: answers and resamples of them, confusion tables, areas under curves, weighted means.

A resample is a row of weights: how often it holds each image. All resamples are computed at once.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import NamedTuple

import numpy as np

_SMALLEST = 1e-12  # keeps a quotient of empty sums finite


class Margins(NamedTuple):
    """Sums of a confusion table, (R, K) each: right answers, true images, calls; and (R, 1) all images."""

    hits: np.ndarray
    actual: np.ndarray
    called: np.ndarray
    total: np.ndarray


class Curve(NamedTuple):
    """Areas under the ROC and the precision-recall curve, in [0, 1]; NaN where undefined."""

    auroc: np.ndarray
    auprc: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class Sample:
    """Answers and R resamples of them; what several metrics need is computed once.

    Attributes:
        probs: (N, K) probabilities.
        labels: (N,) true label numbers.
        weights: (R, N).
    """

    probs: np.ndarray
    labels: np.ndarray
    weights: np.ndarray

    @functools.cached_property
    def predicted(self) -> np.ndarray:
        """(N,) most probable label numbers."""
        return self.probs.argmax(axis=1)

    @functools.cached_property
    def present(self) -> np.ndarray:
        """Numbers of the labels that occur."""
        return np.unique(self.labels)

    @functools.cached_property
    def margins(self) -> Margins:
        """Of the confusion table of each resample."""
        tables = confusion(self.labels, self.predicted, self.probs.shape[1], self.weights)
        hits = np.diagonal(tables, axis1=1, axis2=2)
        return Margins(hits, tables.sum(axis=2), tables.sum(axis=1), tables.sum(axis=(1, 2))[:, None])

    @functools.cached_property
    def curve(self) -> Curve:
        """(R, K) areas of each label against the rest."""
        curves = [measure_curve(column, self.labels == k, self.weights) for k, column in enumerate(self.probs.T)]
        return Curve(*(np.stack(areas, axis=1) for areas in zip(*curves, strict=True)))


def mean_of(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Weighted mean over images.

    Args:
        values: (N,) or (N, ...) a value for each image.
        weights: (R, N).

    Returns:
        (R,) or (R, ...); NaN where a resample holds no image.
    """
    total = weights.sum(axis=1).reshape(-1, *[1] * (values.ndim - 1))
    return divide(np.tensordot(weights, values.astype(weights.dtype), axes=1), total)


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


def measure_curve(scores: np.ndarray, truth: np.ndarray, weights: np.ndarray) -> Curve:
    """Areas of one label against the rest; the scores are sorted once, for all resamples.

    Of the ROC curve with ties counted half (Hanley & McNeil, 1982); of the precision-recall curve as average
    precision, without interpolation.

    Args:
        scores: (N,) higher means more likely.
        truth: (N,) bool.
        weights: (R, N).

    Returns:
        (R,) of each; NaN where a resample holds no true image, and for the ROC curve no other.
    """
    order = np.argsort(-scores, kind="stable")
    own, others = order[truth[order]], order[~truth[order]]
    running = np.zeros((len(weights), len(others) + 1), dtype=weights.dtype)  # summed weight of the others so far
    np.cumsum(weights.take(others, axis=1), axis=1, out=running[:, 1:])
    above, level = (np.searchsorted(-scores[others], -scores[own], side) for side in ("left", "right"))
    true, alarms = weights.take(own, axis=1), running.take(level, axis=1)
    outranked = np.einsum("rp,rp->r", true, running.take(above, axis=1)) + np.einsum("rp,rp->r", true, alarms)
    total = true.sum(axis=1)
    area = 1 - divide(outranked / 2, total * (weights.sum(axis=1) - total))
    hits = np.cumsum(true, axis=1).take(np.searchsorted(-scores[own], -scores[own], "right") - 1, axis=1)
    precision = hits / np.maximum(hits + alarms, _SMALLEST)
    return Curve(area, divide(np.einsum("rp,rp->r", true, precision), total))


def divide(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    """Divides; NaN where the divisor is 0."""
    return np.divide(above, below, out=np.full(np.broadcast(above, below).shape, np.nan), where=below != 0)
