"""Bins of equal counts, in which a calibration error compares confidence with accuracy."""

from __future__ import annotations

import numpy as np

BINS = 15


def equal_bins(confidence: np.ndarray, bins: int = BINS) -> list[np.ndarray]:
    """Divides images by their confidence, the least sure first.

    Args:
        confidence: (N,) confidences, N at least 1.
        bins: how many there are at most.

    Returns:
        The images' numbers in each bin. Counts are equal but for images of the same confidence, which stay together:
        else their order, which is often that of the labels, would decide who is in which bin.
    """
    order = np.argsort(confidence, kind="stable")
    values = confidence[order]
    even = np.cumsum([len(part) for part in np.array_split(order, min(bins, len(order)))])[:-1]
    first, last = (np.searchsorted(values, values[even], side) for side in ("left", "right"))
    cuts = np.unique(np.where(even - first <= last - even, first, last))
    return np.split(order, cuts[(cuts > 0) & (cuts < len(order))])
