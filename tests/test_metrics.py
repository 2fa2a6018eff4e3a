import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as oracle

from evaluation.metrics import LABEL_METRICS, METRICS, measure
from xray_models.calibration import calibration_error


def draw(seed: int, n: int = 150, classes: int = 4, digits: int = 1):
    """Coarse probabilities, so that scores tie, with labels that they tell something about, and weights."""
    rng = np.random.default_rng(seed)
    labels = np.r_[np.arange(classes), rng.integers(classes, size=n - classes)]
    logits = np.round(rng.normal(size=(n, classes)) + 1.2 * np.eye(classes)[labels], digits)
    probs = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return probs, labels, rng.integers(0, 4, size=n).astype(float) + 0.25


def one_against_rest(score):
    def macro(probs, labels, weights):
        values = [score(labels == k, probs[:, k], sample_weight=weights) for k in range(probs.shape[1])]
        return np.mean(values)

    return macro


def classified(score, **options):
    return lambda probs, labels, weights: score(labels, probs.argmax(axis=1), sample_weight=weights, **options)


def brier(probs, labels, weights):
    return oracle.brier_score_loss(labels, probs, sample_weight=weights, labels=range(4), scale_by_half=False)


ORACLES = {
    "accuracy": classified(oracle.accuracy_score),
    "balanced_accuracy": classified(oracle.balanced_accuracy_score),
    "macro_f1": classified(oracle.f1_score, average="macro"),
    "mcc": classified(oracle.matthews_corrcoef),
    "auroc": one_against_rest(oracle.roc_auc_score),
    "auprc": one_against_rest(oracle.average_precision_score),
    "brier": brier,
    "overconfidence": lambda probs, labels, weights: (
        np.average(probs.max(axis=1), weights=weights)
        - oracle.accuracy_score(labels, probs.argmax(axis=1), sample_weight=weights)
    ),
    "nll": lambda probs, labels, weights: oracle.log_loss(labels, probs, sample_weight=weights),
}


@pytest.mark.parametrize("name", sorted(set(METRICS) - {"ece"}))
def test_metrics_equal_scikit_learn(name):
    probs, labels, weights = draw(1)
    assert METRICS[name](probs, labels) == pytest.approx(ORACLES[name](probs, labels, None), abs=1e-12)
    several = METRICS[name](probs, labels, np.stack([weights, np.ones_like(weights)]))
    assert several[0] == pytest.approx(ORACLES[name](probs, labels, weights), abs=1e-12)
    assert several[1] == pytest.approx(METRICS[name](probs, labels), abs=1e-12)


def test_label_metrics_equal_scikit_learn():
    probs, labels, weights = draw(2)
    predicted = probs.argmax(axis=1)
    for k in range(4):
        truth, called = labels == k, predicted == k
        recall = oracle.recall_score(truth, called, sample_weight=weights)
        assert LABEL_METRICS["sensitivity"](probs, labels, weights[None])[0, k] == pytest.approx(recall)
        other = oracle.recall_score(~truth, ~called, sample_weight=weights)
        assert LABEL_METRICS["specificity"](probs, labels, weights[None])[0, k] == pytest.approx(other)
        precision = oracle.precision_score(truth, called, sample_weight=weights)
        assert LABEL_METRICS["ppv"](probs, labels, weights[None])[0, k] == pytest.approx(precision)
        spared = oracle.precision_score(~truth, ~called, sample_weight=weights)
        assert LABEL_METRICS["npv"](probs, labels, weights[None])[0, k] == pytest.approx(spared)
        area = oracle.roc_auc_score(truth, probs[:, k], sample_weight=weights)
        assert LABEL_METRICS["auroc_by_label"](probs, labels, weights[None])[0, k] == pytest.approx(area)
        average = oracle.average_precision_score(truth, probs[:, k], sample_weight=weights)
        assert LABEL_METRICS["auprc_by_label"](probs, labels, weights[None])[0, k] == pytest.approx(average)


@pytest.mark.parametrize("name", sorted(set(METRICS) - {"ece"}))
def test_a_label_of_a_single_image_counts_as_scikit_learn_has_it(name):
    probs, labels, _ = draw(9)
    rare = np.r_[np.flatnonzero(labels != 3), np.flatnonzero(labels == 3)[:1]]
    expected = ORACLES[name](probs[rare], labels[rare], None)
    assert METRICS[name](probs[rare], labels[rare]) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("called", [0, 1])
def test_mcc_of_answers_that_are_all_the_same_is_0(called):
    probs = np.tile(np.eye(2)[called], (6, 1))
    labels = np.array([0, 0, 1, 1, 1, 1])
    assert METRICS["mcc"](probs, labels) == oracle.matthews_corrcoef(labels, np.full(6, called)) == 0


def test_the_log_loss_of_a_label_held_impossible_is_bounded():
    impossible = np.array([[1.0, 0.0], [0.5, 0.5]])
    assert METRICS["nll"](impossible, np.array([1, 0])) == pytest.approx((-np.log(1e-12) + np.log(2)) / 2)


def test_all_at_once_is_one_by_one():
    probs, labels, weights = draw(7)
    given = np.stack([weights, np.ones_like(weights)]).astype(np.float32)
    alone = {name: metric(probs, labels) for name, metric in (METRICS | LABEL_METRICS).items()}
    together = measure(probs, labels)
    assert list(together) == list(alone)
    for name, metric in (METRICS | LABEL_METRICS).items():
        np.testing.assert_array_equal(together[name], alone[name])
        np.testing.assert_array_equal(measure(probs, labels, given)[name], metric(probs, labels, given))


def test_calibration_error_is_the_one_that_is_stored_with_the_weights():
    probs, labels, _ = draw(3)
    plain = METRICS["ece"](probs, labels)
    assert plain == pytest.approx(calibration_error(probs, labels), abs=1e-12)
    assert METRICS["ece"](probs, labels, np.ones((1, len(labels))))[0] == plain


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), classes=st.integers(2, 5))
def test_weights_count_images(seed, classes):
    """A whole-number weight is the same as so many copies of the image."""
    probs, labels, weights = draw(seed, n=40, classes=classes)
    times = weights.astype(int) + (np.arange(len(labels)) < classes)  # keeps every label
    copies = np.repeat(np.arange(len(labels)), times)
    for name, metric in (METRICS | LABEL_METRICS).items():
        if name == "ece":
            continue  # bins of the copies lie elsewhere
        weighted = metric(probs, labels, times[None].astype(np.float32))[0]
        np.testing.assert_allclose(weighted, metric(probs[copies], labels[copies]), atol=2e-5, err_msg=name)


def test_two_labels_give_the_positive_label_s_area():
    probs, labels, _ = draw(4, classes=2)
    assert METRICS["auroc"](probs, labels) == pytest.approx(oracle.roc_auc_score(labels, probs[:, 1]))


def test_a_resample_without_a_label_is_undefined_for_macro_means():
    probs, labels, weights = draw(5)
    lacking = np.stack([weights, np.where(labels == 2, 0, weights)])
    for name in ("balanced_accuracy", "macro_f1", "auroc", "auprc"):
        assert np.isnan(METRICS[name](probs, labels, lacking)).tolist() == [False, True]
    assert np.isfinite(METRICS["accuracy"](probs, labels, lacking)).all()
    assert np.isnan(LABEL_METRICS["sensitivity"](probs, labels, lacking)[1]).tolist() == [
        False,
        False,
        True,
        False,
    ]


def test_a_label_that_never_occurs_is_left_out_of_macro_means():
    probs, labels, _ = draw(6)
    kept = labels != 3
    expected = np.mean([oracle.roc_auc_score(labels[kept] == k, probs[kept, k]) for k in range(3)])
    assert METRICS["auroc"](probs[kept], labels[kept]) == pytest.approx(expected)
    for name in ("sensitivity", "auroc_by_label", "auprc_by_label"):
        assert np.isnan(LABEL_METRICS[name](probs[kept], labels[kept])).tolist() == [False, False, False, True], name


@pytest.mark.parametrize("kept", [[0], [0, 4, 8]])
def test_one_image_and_one_label_leave_areas_undefined(kept):
    probs, labels, _ = draw(8)
    found = measure(probs[kept], np.zeros(len(kept), int))
    assert np.isnan(found["auroc"])
    assert np.isnan(found["specificity"][0])
    assert found["auprc_by_label"][0] == 1
    assert found["accuracy"] == found["sensitivity"][0]
