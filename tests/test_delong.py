"""`statistics.compare_delong`, against the published example, the formulas written out, a jackknife and chance."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import mannwhitneyu, norm

from evaluation.statistics import compare_delong

# Albumin, total protein and Krebs-Goplerud score of 43 patients with ovarian cancer, and whether surgery failed: the
# complete cases of DeLong et al. (1988), as the SAS/STAT User's Guide prints them ("Comparing ROC curves").
OVARIAN = """
3.0 5.8 10 0 3.2 6.3 5 1 3.9 6.8 3 1 2.8 4.8 6 0 3.2 5.8 3 1 0.9 4.0 5 0 2.5 5.7 8 0 1.6 5.6 5 1 3.8 5.7 5 1
3.7 6.7 6 1 3.2 5.4 4 1 3.8 6.6 6 1 4.1 6.6 5 1 3.6 5.7 5 1 4.3 7.0 4 1 3.6 6.7 4 0 2.3 4.4 6 1 4.2 7.6 4 0
4.0 6.6 6 0 3.5 5.8 6 1 3.8 6.8 7 1 3.0 4.7 8 0 4.5 7.4 5 1 3.7 7.4 5 1 3.1 6.6 6 1 4.1 8.2 6 1 4.3 7.0 5 1
4.3 6.5 4 1 3.2 5.1 5 1 2.6 4.7 6 1 3.3 6.8 6 0 1.7 4.0 7 0 3.7 6.1 5 1 3.3 6.3 7 1 4.2 7.7 6 1 3.5 6.2 5 1
2.9 5.7 9 0 2.1 4.8 7 1 2.8 6.2 8 0 4.0 7.0 7 1 3.3 5.7 6 1 3.7 6.9 5 1 3.6 6.6 5 1
"""


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
