import numpy as np
import pytest

from evaluation import chance
from evaluation.chance import expect_ece
from evaluation.metrics import METRICS


def draw(rng, n, repeats=1):
    """Confidences of two labels, and truths that are as likely as those say; `repeats` copies of each image."""
    sure = rng.uniform(0.55, 0.99, n)
    truth = (rng.random(n) > sure).astype(int)
    probs = np.stack([sure, 1 - sure], axis=1)
    return np.repeat(probs, repeats, axis=0), np.repeat(truth, repeats), np.repeat(np.arange(n), repeats)


@pytest.mark.parametrize("repeats", [1, 4])
def test_the_errors_of_calibrated_probabilities_are_those_that_are_expected(repeats):
    """95 % of them lie in the range, and its mean is theirs; copies in one group widen both."""
    rng = np.random.default_rng(0)
    errors, inside, means = [], [], []
    for _ in range(150):
        probs, truth, groups = draw(rng, 300, repeats)
        errors.append(METRICS["ece"](probs, truth))
        mean, low, high = expect_ece(probs, groups, draws=200)
        means.append(mean)
        inside.append(low <= errors[-1] <= high)
    assert np.mean(means) == pytest.approx(np.mean(errors), rel=0.06)
    assert 0.89 <= np.mean(inside) <= 0.99


def test_copies_that_count_as_images_of_their_own_would_hide_chance():
    probs, _, groups = draw(np.random.default_rng(1), 100, 4)
    assert expect_ece(probs, np.arange(len(probs))).high < expect_ece(probs, groups).value


def test_too_sure_a_model_is_beyond_chance():
    rng = np.random.default_rng(2)
    probs, truth, groups = draw(rng, 600)
    sharper = probs**3 / (probs**3).sum(axis=1, keepdims=True)
    assert METRICS["ece"](sharper, truth) > expect_ece(sharper, groups).high
    assert METRICS["overconfidence"](sharper, truth) > 0.05


def test_the_range_holds_the_middle_of_the_errors_that_chance_makes(monkeypatch):
    """Against draws one by one; the memory that may be used at once changes nothing."""
    rng = np.random.default_rng(4)
    probs, _, groups = draw(rng, 120)
    errors = [METRICS["ece"](probs, (rng.random(120) > probs[:, 0]).astype(int)) for _ in range(3000)]
    right = [np.mean(errors), *np.quantile(errors, [0.025, 0.975])]
    found = expect_ece(probs, groups)
    assert list(found) == pytest.approx(right, rel=0.08)
    monkeypatch.setattr(chance, "_BLOCK", 120 * 300)
    assert expect_ece(probs, groups) == pytest.approx(found, rel=1e-9)


def test_the_same_seed_gives_the_same_range():
    probs, _, groups = draw(np.random.default_rng(3), 50)
    assert expect_ece(probs, groups, 5) == expect_ece(probs, groups, 5) != expect_ece(probs, groups, 6)
