"""Reliability: the bins of an evaluation, and the diagrams that the page of the models draws of them."""

import re

import numpy as np
import pytest

from evaluation.metrics import METRICS
from evaluation.reliability import find_bins
from reading_room.reliability import render_reliability
from xray_models.figures import Bin, Share


def test_bins_hold_every_answer_once_and_make_the_calibration_error():
    rng = np.random.default_rng(0)
    sure = rng.uniform(0.5, 1, 331)
    truth = (rng.random(331) > sure).astype(int)
    bins = find_bins(sure, truth == 0)
    assert sum(each.n for each in bins) == 331 and len(bins) == 15
    assert [each.confidence for each in bins] == sorted(each.confidence for each in bins)
    error = sum(each.n * abs(each.confidence - each.accuracy.value) for each in bins) / 331
    assert error == pytest.approx(METRICS["ece"](np.stack([sure, 1 - sure], axis=1), truth))
    assert all(each.accuracy.low < each.accuracy.high for each in bins)


def test_the_interval_is_wilsons():
    (only,) = find_bins(np.array([0.9]), np.array([True]))
    assert only.accuracy == pytest.approx((1, 0.2065, 1), abs=1e-3)  # Wilson (1927): z² / (1 + z²) below


def test_a_diagram_has_a_dot_where_confidence_and_accuracy_meet():
    bins = [Bin(40, 0.5, Share(0.5, 0.35, 0.65)), Bin(40, 0.9, Share(0.75, 0.6, 0.86))]
    drawn = render_reliability([("<Small> CNN", bins), ("no evaluation", ())])
    assert drawn.count("<figure>") == 1 and "no evaluation" not in drawn and "<Small>" not in drawn
    assert 'aria-label="Reliability of &lt;Small&gt; CNN: the largest gap is 15 %"' in drawn
    dots = [(float(x), float(y)) for x, y in re.findall(r'<circle cx="([\d.]+)" cy="([\d.]+)"', drawn)]
    (left, top, side) = (float(n) for n in re.search(r'<rect x="(\d+)" y="(\d+)" width="(\d+)"', drawn).groups())
    on_scale = [((x - left) / side, 1 - (y - top) / side) for x, y in dots]
    assert np.allclose(on_scale, [(0.5, 0.5), (0.9, 0.75)])
    assert render_reliability([("no evaluation", ())]) == ""
