import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluation.operating import RULES, Points, choose_points, choose_thresholds, deal_folds, judge_points

SENSITIVITY, SPECIFICITY, YOUDEN = range(len(RULES))


def draw(seed: int, n: int = 300, classes: int = 3, digits: int = 2):
    """Coarse probabilities, so that scores tie, with labels that they tell something about."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(classes, size=n)
    probs = rng.dirichlet(np.ones(classes), size=n) + 0.5 * np.eye(classes)[labels]
    return np.round(probs / probs.sum(axis=1, keepdims=True), digits), labels, rng.integers(n // 2, size=n)


def judge(scores, truth, threshold):
    called = scores >= threshold
    return called[truth].mean(), (~called)[~truth].mean()


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 10_000), digits=st.integers(1, 3))
def test_no_other_threshold_keeps_the_rule_better(seed, digits):
    probs, labels, _ = draw(seed, n=80, digits=digits)
    scores, truth = probs[:, 0], labels == 0
    chosen = choose_thresholds(scores, truth)
    tried = {threshold: judge(scores, truth, threshold) for threshold in np.unique(scores)}
    sensitivity, specificity = tried[chosen[SENSITIVITY]]
    assert sensitivity >= 0.95
    assert specificity == max(spec for sens, spec in tried.values() if sens >= 0.95)
    kept = [(sens, spec) for sens, spec in tried.values() if spec >= 0.95]
    if kept:
        sensitivity, specificity = tried[chosen[SPECIFICITY]]
        assert specificity >= 0.95
        assert sensitivity == max(sens for sens, _ in kept)
    else:
        assert np.isnan(chosen[SPECIFICITY])
    assert sum(tried[chosen[YOUDEN]]) == pytest.approx(max(map(sum, tried.values())))


def test_thresholds_of_a_sample_done_by_hand():
    scores = np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8])
    truth = np.array([0, 0, 0, 1, 0, 1, 1, 1], bool)
    assert choose_thresholds(scores, truth).tolist() == [0.4, 0.6, 0.6]


def test_exactly_95_per_cent_is_enough():
    scores = np.arange(40) / 40
    truth = np.arange(40) % 2 == 1
    chosen = choose_thresholds(scores, truth)
    assert judge(scores, truth, chosen[SENSITIVITY])[0] == 0.95
    assert judge(scores, truth, chosen[SPECIFICITY])[1] == 0.95


def test_a_rule_that_no_threshold_keeps_gives_none():
    assert np.isnan(choose_thresholds(np.full(10, 0.5), np.arange(10) < 5)).tolist() == [False, True, False]
    assert np.isnan(choose_thresholds(np.arange(4.0), np.ones(4, bool))).all()
    assert np.isnan(choose_thresholds(np.arange(4.0), np.zeros(4, bool))).all()


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), groups=st.integers(1, 60))
def test_groups_stay_in_one_fold_and_folds_are_even(seed, groups):
    rng = np.random.default_rng(seed)
    member = rng.permutation(np.r_[np.arange(groups), rng.integers(groups, size=40)])
    labels = rng.integers(3, size=groups)[member]
    folds = deal_folds(labels, member)
    for group in range(groups):
        assert len(np.unique(folds[member == group])) == 1
    first = np.unique(member, return_index=True)[1]
    sizes = np.bincount(folds[first])
    assert len(sizes) == min(5, groups)
    assert np.ptp(sizes) <= 1
    for label in range(3):
        assert np.ptp(np.bincount(folds[first][labels[first] == label], minlength=len(sizes))) <= 1
    order = rng.permutation(len(member))
    assert (deal_folds(labels[order], member[order]) == folds[order]).all()


def test_images_are_called_with_the_threshold_of_the_other_folds():
    probs, labels, groups = draw(1)
    points = choose_points(probs, labels, groups)
    folds = deal_folds(labels, groups)
    for fold in range(5):
        own = folds == fold
        for k in range(3):
            foreign = choose_thresholds(probs[~own, k], labels[~own] == k)
            assert (points.called[own, k] == (probs[own, k][:, None] >= foreign)).all()
            assert (points.thresholds[k] == choose_thresholds(probs[:, k], labels == k)).all()


def test_thresholds_chosen_elsewhere_do_not_flatter():
    """Scores that tell nothing: on its own images the best threshold looks useful, held out it does not."""
    rng = np.random.default_rng(2)
    own, held_out = [], []
    for _ in range(60):
        scores, labels = rng.random(60), np.arange(60) % 2
        points = choose_points(np.stack([1 - scores, scores], axis=1), labels, np.arange(60))
        own.append(sum(judge(scores, labels == 1, points.thresholds[1, YOUDEN])))
        worth = judge_points(points, labels)
        held_out.append(worth.sensitivity[1, YOUDEN] + worth.specificity[1, YOUDEN])
    assert np.mean(own) > 1.1
    assert np.mean(held_out) < 1.03


def test_worth_counts_calls_and_weights_count_images():
    probs, labels, groups = draw(3)
    points = choose_points(probs, labels, groups)
    times = np.random.default_rng(3).integers(0, 4, size=len(labels))
    copies = np.repeat(np.arange(len(labels)), times)
    weighted = judge_points(points, labels, np.stack([times, np.ones_like(times)]).astype(np.float32))
    plain = judge_points(points, labels)
    for k in range(3):
        called, truth = points.called[copies, k, YOUDEN], labels[copies] == k
        expected = (called[truth].mean(), (~called[~truth]).mean(), truth[called].mean(), (~truth[~called]).mean())
        assert [part[0, k, YOUDEN] for part in weighted] == pytest.approx(expected, abs=1e-6)
        assert [part[1, k, YOUDEN] for part in weighted] == pytest.approx([part[k, YOUDEN] for part in plain], abs=1e-6)


def test_images_without_a_threshold_are_not_judged():
    called = np.array([True, False, True, False])[:, None, None]
    judged = np.array([True, True, False, True])[:, None, None]
    worth = judge_points(Points(np.array([[0.5]]), called, judged), np.array([0, 1, 1, 0]))
    assert [float(part[0, 0]) for part in worth] == [0.5, 1, 1, 0.5]


@pytest.mark.parametrize("groups", [np.zeros(30), np.arange(30) % 2, np.arange(30)])
def test_few_groups_and_absent_labels_give_nan(groups):
    probs, labels, _ = draw(4, n=30)
    points = choose_points(probs, np.zeros(30, int), groups)
    assert np.isnan(points.thresholds).all()
    assert all(np.isnan(part).all() for part in judge_points(points, labels))
    points = choose_points(probs, labels, groups)
    assert not np.isnan(points.thresholds[:, YOUDEN]).any()
    assert points.judged.any() == (len(np.unique(groups)) > 1)


def test_one_image_gives_nan():
    points = choose_points(np.array([[0.3, 0.7]]), np.array([1]), np.array(["a"]))
    assert np.isnan(points.thresholds).all()
    assert points.called.shape == (1, 2, len(RULES))
