import warnings

import numpy as np
import pytest
from scipy.stats import norm, spearmanr

from evaluation import faithfulness as faith


def linear(weights):
    """A model whose score is a weighted sum of pixels."""
    return lambda images: (images * weights).sum(axis=(1, 2, 3))


def test_ranks_run_from_the_largest_value_and_ties_are_drawn():
    heatmap = np.array([[0.1, 0.9], [0.5, 0.0]])
    assert faith.rank_pixels(heatmap).tolist() == [[2, 0], [1, 3]]
    flat = np.zeros((8, 8))
    assert sorted(faith.rank_pixels(flat).ravel()) == list(range(64))
    assert (faith.rank_pixels(flat, 1) != faith.rank_pixels(flat, 2)).any()
    assert (faith.rank_pixels(flat, 1) == faith.rank_pixels(flat, 1)).all()


def test_insertion_and_deletion_of_a_linear_model_equal_the_sums_by_hand():
    """Contributions 4, 3, 2, 1 in the map's order: insertion runs 0 4 7 9 10, deletion 10 6 3 1 0."""
    weights = np.array([[[3.0, 1.0], [4.0, 2.0]]])
    image, black = np.ones((1, 2, 2)), np.zeros((1, 2, 2))
    ranks = faith.rank_pixels(weights[0])
    insertion = linear(weights)(faith.compose_steps(black, image, ranks, 4))
    deletion = linear(weights)(faith.compose_steps(image, black, ranks, 4))
    assert insertion.tolist() == [0, 4, 7, 9, 10]
    assert deletion.tolist() == [10, 6, 3, 1, 0]
    assert faith.area_under(insertion) == pytest.approx((0 / 2 + 4 + 7 + 9 + 10 / 2) / 4)
    assert faith.area_under(deletion) == pytest.approx((10 / 2 + 6 + 3 + 1 + 0 / 2) / 4)
    worst = faith.rank_pixels(-weights[0])
    assert faith.area_under(linear(weights)(faith.compose_steps(black, image, worst, 4))) == pytest.approx(3.75)


def test_steps_are_equal_and_channels_move_together():
    ranks = np.arange(12).reshape(3, 4)
    steps = faith.compose_steps(np.zeros((3, 3, 4)), np.ones((3, 3, 4)), ranks, 5)
    assert steps.shape == (6, 3, 3, 4)
    assert steps.sum(axis=(2, 3)).tolist() == [[k] * 3 for k in (0, 2, 5, 7, 10, 12)]


def test_a_perfect_map_wins_the_games_and_an_inverted_one_loses_them():
    region = np.zeros((40, 60), dtype=bool)
    region[20:30, 30:45] = True
    distance = faith.measure_distance(region)
    perfect = region.astype(np.float32)
    assert faith.points_into(perfect, distance) == 1
    assert faith.energy_inside(perfect, region) == 1
    assert faith.points_into(1 - perfect, distance) == 0
    assert faith.energy_inside(1 - perfect, region) == 0


def test_a_peak_just_outside_counts_within_the_tolerance():
    region = np.zeros((100, 100), dtype=bool)
    region[40:60, 40:60] = True
    distance = faith.measure_distance(region)
    for row, hit in ((36, 0), (37, 1)):
        heatmap = np.zeros((100, 100))
        heatmap[row, 50] = 1
        assert faith.points_into(heatmap, distance) == hit
    assert faith.pointing_chance(distance, 0) == 0.04
    assert faith.pointing_chance(distance) == pytest.approx((20 * 20 + 4 * 3 * 20 + 4 * 4) / 1e4, abs=1e-3)


def test_an_even_map_has_the_energy_of_chance_and_a_blank_one_has_none():
    region = np.zeros((10, 10), dtype=bool)
    region[:3, :4] = True
    distance = faith.measure_distance(region)
    assert faith.energy_inside(np.full((10, 10), 0.3), region) == pytest.approx(0.12)
    with warnings.catch_warnings(action="error"):
        assert np.isnan(faith.energy_inside(np.zeros((10, 10)), region))
    assert faith.points_into(np.zeros((10, 10)), distance) == 0
    against = np.where(region, -5.0, 1.0)  # what speaks against the label does not count
    assert faith.energy_inside(against, region) == 0


def test_the_naive_map_points_to_the_middle():
    middle = faith.draw_middle((41, 61))
    assert np.unravel_index(middle.argmax(), middle.shape) == (20, 30)
    assert middle[20, 30] == pytest.approx(1)
    for height, width in ((41, 61), (8, 20)):
        rows, columns = (norm.pdf((np.arange(n) + 0.5) / n, 0.5, 1 / 4) for n in (height, width))
        expected = np.outer(rows, columns) / norm.pdf(0, 0, 1 / 4) ** 2
        np.testing.assert_allclose(faith.draw_middle((height, width)), expected, rtol=1e-5)


def test_random_maps_are_smooth_and_drawn_by_their_seed():
    one, same, other = (faith.draw_random_map((70, 50), seed) for seed in (1, 1, 2))
    assert one.shape == (70, 50)
    assert (one == same).all()
    assert abs(np.corrcoef(one.ravel(), other.ravel())[0, 1]) < 0.5
    assert np.abs(np.diff(one, axis=0)).max() < 0.3 * np.ptp(one)


def test_blurring_keeps_the_mean_and_takes_the_detail():
    plane = np.random.default_rng(0).normal(size=(3, 80, 80))
    blurred = faith.blur_plane(plane)
    assert blurred.mean() == pytest.approx(plane.mean(), abs=0.01)
    assert blurred.std() < 0.2 * plane.std()


def test_what_is_blurred_spreads_over_a_twentieth_of_the_shorter_side():
    point = np.zeros((1, 100, 161))
    point[0, 50, 80] = 1
    blurred = faith.blur_plane(point)[0]
    for axis, middle in ((0, 50), (1, 80)):
        share = blurred.sum(axis=1 - axis)
        spread = np.sqrt((share * (np.arange(len(share)) - middle) ** 2).sum())
        assert spread == pytest.approx(100 / 20, rel=0.01)


def test_rank_correlation_is_spearmans():
    rng = np.random.default_rng(0)
    one, other = rng.random((16, 16)), rng.random((16, 16))
    assert faith.correlate_ranks(one, other) == pytest.approx(spearmanr(one.ravel(), other.ravel()).statistic)
    assert faith.correlate_ranks(one, one**3) == pytest.approx(1)
    flat = np.full((16, 16), 3.0)
    with warnings.catch_warnings(action="error"):  # scipy's, of what is constant
        assert np.isnan([faith.correlate_ranks(one, flat), faith.correlate_ranks(flat, one)]).all()


def test_the_overlap_of_tops():
    one = np.arange(100.0).reshape(10, 10)  # its top fifth are the last two rows
    assert faith.overlap_tops(one, one) == 1
    assert faith.overlap_tops(one, one[::-1]) == 0
    shifted = np.roll(one, 1, axis=0)  # its top fifth are the last row and the first
    assert faith.overlap_tops(one, shifted) == pytest.approx(10 / 30)
    narrow = np.zeros((10, 10))
    narrow[9] = 1  # ten positive cells: the others never count
    assert faith.overlap_tops(one, narrow) == 0.5
    assert np.isnan(faith.overlap_tops(np.zeros((10, 10)), -one))


def test_tops_that_have_nothing_in_common_overlap_as_chance_says():
    rng = np.random.default_rng(0)
    found = [faith.overlap_tops(rng.random((16, 16)), rng.random((16, 16))) for _ in range(300)]
    assert np.mean(found) == pytest.approx(faith.CHANCE_OVERLAP, abs=0.01)


def test_a_shrunk_map_holds_the_means_of_its_cells():
    heatmap = np.random.default_rng(0).random((64, 32)).astype(np.float32)
    expected = heatmap.reshape(16, 4, 16, 2).mean(axis=(1, 3))
    np.testing.assert_allclose(faith.shrink_map(heatmap), expected, atol=1e-6)
