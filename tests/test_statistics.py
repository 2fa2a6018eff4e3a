from itertools import product

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom, chi2, mannwhitneyu, norm
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests

from evaluation.resamples import mean_of
from evaluation.statistics import (
    Interval,
    bootstrap,
    compare_delong,
    compare_mcnemar,
    correct_holm,
    reflect,
    resample_groups,
)

# Albumin, total protein and Krebs-Goplerud score of 43 patients with ovarian cancer, and whether surgery failed: the
# complete cases of DeLong et al. (1988), as the SAS/STAT User's Guide prints them ("Comparing ROC curves").
OVARIAN = """
3.0 5.8 10 0 3.2 6.3 5 1 3.9 6.8 3 1 2.8 4.8 6 0 3.2 5.8 3 1 0.9 4.0 5 0 2.5 5.7 8 0 1.6 5.6 5 1 3.8 5.7 5 1
3.7 6.7 6 1 3.2 5.4 4 1 3.8 6.6 6 1 4.1 6.6 5 1 3.6 5.7 5 1 4.3 7.0 4 1 3.6 6.7 4 0 2.3 4.4 6 1 4.2 7.6 4 0
4.0 6.6 6 0 3.5 5.8 6 1 3.8 6.8 7 1 3.0 4.7 8 0 4.5 7.4 5 1 3.7 7.4 5 1 3.1 6.6 6 1 4.1 8.2 6 1 4.3 7.0 5 1
4.3 6.5 4 1 3.2 5.1 5 1 2.6 4.7 6 1 3.3 6.8 6 0 1.7 4.0 7 0 3.7 6.1 5 1 3.3 6.3 7 1 4.2 7.7 6 1 3.5 6.2 5 1
2.9 5.7 9 0 2.1 4.8 7 1 2.8 6.2 8 0 4.0 7.0 7 1 3.3 5.7 6 1 3.7 6.9 5 1 3.6 6.6 5 1
"""


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


def brute_components(scores, truth):
    """DeLong's components from all pairs of images, in O(N²)."""
    above = (scores[truth][:, None] > scores[~truth]) + 0.5 * (scores[truth][:, None] == scores[~truth])
    return above.mean(axis=1), above.mean(axis=0)


def brute_obuchowski(first, second, truth, groups):
    """The formulas of Obuchowski (1997) one by one: variance of each area, then their covariance."""
    names = np.unique(groups)
    (x1, y1), (x2, y2) = (brute_components(scores, truth) for scores in (first, second))

    def sums(components, side):
        own = groups[truth if side == "x" else ~truth]
        return np.array([(components[own == name] - components.mean()).sum() for name in names])

    m, n = truth.sum(), (~truth).sum()
    with_x, with_y, all_ = len(np.unique(groups[truth])), len(np.unique(groups[~truth])), len(names)

    def covariance(xa, ya, xb, yb):
        s10 = with_x / ((with_x - 1) * m) * sums(xa, "x") @ sums(xb, "x")
        s01 = with_y / ((with_y - 1) * n) * sums(ya, "y") @ sums(yb, "y")
        s11 = all_ / (all_ - 1) * (sums(xa, "x") @ sums(yb, "y") + sums(xb, "x") @ sums(ya, "y"))
        return s10 / m + s01 / n + s11 / (m * n)

    variance = covariance(x1, y1, x1, y1) + covariance(x2, y2, x2, y2) - 2 * covariance(x1, y1, x2, y2)
    return 2 * norm.sf(abs(x1.mean() - x2.mean()) / np.sqrt(variance))


def test_delong_equals_the_published_example():
    """SAS/STAT: areas 0.7258 (K-G) and 0.6478 (total protein), difference -0.0780, its error 0.1046, p 0.4561."""
    albumin, protein, score, failed = np.array(OVARIAN.split(), float).reshape(-1, 4).T
    truth = failed == 1
    assert [len(truth), truth.sum()] == [43, 31]
    areas = [brute_components(scores, truth)[0].mean() for scores in (10 - score, protein)]
    assert areas == pytest.approx([0.7258, 0.6478], abs=5e-5)
    assert compare_delong(protein, 10 - score, truth) == pytest.approx(0.4561, abs=5e-5)
    assert compare_delong(10 - score, protein, truth) == compare_delong(protein, 10 - score, truth)
    expected = brute_obuchowski(albumin, 10 - score, truth, np.arange(43))
    assert compare_delong(albumin, 10 - score, truth) == pytest.approx(expected)


def draw_scores(rng, n=120, levels=12):
    truth = np.arange(n) % 3 == 0
    shared = rng.normal(size=n)
    return [np.round((shared + rng.normal(size=n) + truth) * levels / 6) for _ in range(2)], truth


def test_delong_s_components_are_those_of_the_mann_whitney_statistic():
    (scores, _), truth = draw_scores(np.random.default_rng(1))
    shares, others = brute_components(scores, truth)
    area = mannwhitneyu(scores[truth], scores[~truth]).statistic / (truth.sum() * (~truth).sum())
    assert [shares.mean(), others.mean()] == pytest.approx([area, area])


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), size=st.integers(1, 5))
def test_delong_equals_the_formulas_written_out(seed, size):
    """One image a group is DeLong's own formula; more are Obuchowski's, some groups with both kinds of image."""
    rng = np.random.default_rng(seed)
    (first, second), truth = draw_scores(rng)
    groups = rng.permutation(np.arange(120) // size)
    expected = brute_obuchowski(first, second, truth, groups)
    assert compare_delong(first, second, truth, groups) == pytest.approx(expected, rel=1e-9)
    assert compare_delong(np.exp(first / 9), second**3, truth, groups) == pytest.approx(expected, rel=1e-9)
    if size == 1:
        assert compare_delong(first, second, truth) == pytest.approx(expected, rel=1e-9)


def draw_panel(rng, groups=60, size=3, gap=0.0):
    """Two models' (N, 3) scores of groups that share a label and what each model sees in them."""
    labels = np.repeat(rng.permutation(np.arange(groups) % 3), size)
    truth = labels[:, None] == np.arange(3)

    def say(skill):
        seen = np.repeat(rng.normal(size=(groups, 3)), size, axis=0)
        return skill * truth + seen + 0.5 * rng.normal(size=truth.shape)

    return say(1.2), say(1.2 + gap), truth, np.repeat(np.arange(groups), size)


def test_the_spread_of_several_labels_equals_a_jackknife_over_groups():
    first, second, truth, groups = draw_panel(np.random.default_rng(2), groups=150, gap=0.4)

    def gap(kept):
        areas = [
            [brute_components(scores[kept, k], truth[kept, k])[0].mean() for k in range(3)]
            for scores in (first, second)
        ]
        return np.mean(areas[0]) - np.mean(areas[1])

    left_out = np.array([gap(groups != group) for group in range(150)])
    spread = np.sqrt(149 / 150 * ((left_out - left_out.mean()) ** 2).sum())
    expected = norm.isf(compare_delong(first, second, truth, groups) / 2)
    assert abs(gap(groups >= 0)) / spread == pytest.approx(expected, rel=0.03)


def test_delong_rejects_one_in_twenty_where_nothing_differs():
    rng = np.random.default_rng(3)
    rejected = []
    for _ in range(2000):
        truth = np.arange(150) % 3 == 0
        first, second = 1.2 * truth + rng.normal(size=150) + rng.normal(size=(2, 150))
        rejected.append(compare_delong(first, second, truth) < 0.05)
    assert np.mean(rejected) == pytest.approx(0.05, abs=0.015)


def test_delong_rejects_one_in_twenty_with_groups_and_several_labels():
    """As if they were independent, images of one group would make it reject far more often."""
    rng = np.random.default_rng(4)
    rejected, careless = [], []
    for draw in range(2000):
        first, second, truth, groups = draw_panel(rng, groups=90)
        rejected.append(compare_delong(first, second, truth, groups) < 0.05)
        if draw < 300:
            careless.append(compare_delong(first, second, truth) < 0.05)
    assert np.mean(rejected) == pytest.approx(0.05, abs=0.015)
    assert np.mean(careless) > 0.15


def test_delong_says_when_it_cannot_tell():
    scores, truth = np.array([0.1, 0.4, 0.35, 0.8, 0.9, 0.2]), np.array([0, 0, 0, 1, 1, 1], bool)
    assert compare_delong(scores, scores, truth) == 1
    assert np.isnan(compare_delong(scores, -scores, np.ones(6, bool)))
    assert np.isnan(compare_delong(scores, -scores, np.arange(6) == 3))
    assert np.isnan(compare_delong(truth * 1.0, np.zeros(6), truth))  # 1 against 0.5, and no spread in either
    assert np.isnan(compare_delong(scores, -scores, truth, np.zeros(6)))
    assert np.isnan(compare_delong(scores[:1], scores[:1], truth[:1]))
    twice = compare_delong(
        np.stack([scores, scores], 1), np.stack([-scores, scores], 1), np.stack([truth, np.zeros(6, bool)], 1)
    )
    assert twice == compare_delong(scores, -scores, truth)  # a label that no image has is left out
