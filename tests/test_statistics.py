from itertools import product

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom, chi2, norm
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests

from evaluation.resamples import mean_of
from evaluation.statistics import (
    Interval,
    bootstrap,
    compare_mcnemar,
    correct_holm,
    describe,
    reflect,
    resample_groups,
)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 8), min_size=1, max_size=40), st.integers(1, 20), st.integers(0, 99))
def test_groups_are_drawn_whole_and_as_many_as_there_are(groups, resamples, seed):
    groups = np.array(groups)
    weights = np.concatenate(list(resample_groups(groups, resamples, seed)))
    assert weights.shape == (resamples, len(groups))
    first = [np.flatnonzero(groups == group)[0] for group in np.unique(groups)]
    assert (weights[:, first].sum(axis=1) == len(first)).all()
    for group in np.unique(groups):
        assert (weights[:, groups == group] == weights[:, groups == group][:, :1]).all()


def test_the_same_seed_draws_the_same():
    groups = np.arange(30)
    draws = [np.concatenate(list(resample_groups(groups, 5, seed))) for seed in (1, 1, 2)]
    assert (draws[0] == draws[1]).all()
    assert (draws[0] != draws[2]).any()


def test_many_images_come_in_blocks_that_add_up():
    blocks = list(resample_groups(np.arange(1_500_000), 5))
    assert [len(block) for block in blocks] == [2, 2, 1]


def mean(values):
    return lambda weights: {"mean": values.mean() if weights is None else mean_of(values, weights)}


def test_interval_of_a_mean_equals_the_normal_one():
    values = np.random.default_rng(0).normal(5, 2, size=400)
    found = bootstrap(mean(values), np.arange(400), 4000)["mean"]
    half = norm.ppf(0.975) * values.std() / 20
    assert found.value == values.mean()
    assert found.low == pytest.approx(values.mean() - half, abs=0.02)
    assert found.high == pytest.approx(values.mean() + half, abs=0.02)


def test_bounds_are_the_quantiles_of_what_the_resamples_give():
    values, groups = np.random.default_rng(6).exponential(size=60), np.arange(60) // 3
    drawn = np.concatenate([mean_of(values, weights) for weights in resample_groups(groups, 500, seed=4)])
    found = bootstrap(mean(values), groups, 500, seed=4)["mean"]
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(drawn.astype(float), [0.025, 0.975])), rel=1e-6)


def test_a_reflected_interval_is_scipys_basic_one():
    values = np.random.default_rng(7).exponential(size=50)
    found = {
        method: scipy.stats.bootstrap((values,), np.mean, method=method, rng=0).confidence_interval
        for method in ("percentile", "basic")
    }
    reflected = reflect(Interval(values.mean(), found["percentile"].low, found["percentile"].high))
    assert reflected == pytest.approx((values.mean(), found["basic"].low, found["basic"].high))


def test_a_reflected_interval_is_never_below_0_and_holds_its_value():
    assert reflect(Interval(0.02, 0.015, 0.05)) == pytest.approx((0.02, 0, 0.025))
    assert reflect(Interval(0.03, 0.04, 0.05)) == pytest.approx((0.03, 0.01, 0.03))
    assert reflect(Interval(0.03, 0.01, 0.02)) == pytest.approx((0.03, 0.03, 0.05))
    several = reflect(Interval(np.array([0.1, np.nan]), np.array([0.05, np.nan]), np.array([0.12, np.nan])))
    np.testing.assert_allclose(several, [[0.1, np.nan], [0.08, np.nan], [0.15, np.nan]])


def test_copies_in_a_group_do_not_narrow_the_interval():
    values = np.random.default_rng(1).normal(size=100)
    once = bootstrap(mean(values), np.arange(100), 1000)["mean"]
    copied = bootstrap(mean(np.repeat(values, 10)), np.repeat(np.arange(100), 10), 1000)["mean"]
    naive = bootstrap(mean(np.repeat(values, 10)), np.arange(1000), 1000)["mean"]
    assert copied.high - copied.low == pytest.approx(once.high - once.low, rel=1e-4)
    assert naive.high - naive.low < 0.5 * (once.high - once.low)


def test_undefined_resamples_are_left_out():
    def measure(weights):
        if weights is None:
            return {"some": 1.0, "none": np.array([0.5, np.nan])}
        some = np.where(np.arange(len(weights)) % 2, 1.0, np.nan)
        return {"some": some, "none": np.stack([some, np.full(len(weights), np.nan)], axis=1)}

    found = bootstrap(measure, np.arange(9), 50)
    assert found["some"] == Interval(1, 1, 1)
    assert found["none"].low[0] == 1
    assert np.isnan([found["none"].low[1], found["none"].high[1]]).all()


@pytest.mark.parametrize("count", [1, 20])
def test_one_group_tells_nothing_of_how_groups_differ(count):
    values = np.arange(count, dtype=float)
    value, low, high = bootstrap(mean(values), np.zeros(count), 50)["mean"]
    assert value == values.mean()
    assert np.isnan([low, high]).all()


def test_two_groups_are_enough_for_an_interval():
    value, low, high = bootstrap(mean(np.array([0.0, 0.0, 1.0])), np.array([0, 0, 1]), 200)["mean"]
    assert (low, value, high) == (0, pytest.approx(1 / 3), 1)


def test_mcnemar_equals_the_binomial_tail():
    first = np.array([True] * 10 + [False] * 2 + [True] * 30)
    second = np.array([False] * 10 + [True] * 2 + [True] * 30)
    assert compare_mcnemar(first, second) == pytest.approx(2 * (1 + 12 + 66) / 2**12)
    assert compare_mcnemar(second, first) == compare_mcnemar(first, second)
    assert compare_mcnemar(first, first) == 1
    assert compare_mcnemar(first, second, np.zeros(42)) == 1  # one group tells nothing


@pytest.mark.parametrize(("b", "c"), [(1, 0), (3, 9), (24, 0), (12, 12), (13, 12), (20, 5), (150, 110), (40, 400)])
def test_mcnemar_equals_statsmodels(b, c):
    first = np.repeat([True, False, True, False], [b, c, 30, 7])
    second = np.repeat([False, True, True, False], [b, c, 30, 7])
    expected = mcnemar([[30, b], [c, 7]], exact=True).pvalue
    assert compare_mcnemar(first, second) == pytest.approx(expected, abs=1e-12)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 7), st.booleans(), st.booleans()), min_size=1, max_size=40))
def test_mcnemar_equals_all_signs_of_the_groups_tried_out(images):
    groups, first, second = map(np.array, zip(*images, strict=True))
    gaps = np.bincount(groups, first.astype(int) - second, minlength=8)
    totals = np.abs(np.array(list(product([-1, 1], repeat=8))) @ gaps)
    expected = (totals >= abs(gaps.sum())).mean()
    assert compare_mcnemar(first, second, groups) == pytest.approx(expected)


def test_mcnemar_nears_durkalski_s_chi_squared_test_over_many_groups():
    rng = np.random.default_rng(5)
    groups = np.repeat(np.arange(3000), 4)
    first, second = rng.random((2, 12_000)) < [[0.70], [0.69]]
    gaps = np.bincount(groups, first.astype(int) - second)
    expected = chi2.sf(gaps.sum() ** 2 / (gaps**2).sum(), 1)
    assert 1e-3 < expected < 0.2
    assert compare_mcnemar(first, second, groups) == pytest.approx(expected, rel=0.05)


def test_mcnemar_rejects_one_in_twenty_where_nothing_differs():
    """With about 1,500 discordant images, exactness costs 0.3 points of the 5 %."""
    rng = np.random.default_rng(0)
    rejected = []
    for _ in range(1000):
        first, second = rng.random((2, 3000)) < 0.5
        rejected.append(compare_mcnemar(first, second) < 0.05)
    assert np.mean(rejected) == pytest.approx(0.05, abs=0.02)


@pytest.mark.parametrize("patients", [20, 120])
def test_mcnemar_rejects_one_in_twenty_with_groups(patients):
    """As if they were independent, five images that a model gets right or wrong together would make it reject often."""
    rng = np.random.default_rng(patients)
    groups = np.repeat(np.arange(patients), 5)
    rejected, careless = [], []
    for _ in range(1000):
        seen = rng.normal(size=(2, patients)).repeat(5, axis=1)
        first, second = seen + 0.4 * rng.normal(size=seen.shape) > -0.5
        rejected.append(compare_mcnemar(first, second, groups) < 0.05)
        careless.append(compare_mcnemar(first, second) < 0.05)
    assert 0.025 < np.mean(rejected) < 0.065
    assert np.mean(careless) > 0.2


@pytest.mark.parametrize("discordant", [1, 2, 5, 6, 11, 24, 25, 60])
def test_mcnemar_never_rejects_too_often(discordant):
    size = 0.0
    for b in range(discordant + 1):
        first = np.arange(discordant) < b
        size += binom.pmf(b, discordant, 0.5) * (compare_mcnemar(first, ~first) <= 0.05)
    assert size <= 0.05


@pytest.mark.parametrize("count", [1, 2, 7, 21])
def test_holm_equals_statsmodels(count):
    p_values = np.round(np.random.default_rng(count).random(count) ** 3, 2)  # some alike
    np.testing.assert_allclose(correct_holm(p_values), multipletests(p_values, method="holm")[1], atol=1e-12)


def test_holm_does_not_count_tests_that_are_not_defined():
    found = correct_holm(np.array([0.01, np.nan, 0.04, 0.03]))
    np.testing.assert_allclose(found, [0.03, np.nan, 0.06, 0.06])
    assert correct_holm(np.array([])).shape == (0,)


def test_an_interval_is_written_with_six_digits_and_nothing_for_what_is_not_known():
    assert describe(np.nan, -0.0, 1 / 3) == {"value": None, "low": 0, "high": 0.333333}
    assert str(describe(0, -0.0, 0)["low"]) == "0.0"
