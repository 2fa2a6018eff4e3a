import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from evaluation.metrics import mean_of
from evaluation.statistics import Interval, bootstrap, compare_mcnemar, resample_groups


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


def test_mcnemar_equals_the_binomial_tail():
    first = np.array([True] * 10 + [False] * 2 + [True] * 30)
    second = np.array([False] * 10 + [True] * 2 + [True] * 30)
    assert compare_mcnemar(first, second) == pytest.approx(2 * (1 + 12 + 66) / 2**12)
    assert compare_mcnemar(second, first) == compare_mcnemar(first, second)
    assert compare_mcnemar(first, first) == 1
