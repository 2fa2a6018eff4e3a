"""Reliability: among answers of about the same confidence, how many are right."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.stats import binomtest

from evaluation.statistics import Interval
from xray_models.bins import equal_bins


class Bin(NamedTuple):
    """Answers of about the same confidence.

    Attributes:
        n: how many.
        confidence: their mean confidence, in [0, 1].
        accuracy: the share of them that is right, with its 95 % interval.
    """

    n: int
    confidence: float
    accuracy: Interval


def find_bins(confidence: np.ndarray, correct: np.ndarray) -> list[Bin]:
    """Divides answers into up to 15 bins of equal counts (Nguyen & O'Connor, 2015).

    Args:
        confidence: (N,) probability of the label that is named.
        correct: (N,) bool, whether it is the true one.

    Returns:
        The bins, the least sure first. The intervals are Wilson's (1927), which take each image as independent.
    """
    return [_describe(confidence[part], correct[part]) for part in equal_bins(confidence)]


def _describe(confidence: np.ndarray, correct: np.ndarray) -> Bin:
    bounds = binomtest(int(correct.sum()), len(correct)).proportion_ci(method="wilson")
    return Bin(len(correct), float(confidence.mean()), Interval(float(correct.mean()), bounds.low, bounds.high))
