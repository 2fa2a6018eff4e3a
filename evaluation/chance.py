"""What chance alone does to a calibration error: the one that calibrated probabilities would have on these images."""

from __future__ import annotations

import numpy as np

from evaluation.statistics import LEVEL, Interval
from xray_models.bins import equal_bins

DRAWS = 2000
_BLOCK = 4_000_000  # draws that are held in memory at once


def expect_ece(probs: np.ndarray, groups: np.ndarray, seed: int = 0, draws: int = DRAWS) -> Interval:
    """The calibration error of a model whose confidences are exactly its chances to be right.

    Consistency resampling (Broecker & Smith, 2007): whether each answer is right is drawn from its confidence, and the
    error measured anew, `draws` times. Near-copies are right or wrong together, so a group shares one draw; that is the
    most that its images can depend on each other.

    Args:
        probs: (N, K) probabilities.
        groups: (N,) group of each image.
        seed: of the draws.
        draws: how many.

    Returns:
        The mean of the drawn errors, in [0, 1], and the range that holds 95 % of them. An error within it shows nothing
        against the model, however large it is.
    """
    confidence, rng = probs.max(axis=1), np.random.default_rng(seed)
    _, member = np.unique(groups, return_inverse=True)
    count, rows = int(member.max()) + 1, max(1, _BLOCK // len(confidence))
    errors = []
    for start in range(0, draws, rows):
        luck = rng.random((min(rows, draws - start), count))
        gaps = confidence - (luck[:, member] < confidence)  # (draws, N)
        bins = (np.abs(gaps[:, part].sum(axis=1)) for part in equal_bins(confidence))
        errors.append(sum(bins) / len(confidence))
    found = np.concatenate(errors)
    return Interval(found.mean(), *np.quantile(found, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]))
