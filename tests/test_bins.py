"""Bins of equal counts, which images of the same confidence do not fall between."""

import numpy as np
import pytest

from evaluation.metrics import METRICS
from xray_models.bins import equal_bins
from xray_models.calibration import calibration_error


def test_bins_hold_equal_counts_the_least_sure_first():
    confidence = np.random.default_rng(0).random(100)
    parts = equal_bins(confidence, 15)
    assert [len(part) for part in parts] == [7] * 10 + [6] * 5
    assert list(np.concatenate(parts)) == list(np.argsort(confidence))


@pytest.mark.parametrize(
    ("confidence", "held"),
    [
        ([0.8] * 6, [[0.8] * 6]),
        ([0.9, 0.5, 0.9, 0.9, 0.5, 0.7], [[0.5, 0.5], [0.7], [0.9] * 3]),
        ([0.5, 0.9, 0.9, 0.9, 0.9, 0.9], [[0.5], [0.9] * 5]),
        ([0.5, 0.5, 0.5, 0.6, 0.7, 0.8], [[0.5] * 3, [0.6], [0.7, 0.8]]),
        ([0.7], [[0.7]]),
    ],
)
def test_images_of_the_same_confidence_stay_together(confidence, held):
    confidence = np.array(confidence)
    assert [confidence[part].tolist() for part in equal_bins(confidence, 3)] == held


def test_the_calibration_error_does_not_depend_on_the_order_of_the_images():
    """Rows of one label after the other, as files are listed, of a model that says 80 % each time."""
    rng = np.random.default_rng(1)
    probs = np.array([[0.8, 0.2]] * 300 + [[0.8, 0.2], [0.9, 0.1]] * 50)
    labels = np.sort((rng.random(400) > 0.8).astype(int))
    mixed = rng.permutation(400)
    for error in (METRICS["ece"], calibration_error):
        assert error(probs[mixed], labels[mixed]) == pytest.approx(error(probs, labels))
    tied = np.tile([0.8, 0.2], (400, 1))
    assert METRICS["ece"](tied, labels) == pytest.approx(abs(0.8 - (labels == 0).mean()))
