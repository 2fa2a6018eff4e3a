"""How sure a number is: bootstrap intervals over groups, and an exact test of two models."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from scipy.stats import binomtest

LEVEL = 0.95
_BLOCK = 4_000_000  # weights that are held in memory at once


class Interval(NamedTuple):
    """A value and its 95 % interval; floats, or arrays of one shape. NaN where undefined."""

    value: Any
    low: Any
    high: Any


Measure = Callable[[np.ndarray | None], Mapping[Any, Any]]


def resample_groups(groups: np.ndarray, resamples: int, seed: int = 0) -> Iterator[np.ndarray]:
    """Draws groups with replacement, as many as there are (Field & Welsh, 2007).

    Args:
        groups: (N,) group of each image; images of one group are drawn together.
        resamples: how many resamples, R.
        seed: of the draws.

    Yields:
        Blocks of (r, N) float32 weights, how often each image was drawn; R rows in all.
    """
    _, member = np.unique(groups, return_inverse=True)
    count = int(member.max()) + 1
    rng = np.random.default_rng(seed)
    block = max(1, _BLOCK // max(count, len(member)))
    for start in range(0, resamples, block):
        rows = min(block, resamples - start)
        drawn = rng.integers(count, size=(rows, count)) + count * np.arange(rows)[:, None]
        times = np.bincount(drawn.ravel(), minlength=rows * count).reshape(rows, count)
        yield times.astype(np.float32).take(member, axis=1)


def bootstrap(measure: Measure, groups: np.ndarray, resamples: int, seed: int = 0) -> dict[Any, Interval]:
    """Puts a 95 % percentile interval on everything that is measured (Efron, 1979).

    All of it is measured on the same resamples, so differences between models are paired.

    Args:
        measure: gives every quantity by name: from None, its value on the whole sample, a number or an array
            of any shape S; from (r, N) weights, an array of shape (r, *S), NaN where undefined.
        groups: (N,) group of each image.
        resamples: how many resamples.
        seed: of the draws.

    Returns:
        An interval for each name. Undefined resamples are left out; where all are, the bounds are NaN.
    """
    values = measure(None)
    blocks = [measure(weights) for weights in resample_groups(groups, resamples, seed)]
    return {
        name: Interval(value, *_percentiles(np.concatenate([block[name] for block in blocks])))
        for name, value in values.items()
    }


def _percentiles(draws: np.ndarray) -> tuple[Any, Any]:
    tails = [(1 - LEVEL) / 2, (1 + LEVEL) / 2]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "All-NaN slice")
        low, high = np.nanquantile(draws.astype(np.float64), tails, axis=0)
    return low, high


def compare_mcnemar(first: np.ndarray, second: np.ndarray) -> float:
    """Tests whether two models are right equally often on the same images (McNemar, 1947; exact).

    Args:
        first: (N,) bool, where the first model is right.
        second: (N,) bool, where the second is.

    Returns:
        The two-sided p-value of the exact binomial test on the images where only one of them is right.
    """
    only_first, only_second = int((first & ~second).sum()), int((~first & second).sum())
    if only_first + only_second == 0:
        return 1.0
    return float(binomtest(only_first, only_first + only_second).pvalue)
