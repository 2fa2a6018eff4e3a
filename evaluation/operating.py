"""Operating points: from which probability on a label is called, and how good the calls are.

A threshold that is judged on the images it was chosen on looks better than it is. So the groups are dealt into
five folds, and the images of each are called with a threshold that was chosen on the other four. The threshold to
use is the one chosen on all images.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from sklearn.metrics import roc_curve

FOLDS = 5
WANTED = 0.95  # sensitivity or specificity that a rule holds
_SLACK = 1e-9


class Roc(NamedTuple):
    """What each threshold gives: (T,) each, the highest threshold first."""

    thresholds: np.ndarray
    sensitivity: np.ndarray
    specificity: np.ndarray


class Points(NamedTuple):
    """Thresholds of K labels by S rules, and what they call.

    Attributes:
        thresholds: (K, S) chosen on all images; NaN where no threshold keeps the rule.
        called: (N, K, S) bool, whether the threshold of the other folds calls the image so.
        judged: (N, K, S) bool, whether the other folds have a threshold.
    """

    thresholds: np.ndarray
    called: np.ndarray
    judged: np.ndarray


class Worth(NamedTuple):
    """How good calls are: (K, S) each, or (R, K, S); in [0, 1], NaN where undefined."""

    sensitivity: np.ndarray
    specificity: np.ndarray
    ppv: np.ndarray
    npv: np.ndarray


def keep_sensitivity(roc: Roc) -> int | None:
    """The most specific threshold with a sensitivity of at least 95 %."""
    return int(np.flatnonzero(roc.sensitivity >= WANTED - _SLACK)[0])


def keep_specificity(roc: Roc) -> int | None:
    """The most sensitive threshold with a specificity of at least 95 %; None where even the highest has less."""
    kept = np.flatnonzero(roc.specificity >= WANTED - _SLACK)
    return int(kept[-1]) if len(kept) else None


def maximise_youden(roc: Roc) -> int | None:
    """The threshold with the largest sum of sensitivity and specificity (Youden, 1950); of equals, the highest."""
    total = roc.sensitivity + roc.specificity
    return int(np.flatnonzero(total >= total.max() - _SLACK)[0])


RULES: dict[str, Callable[[Roc], int | None]] = {
    "sensitivity_95": keep_sensitivity,
    "specificity_95": keep_specificity,
    "youden": maximise_youden,
}


def deal_folds(labels: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Deals groups into five folds with about the same share of each label.

    Args:
        labels: (N,) true label numbers.
        groups: (N,) group of each image; images of one group come into one fold.

    Returns:
        (N,) fold numbers from 0 on; they do not depend on the order of the images. Fewer than five groups give
        as many folds.
    """
    names, member = np.unique(groups, return_inverse=True)
    lowest = np.full(len(names), labels.max())
    np.minimum.at(lowest, member, labels)
    order = np.lexsort((np.random.default_rng(0).permutation(len(names)), lowest))
    fold = np.empty(len(names), dtype=int)
    fold[order] = np.arange(len(names)) % FOLDS
    return fold[member]


def choose_thresholds(scores: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Chooses one label's threshold by each rule; the label is called from the threshold on.

    Args:
        scores: (N,) higher means more likely.
        truth: (N,) bool.

    Returns:
        (S,) scores that occur, in the order of `RULES`; NaN where no threshold keeps a rule, or all images are
        of one kind.
    """
    if truth.all() or not truth.any():
        return np.full(len(RULES), np.nan)
    alarms, hits, thresholds = (part[1:] for part in roc_curve(truth, scores, drop_intermediate=False))
    roc = Roc(thresholds, hits, 1 - alarms)
    places = [rule(roc) for rule in RULES.values()]
    return np.array([np.nan if place is None else thresholds[place] for place in places])


def choose_points(probs: np.ndarray, labels: np.ndarray, groups: np.ndarray) -> Points:
    """Chooses the operating points of all labels, and calls each image with thresholds chosen without its fold.

    Args:
        probs: (N, K) probabilities.
        labels: (N,) true label numbers.
        groups: (N,) group of each image.
    """
    truth = labels[:, None] == np.arange(probs.shape[1])
    folds = deal_folds(labels, groups)
    foreign = np.full((*probs.shape, len(RULES)), np.nan)  # each image's thresholds
    for fold in np.unique(folds):
        own = folds == fold
        foreign[own] = _choose_all(probs[~own], truth[~own])
    return Points(_choose_all(probs, truth), probs[:, :, None] >= foreign, ~np.isnan(foreign))


def _choose_all(probs: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """(K, S) thresholds of all labels."""
    return np.stack([choose_thresholds(scores, own) for scores, own in zip(probs.T, truth.T, strict=True)])


def judge_points(points: Points, labels: np.ndarray, weights: np.ndarray | None = None) -> Worth:
    """Measures the calls of held-out images, for one sample or for many resamples at once.

    Resamples keep the calls of the whole sample: the intervals are those of thresholds as they were chosen.

    Args:
        points: what was chosen and called.
        labels: (N,) true label numbers.
        weights: (R, N), or None for one sample.
    """
    if weights is None:
        return Worth(*(part[0] for part in judge_points(points, labels, np.ones((1, len(labels))))))
    truth = (labels[:, None] == np.arange(points.called.shape[1]))[:, :, None]
    called = points.called & points.judged

    def count(images: np.ndarray) -> np.ndarray:
        flat = images.reshape(len(images), -1).astype(weights.dtype)
        return (weights @ flat).reshape(-1, *images.shape[1:])

    hits, alarms = count(called & truth), count(called & ~truth)
    missed, spared = count(points.judged & ~called & truth), count(points.judged & ~called & ~truth)
    return Worth(
        _share(hits, missed),
        _share(spared, alarms),
        _share(hits, alarms),
        _share(spared, missed),
    )


def _share(part: np.ndarray, rest: np.ndarray) -> np.ndarray:
    """The part's share of both; NaN where there is neither."""
    total = part + rest
    return np.divide(part, total, out=np.full(total.shape, np.nan), where=total != 0)
