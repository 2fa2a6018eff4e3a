"""Confusion tables, areas and means of many resamples at once, against scikit-learn and by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as oracle

from evaluation.resamples import Sample, confusion, divide, mean_of, measure_curve


def draw(seed: int, n: int = 60):
    """Scores that tie, the truth that they tell something about, and weights of two resamples."""
    rng = np.random.default_rng(seed)
    truth = np.r_[True, False, rng.random(n - 2) < 0.4]
    scores = np.round(rng.normal(size=n) + truth, 1)
    return scores, truth, rng.integers(0, 4, size=(2, n)) + 0.25


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_areas_equal_scikit_learn(seed):
    scores, truth, weights = draw(seed)
    curve = measure_curve(scores, truth, weights)
    for row, drawn in enumerate(weights):
        assert curve.auroc[row] == pytest.approx(oracle.roc_auc_score(truth, scores, sample_weight=drawn))
        assert curve.auprc[row] == pytest.approx(oracle.average_precision_score(truth, scores, sample_weight=drawn))


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_auroc_depends_on_the_order_of_scores_alone(seed):
    scores, truth, weights = draw(seed)
    ranks = np.unique(scores, return_inverse=True)[1]
    area = measure_curve(scores, truth, weights).auroc
    assert measure_curve(ranks**3, truth, weights).auroc == pytest.approx(area)
    assert measure_curve(-ranks, truth, weights).auroc == pytest.approx(1 - area)


def test_a_resample_without_a_true_image_or_without_another_has_no_area():
    scores, truth, weights = draw(1)
    lacking = np.stack([weights[0], weights[0] * truth, weights[0] * ~truth])
    curve = measure_curve(scores, truth, lacking)
    assert np.isnan(curve.auroc).tolist() == [False, True, True]
    assert np.isnan(curve.auprc).tolist() == [False, False, True]
    assert curve.auprc[1] == 1


def test_confusion_has_the_truth_in_rows():
    counts = confusion(np.array([0, 0, 1]), np.array([0, 1, 1]), 2, np.array([[1.0, 2.0, 3.0]]))
    assert counts.tolist() == [[[1, 2], [0, 3]]]


def test_the_sums_of_a_confusion_table_are_those_of_the_table():
    """By hand: true 0, 0, 1, 2; called 0, 1, 1, 1; the images count 1, 2, 3 and 4 times."""
    probs = np.eye(3)[[0, 1, 1, 1]]
    sample = Sample(probs, np.array([0, 0, 1, 2]), np.array([[1.0, 2.0, 3.0, 4.0]]))
    hits, actual, called, total = sample.margins
    assert (hits.tolist(), actual.tolist()) == ([[1, 3, 0]], [[3, 3, 4]])
    assert (called.tolist(), total.tolist()) == ([[1, 9, 0]], [[10]])
    assert sample.present.tolist() == [0, 1, 2]


def test_a_mean_counts_images_as_often_as_a_resample_holds_them():
    weights = np.array([[1.0, 1.0, 2.0], [0.0, 0.0, 0.0], [0.0, 3.0, 0.0]])
    assert mean_of(np.array([1.0, 2.0, 5.0]), weights).tolist() == pytest.approx([3.25, np.nan, 2], nan_ok=True)
    pairs = mean_of(np.array([[1.0, 10.0], [2.0, 20.0], [5.0, 50.0]]), weights)
    assert pairs[[0, 2]].tolist() == [[3.25, 32.5], [2, 20]]
    assert np.isnan(pairs[1]).all()


def test_a_quotient_of_nothing_is_undefined():
    assert divide(np.array([1.0, 0.0, 6.0]), np.array([0.0, 0.0, 4.0])).tolist() == pytest.approx(
        [np.nan, np.nan, 1.5], nan_ok=True
    )
