"""How sure a number is: bootstrap intervals over groups, and tests of two models on the same images."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from scipy.stats import norm

LEVEL = 0.95
_BLOCK = 4_000_000  # weights that are held in memory at once


class Interval(NamedTuple):
    """A value and its 95 % interval; floats, or arrays of one shape. NaN where undefined."""

    value: Any
    low: Any
    high: Any


def describe(value: Any, low: Any, high: Any) -> dict[str, float | None]:
    """An interval as plain data."""
    return {key: round_number(number) for key, number in Interval(value, low, high)._asdict().items()}


def round_number(value: Any) -> float | None:
    """A float of six digits behind the point, as results are written; None for NaN."""
    return None if np.isnan(value) else round(float(value), 6) + 0.0


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
        An interval for each name. Undefined resamples are left out; where all are, the bounds are NaN, as where
        there are fewer than two groups, which tell nothing of how much groups differ.
    """
    values = measure(None)
    if len(np.unique(groups)) < 2:
        return {name: Interval(value, *[value * np.nan] * 2) for name, value in values.items()}
    blocks = [measure(weights) for weights in resample_groups(groups, resamples, seed)]
    return {
        name: Interval(value, *_percentiles(np.concatenate([block[name] for block in blocks])))
        for name, value in values.items()
    }


def reflect(interval: Interval) -> Interval:
    """Turns a percentile interval of an error that is never below 0 into the basic one (Davison & Hinkley, 1997).

    Chance pushes such an error up, and that of a resample once more; so the bounds change sides around the value.
    They are cut at 0, and widened to the value where they miss it.
    """
    value, low, high = interval
    return Interval(value, np.maximum(np.minimum(2 * value - high, value), 0), np.maximum(2 * value - low, value))


def _percentiles(draws: np.ndarray) -> tuple[Any, Any]:
    tails = [(1 - LEVEL) / 2, (1 + LEVEL) / 2]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "All-NaN slice")
        low, high = np.nanquantile(draws.astype(np.float64), tails, axis=0)
    return low, high


def compare_mcnemar(first: np.ndarray, second: np.ndarray, groups: np.ndarray | None = None) -> float:
    """Tests whether two models are right equally often on the same images (McNemar, 1947), group by group.

    What a group adds is the number of its images where only the first is right, less the number where only the
    second is. Were the two alike, each group's sum could as well have the other sign. The p-value is the share of
    all ways to sign the groups whose total lies at least as far from 0 as the one observed. It is exact for any
    number of groups; with many it nears the chi-squared test of Durkalski et al. (2003), and with one image a
    group it is McNemar's exact binomial test. It rejects too seldom rather than too often.

    Args:
        first: (N,) bool, where the first model is right.
        second: (N,) bool, where the second is.
        groups: (N,) group of each image; None where each is a group of its own.

    Returns:
        The two-sided p-value; 1 where the two are right equally often in every group.
    """
    _, member = np.unique(np.arange(len(first)) if groups is None else groups, return_inverse=True)
    gaps = np.bincount(member, first.astype(int) - second).astype(int)
    total = np.abs(gaps).sum()
    size = 2 * total + 1  # how many values the signed sum could have
    angles = 2 * np.pi * np.arange(size) / size
    wave = np.ones(size)  # the sum's characteristic function: its inverse transform is how likely each value is
    for gap, times in zip(*np.unique(np.abs(gaps), return_counts=True), strict=True):
        wave *= np.cos(gap * angles) ** times
    likely = np.fft.fftshift(np.fft.ifft(wave).real)
    return float(np.clip(likely[np.abs(np.arange(-total, total + 1)) >= abs(gaps.sum())].sum(), 0, 1))


def compare_delong(first: np.ndarray, second: np.ndarray, truth: np.ndarray, groups: np.ndarray | None = None) -> float:
    """Tests whether two models have the same area under the ROC curve on the same images (DeLong et al., 1988).

    An image's component of an area is the share of the images of the other kind that it is ranked on the right
    side of; sorting finds it in O(N log N), as mid-ranks do for Sun & Xu (2014). The area is the mean component
    of the label's images, and of the others too; the spread of both around it gives the variance. With several
    labels the area is the mean of the labels' areas, each against the rest, so an image's part in it is summed
    over the labels: for one label it is among the label's images, for another among the others. Parts of one
    group are summed before they are squared (Obuchowski, 1997), so images of one patient do not count as
    independent. With one label and one image a group, this is DeLong's formula and nothing else.

    Args:
        first: (N,) scores of the first model, higher means more likely; or (N, K), one column a label.
        second: of the second model.
        truth: (N,) or (N, K) bool, whether the image has the label. Labels that no image or every image has
            are left out.
        groups: (N,) group of each image; None where each is a group of its own.

    Returns:
        The two-sided p-value: 1 where the models rank alike; NaN where the test is not defined, for want of a
        label, of two groups with it and two without, or of any spread.
    """
    first, second, truth = (given.reshape(len(given), -1) for given in (first, second, truth))
    _, member = np.unique(np.arange(len(truth)) if groups is None else groups, return_inverse=True)
    gaps, parts, counts = [], [], []
    for a, b, own in zip(first.T, second.T, truth.T, strict=True):
        if own.all() or not own.any():
            continue
        difference = _place(a, own) - _place(b, own)
        gaps.append(difference[own].mean())
        for side in (own, ~own):
            parts.append(np.bincount(member, np.where(side, difference - gaps[-1], 0) / side.sum()))
            counts.append(len(np.unique(member[side])))
    if not gaps or min(counts) < 2:
        return np.nan
    return _judge_gap(float(np.mean(gaps)), _spread(np.stack(parts), np.array(counts)) / len(gaps) ** 2)


def _place(scores: np.ndarray, own: np.ndarray) -> np.ndarray:
    """(N,) share of the images of the other kind that each image is ranked on the right side of, ties half."""
    placed = np.empty(len(scores))
    for side, signed in ((own, scores), (~own, -scores)):
        others = np.sort(signed[~side])
        below, level = (np.searchsorted(others, signed[side], end) for end in ("left", "right"))
        placed[side] = (below + level) / (2 * len(others))
    return placed


def _spread(parts: np.ndarray, counts: np.ndarray) -> float:
    """Variance of a sum of means.

    Args:
        parts: (P, G) what each of G groups adds to each mean, of expectation 0.
        counts: (P,) how many groups take part in each mean; the small-sample factor is I / (I - 1) for a
            mean with itself, and that of all groups for two different means.
    """
    groups = parts.shape[1]
    among = groups / (groups - 1)
    own = counts / (counts - 1)
    return float(among * (parts.sum(axis=0) ** 2).sum() + (own - among) @ (parts**2).sum(axis=1))


def _judge_gap(gap: float, variance: float) -> float:
    """Two-sided normal p-value of a difference of areas."""
    if variance < 1e-15:
        return 1.0 if abs(gap) < 1e-9 else np.nan
    return float(2 * norm.sf(abs(gap) / np.sqrt(variance)))


def correct_holm(p_values: np.ndarray) -> np.ndarray:
    """Corrects p-values for their number (Holm, 1979): of all true null hypotheses, any is rejected in at most 5 %.

    Args:
        p_values: (P,) in [0, 1]; NaN where a test was not defined, which does not count.

    Returns:
        (P,) corrected p-values, in the same order, in [0, 1]; NaN stays.
    """
    corrected = np.full(len(p_values), np.nan)
    known = np.flatnonzero(~np.isnan(p_values))
    order = known[np.argsort(p_values[known], kind="stable")]
    steps = p_values[order] * np.arange(len(order), 0, -1)
    corrected[order] = np.minimum(np.maximum.accumulate(steps), 1)
    return corrected
