"""How far labellings agree beyond chance."""

from __future__ import annotations

import numpy as np

from evaluation.resamples import confusion, mean_of


def cohen_kappa(first: np.ndarray, second: np.ndarray, classes: int, weights: np.ndarray | None = None) -> np.ndarray:
    """Agreement of two labellings beyond chance (Cohen, 1960).

    Args:
        first: (N,) label numbers.
        second: (N,) label numbers of the same images.
        classes: number of labels.
        weights: (R, N), or None for a single number.

    Returns:
        (R,) in [-1, 1], or the number; NaN where both give one and the same label throughout.
    """
    if weights is None:
        return cohen_kappa(first, second, classes, np.ones((1, len(first))))[0]
    tables = confusion(first, second, classes, weights)
    shares = tables / np.maximum(tables.sum(axis=(1, 2), keepdims=True), 1e-12)
    observed = np.trace(shares, axis1=1, axis2=2)
    return _beyond_chance(observed, (shares.sum(axis=2) * shares.sum(axis=1)).sum(axis=1))


def fleiss_kappa(counts: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """Agreement of several labellings beyond chance (Fleiss, 1971).

    Args:
        counts: (N, K) how many of the models gave each label to each image; equal row sums of at least 2.
        weights: (R, N), or None for a single number.

    Returns:
        (R,) in [-1, 1], or the number; NaN where all give one and the same label throughout.
    """
    if weights is None:
        return fleiss_kappa(counts, np.ones((1, len(counts))))[0]
    models = counts[0].sum()
    pairs = (counts * (counts - 1)).sum(axis=1) / (models * (models - 1))
    expected = (mean_of(counts / models, weights) ** 2).sum(axis=1)
    return _beyond_chance(mean_of(pairs, weights), expected)


def krippendorff_alpha(counts: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """Agreement of several labellings beyond chance, some of which may be missing (Krippendorff, 1970; nominal).

    Args:
        counts: (N, K) how many of the models gave each label to each image; images with fewer than two answers
            do not count.
        weights: (R, N), or None for a single number.

    Returns:
        (R,) of at most 1, or the number; NaN where all give one and the same label throughout, or no image has
        two answers.
    """
    if weights is None:
        return krippendorff_alpha(counts, np.ones((1, len(counts))))[0]
    answers = counts.sum(axis=1)
    pairable = answers > 1
    differing = np.where(pairable, (answers**2 - (counts**2).sum(axis=1)) / np.maximum(answers - 1, 1), 0)
    given = weights @ (counts * pairable[:, None]).astype(weights.dtype)  # (R, K)
    total = given.sum(axis=1)
    possible = (total**2 - (given**2).sum(axis=1)) / np.maximum(total - 1, 1)  # of `differing`, by chance
    unlike = weights @ differing.astype(weights.dtype)
    return np.where(possible > 1e-6, 1 - unlike / np.where(possible > 1e-6, possible, 1), np.nan)


def _beyond_chance(observed: np.ndarray, expected: np.ndarray) -> np.ndarray:
    possible = 1 - expected
    kappa = (observed - expected) / np.where(possible > 1e-6, possible, 1)
    return np.where(possible > 1e-6, kappa, np.nan)
