import numpy as np
import pytest
from cleanlab.rank import get_label_quality_scores

from evaluation.predictions import CONSENSUS
from evaluation.summary import summarise
from evaluation.worklist import (
    BUDGETS,
    ORDERS,
    build_worklist_section,
    count_found,
    flip_labels,
    judge_worklist,
    label_quality,
    list_worklist,
)
from tests.test_report import TASK, judge, make_table


def draw(count=600, classes=4, seed=0, strength=3.0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, count)
    logits = rng.normal(size=(count, classes)) + strength * np.eye(classes)[labels] * rng.uniform(0.5, 1, (count, 1))
    return np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True), labels


def test_label_quality_is_cleanlab_s():
    probs, labels = draw(strength=1.0)
    expected = get_label_quality_scores(labels, probs, method="self_confidence", adjust_pred_probs=True)
    assert label_quality(probs, labels) == pytest.approx(expected, abs=1e-6)


def test_label_quality_finds_flipped_labels():
    probs, labels = draw(strength=6.0)
    noise = flip_labels(labels, 4, 0.1, seed=1)
    found = count_found(-label_quality(probs, noise.labels), noise.flipped)
    assert found[BUDGETS.index(0.15)] > 0.75


def test_flipped_labels_are_as_many_as_asked_and_all_wrong():
    truth = np.arange(200) % 3
    noise = flip_labels(truth, 3, 0.1, seed=0)
    assert noise.flipped.sum() == 20
    assert ((noise.labels != truth) == noise.flipped).all()
    assert set(noise.labels) <= {0, 1, 2}
    assert (flip_labels(truth, 3, 0.1, seed=0).labels == noise.labels).all()


def test_what_is_found_by_hand():
    """Ten images, errors first, third and last on the list: 1/3 after a tenth, 2/3 after 30 %, all at the end."""
    score = -np.arange(10.0)
    wrong = np.isin(np.arange(10), (0, 2, 9))
    found = dict(zip(BUDGETS, count_found(score, wrong), strict=True))
    assert found[0.01] == 0
    assert found[0.1] == pytest.approx(1 / 3)
    assert found[0.3] == pytest.approx(2 / 3)
    assert found[0.75] == pytest.approx(2 / 3)
    assert found[1.0] == 1
    shuffled = np.random.default_rng(0).permutation(10)
    assert count_found(score[shuffled], wrong[shuffled]).tolist() == list(found.values())


def test_a_weight_of_two_is_an_image_twice():
    rng = np.random.default_rng(3)
    score, wrong = rng.normal(size=40), rng.random(40) < 0.3
    weights = rng.integers(0, 3, (5, 40))
    together = count_found(score, wrong, weights.astype(np.float32))
    for row, times in zip(together, weights, strict=True):
        # images of one resample share a budget as a block: the last may be cut
        expected = count_found(np.repeat(score, times), np.repeat(wrong, times))
        assert np.abs(row - expected).max() <= 2 / np.repeat(wrong, times).sum() + 1e-9


@pytest.mark.parametrize("first", [True, False])
def test_scores_that_tie_find_what_chance_finds(first):
    """A hundred images of one score, ten wrong: where those stand among the rows is no finding."""
    wrong = np.arange(100) < 10 if first else np.arange(100) >= 90
    for score in (np.zeros(100), np.where(np.arange(100) % 2, 0.3, 0.1 + 0.2)):  # the second differs by rounding
        assert count_found(score, wrong) == pytest.approx(BUDGETS)
        weights = np.random.default_rng(0).multinomial(100, np.full(100, 0.01), 50)
        assert np.abs(count_found(score, wrong, weights) - BUDGETS).max() < 1e-9


def test_what_is_found_among_some_that_tie_by_hand():
    """One image stands first, wrong; of the next four one is wrong; then five, none wrong."""
    score = np.array([2.0, *[1.0] * 4, 0.5, 0.4, 0.3, 0.2, 0.1])
    wrong = np.isin(np.arange(10), (0, 4))
    found = dict(zip(BUDGETS, count_found(score, wrong), strict=True))
    assert found[0.1] == 0.5
    assert found[0.2] == pytest.approx(0.5 + 0.5 / 4)
    assert found[0.4] == pytest.approx(0.5 + 0.5 * 3 / 4)
    assert found[0.5] == found[1.0] == 1


def test_nothing_wanted_gives_no_number():
    assert np.isnan(count_found(np.arange(5.0), np.zeros(5, bool))).all()


def test_a_random_order_finds_its_share():
    rng = np.random.default_rng(0)
    wrong = rng.random(2000) < 0.1
    found = np.mean([count_found(rng.normal(size=2000), wrong) for _ in range(50)], axis=0)
    assert found == pytest.approx(np.array(BUDGETS), abs=0.02)


def test_disagreement_beats_chance_where_the_models_err():
    table = make_table()
    found = judge_worklist(table, 100, 0, noise=0.1)
    together = table.answers[CONSENSUS]
    assert found["errors"] == int((together.predicted != table.truth).sum())
    place = found["budget"].index(0.2)
    curve = found["errors_found"]["disagreement"]
    assert curve["value"][place] > found["random"][place]
    assert curve["low"][place] <= curve["value"][place] <= curve["high"][place]
    assert set(found["errors_found"]) == set(ORDERS) - {"label_quality"}
    assert found["noise"]["flipped"] == 4
    assert set(found["noise"]["found"]) == set(ORDERS)
    section = build_worklist_section(found, len(table.images))
    captions = [block.caption for block in section.blocks if hasattr(block, "caption")]
    assert len(captions) == 2
    assert "4 labels (10 %)" in captions[1]


def test_one_model_disagrees_with_nobody():
    """Its disagreement is no order, and no sentence speaks of one."""
    table = make_table(models=1)
    found = judge_worklist(table, 100, 0, noise=0.1)
    assert set(found["errors_found"]) == {"entropy"}
    assert set(found["noise"]["found"]) == {"entropy", "label_quality"}
    build_worklist_section(found, len(table.images))
    sentences = " ".join(summarise(TASK, table, judge(table)))
    assert "of which the panel is least sure finds" in sentences
    assert "disagree most" not in sentences


def test_the_list_starts_with_the_most_doubtful():
    table = make_table()
    rows = list_worklist(table)
    assert len(rows) == 40
    assert rows["entropy"].is_monotonic_decreasing
    by_image = dict(zip(table.images, table.disagreement, strict=True))
    assert rows["disagreement"].tolist() == pytest.approx([by_image[image] for image in rows["image"]], abs=1e-6)
    assert rows["label_quality"].between(0, 1).all()
