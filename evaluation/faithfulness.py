"""How good a heatmap is: pure functions on arrays, without a model.

Faithful: does the score follow when what the map calls important is shown or hidden? Located: does the map lie where
something was annotated? Agreed: do two maps say the same? None of this makes a heatmap a finding.
"""

from __future__ import annotations

import numpy as np
from PIL import Image
from scipy import ndimage
from scipy.stats import spearmanr

GRID = 16  # cells on each side of the grid on which maps are compared
TOP = 0.2  # share of the cells that counts as a map's hot part
TOLERANCE = 0.03  # of the pointing game, as a share of the image's shorter side
LOST = 0.3  # rank correlation, up or down, below which a map counts as lost
CHANCE_OVERLAP = TOP * TOP / (2 * TOP - TOP * TOP)  # of two hot parts that have nothing to do with each other
_COARSE = 7  # cells on each side of a random map, as Grad-CAM has on many networks
_BLUR = 1 / 20  # of the side: the standard deviation that takes the detail out of an image
_MIDDLE = 1 / 4  # of the side: the standard deviation of the map that always points to the middle


def rank_pixels(heatmap: np.ndarray, seed: int = 0) -> np.ndarray:
    """Ranks pixels from the most important on.

    Args:
        heatmap: (h, w).
        seed: of the order among equal values.

    Returns:
        (h, w) int, 0 for the largest value.
    """
    random = np.random.default_rng(seed).random(heatmap.size)
    order = np.lexsort((random, -heatmap.ravel()))
    ranks = np.empty(heatmap.size, dtype=np.int64)
    ranks[order] = np.arange(heatmap.size)
    return ranks.reshape(heatmap.shape)


def compose_steps(first: np.ndarray, second: np.ndarray, ranks: np.ndarray, steps: int) -> np.ndarray:
    """Replaces an image by another step by step, the most important pixels first (Petsiuk et al., 2018).

    Insertion goes from a blurred image to the image itself, deletion from the image to a grey one.

    Args:
        first: (C, h, w), where it starts.
        second: (C, h, w), where it ends.
        ranks: (h, w), see `rank_pixels`.
        steps: number of equal steps, S.

    Returns:
        (S + 1, C, h, w); the k-th shows the k / S most important pixels of `second`.
    """
    cuts = np.round(np.arange(steps + 1) * ranks.size / steps)
    taken = ranks[None] < cuts[:, None, None]  # (S + 1, h, w)
    return np.where(taken[:, None], second[None], first[None])


def area_under(curve: np.ndarray) -> float:
    """Area under equally spaced scores (S + 1,), the abscissa running from 0 to 1; in the scores' unit."""
    return float(np.trapezoid(curve, dx=1 / (len(curve) - 1)))


def blur_plane(plane: np.ndarray) -> np.ndarray:
    """An image (C, h, w) without its detail: a Gaussian of a twentieth of the shorter side."""
    sigma = _BLUR * min(plane.shape[1:])
    return ndimage.gaussian_filter(plane, (0, sigma, sigma), mode="nearest")


def draw_random_map(shape: tuple[int, int], seed: int) -> np.ndarray:
    """A map (h, w) of smooth patches at random places, as coarse as Grad-CAM's: the chance level of an order."""
    cells = np.random.default_rng(seed).standard_normal((_COARSE, _COARSE)).astype(np.float32)
    return np.asarray(Image.fromarray(cells).resize(shape[::-1], Image.Resampling.BICUBIC))


def points_into(heatmap: np.ndarray, distance: np.ndarray, tolerance: float = TOLERANCE) -> float:
    """The pointing game (Zhang et al., 2018): whether the map's largest value lies in the region.

    Args:
        heatmap: (H, W).
        distance: (H, W), see `measure_distance`.
        tolerance: how far outside still counts, as a share of the image's shorter side.

    Returns:
        1 or 0; 0 for a map without a positive value.
    """
    peak = np.unravel_index(int(heatmap.argmax()), heatmap.shape)
    return float(heatmap[peak] > 0 and distance[peak] <= tolerance * min(heatmap.shape))


def measure_distance(region: np.ndarray) -> np.ndarray:
    """Pixels (H, W) from each place to the nearest pixel of a region, (H, W) bool and not empty."""
    return ndimage.distance_transform_edt(~region)


def pointing_chance(distance: np.ndarray, tolerance: float = TOLERANCE) -> float:
    """How often a peak at a random place wins the pointing game: the area share of the region and its margin."""
    return float((distance <= tolerance * min(distance.shape)).mean())


def energy_inside(heatmap: np.ndarray, region: np.ndarray) -> float:
    """The energy-based pointing game (Wang et al., 2020): share of the positive values that lies in the region.

    Args:
        heatmap: (H, W); what speaks against the label does not count.
        region: (H, W) bool.

    Returns:
        A share in [0, 1]; its chance level is the region's area share. NaN for a map without a positive value.
    """
    positive = np.maximum(heatmap, 0).astype(np.float64)
    total = positive.sum()
    return float(positive[region].sum() / total) if total > 0 else float("nan")


def draw_middle(shape: tuple[int, int]) -> np.ndarray:
    """The map (H, W) that knows nothing and points to the middle: a centred Gaussian of a quarter of each side."""
    rows, columns = (np.exp(-0.5 * (((np.arange(n) + 0.5) / n - 0.5) / _MIDDLE) ** 2) for n in shape)
    return np.outer(rows, columns).astype(np.float32)


def shrink_map(heatmap: np.ndarray) -> np.ndarray:
    """A map (H, W) on the grid on which maps are compared: (GRID, GRID) means of its cells."""
    plane = Image.fromarray(np.ascontiguousarray(heatmap, dtype=np.float32))
    return np.asarray(plane.resize((GRID, GRID), Image.Resampling.BOX))


def correlate_ranks(first: np.ndarray, second: np.ndarray) -> float:
    """Spearman's rank correlation of two maps of one shape, in [-1, 1]; NaN where one is flat."""
    if np.ptp(first) == 0 or np.ptp(second) == 0:
        return float("nan")
    return float(spearmanr(first.ravel(), second.ravel()).statistic)


def overlap_tops(first: np.ndarray, second: np.ndarray) -> float:
    """Intersection over union of the hottest cells, a share of `TOP`, of two maps of one shape (h, w).

    Cells that are not positive never count as hot.

    Returns:
        In [0, 1]; NaN where neither map has a positive value.
    """
    one, other = (_find_top(heatmap) for heatmap in (first, second))
    union = (one | other).sum()
    return float((one & other).sum() / union) if union else float("nan")


def _find_top(heatmap: np.ndarray) -> np.ndarray:
    return (rank_pixels(heatmap) < round(TOP * heatmap.size)) & (heatmap > 0)
