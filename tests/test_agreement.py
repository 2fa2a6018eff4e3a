import krippendorff
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as oracle
from statsmodels.stats import inter_rater

from evaluation.agreement import cohen_kappa, fleiss_kappa, krippendorff_alpha

# Fleiss (1971): 14 raters, 10 subjects, 5 categories.
FLEISS = np.array(
    [
        [0, 0, 0, 0, 14],
        [0, 2, 6, 4, 2],
        [0, 0, 3, 5, 6],
        [0, 3, 9, 2, 0],
        [2, 2, 8, 1, 1],
        [7, 7, 0, 0, 0],
        [3, 2, 6, 3, 0],
        [2, 5, 3, 2, 2],
        [6, 5, 2, 1, 0],
        [0, 2, 2, 3, 7],
    ]
)
# Krippendorff (2011), "Computing Krippendorff's alpha-reliability": 4 observers, 12 units, 5 values, some missing.
KRIPPENDORFF = [
    [1, 2, 3, 3, 2, 1, 4, 1, 2, None, None, None],
    [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, None, 3],
    [None, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, None],
    [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, None],
]


def count(answers: np.ndarray, classes: int) -> np.ndarray:
    """(models, N) label numbers, -1 where missing -> (N, K) counts."""
    return (answers[:, :, None] == np.arange(classes)).sum(axis=0)


def draw_answers(seed: int, models: int = 4, n: int = 60, classes: int = 3, missing: float = 0.0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    common = rng.integers(classes, size=n)
    answers = np.where(rng.random((models, n)) < 0.6, common, rng.integers(classes, size=(models, n)))
    return np.where(rng.random((models, n)) < missing, -1, answers)


def test_cohen_kappa_equals_scikit_learn_and_statsmodels():
    first, second = draw_answers(0, models=2, n=80)
    weights = np.random.default_rng(0).random(80)
    assert cohen_kappa(first, second, 3) == pytest.approx(oracle.cohen_kappa_score(first, second))
    table = np.histogram2d(first, second, bins=(3, 3))[0]
    assert cohen_kappa(first, second, 3) == pytest.approx(inter_rater.cohens_kappa(table).kappa)
    weighted = oracle.cohen_kappa_score(first, second, sample_weight=weights)
    assert cohen_kappa(first, second, 3, weights[None])[0] == pytest.approx(weighted)
    assert np.isnan(cohen_kappa(np.zeros(5, int), np.zeros(5, int), 3))


def test_fleiss_kappa_equals_the_published_example():
    assert fleiss_kappa(FLEISS) == pytest.approx(0.20993, abs=1e-5)


def test_fleiss_kappa_equals_statsmodels():
    counts = count(draw_answers(1), 3)
    assert fleiss_kappa(counts) == pytest.approx(inter_rater.fleiss_kappa(counts))


def test_krippendorff_alpha_equals_the_published_example():
    answers = np.array([[-1 if value is None else value - 1 for value in row] for row in KRIPPENDORFF])
    assert krippendorff_alpha(count(answers, 5)) == pytest.approx(0.743, abs=5e-4)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), missing=st.floats(0, 0.6))
def test_krippendorff_alpha_equals_the_package(seed, missing):
    answers = draw_answers(seed, missing=missing)
    known = np.where(answers < 0, np.nan, answers)
    expected = krippendorff.alpha(reliability_data=known, level_of_measurement="nominal")
    assert krippendorff_alpha(count(answers, 3)) == pytest.approx(expected)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_weights_count_images(seed):
    """A whole-number weight is the same as so many copies of the image."""
    answers = draw_answers(seed, missing=0.2)
    times = np.random.default_rng(seed).integers(0, 4, size=60)
    counts, copies = count(answers, 3), np.repeat(np.arange(60), times)
    weighted = krippendorff_alpha(counts, times[None].astype(np.float32))[0]
    assert weighted == pytest.approx(krippendorff_alpha(counts[copies]), abs=1e-5)


def test_many_resamples_at_once_are_each_by_itself():
    answers = draw_answers(3, models=2, n=50)
    counts, weights = count(answers, 3), np.random.default_rng(3).integers(0, 3, size=(5, 50)).astype(float)
    for measure in (
        lambda w: cohen_kappa(*answers, 3, w),
        lambda w: fleiss_kappa(counts, w),
        lambda w: krippendorff_alpha(counts, w),
    ):
        alone = [float(measure(row[None])[0]) for row in weights]
        assert measure(weights).tolist() == pytest.approx(alone)
        assert len(set(alone)) == 5
    expected = [oracle.cohen_kappa_score(*answers, sample_weight=row) for row in weights]
    assert cohen_kappa(*answers, 3, weights).tolist() == pytest.approx(expected)


def test_agreement_is_not_defined_where_nothing_can_differ():
    same = np.array([[3, 0], [3, 0]])
    assert np.isnan(krippendorff_alpha(same))
    assert np.isnan(fleiss_kappa(same))
    assert np.isnan(krippendorff_alpha(np.array([[1, 0], [0, 1], [0, 0]])))  # nobody to compare with
    assert krippendorff_alpha(np.array([[2, 0], [0, 2], [0, 0]])) == pytest.approx(1)
