import numpy as np
import pytest
import torch
from scipy.special import softmax
from sklearn.covariance import ShrunkCovariance
from torch import nn

from xray_models import calibration


def overconfident(rng, count, temperature=2.5):
    """Logits whose probabilities are right after division by `temperature`."""
    logits = rng.normal(size=(count, 4)) * 1.5
    labels = np.array([rng.choice(4, p=p) for p in softmax(logits, axis=1)])
    return logits * temperature, labels


def test_temperature_is_found_and_calibrates():
    logits, labels = overconfident(np.random.default_rng(0), 6000)
    temperature = calibration.fit_temperature(logits, labels)
    assert temperature == pytest.approx(2.5, rel=0.1)
    before = calibration.calibration_error(softmax(logits, axis=1), labels)
    after = calibration.calibration_error(softmax(logits / temperature, axis=1), labels)
    assert after < 0.03 < before


def test_a_network_that_is_not_sure_enough_gets_a_temperature_below_1():
    logits, labels = overconfident(np.random.default_rng(5), 3000, temperature=0.4)
    assert calibration.fit_temperature(logits, labels) == pytest.approx(0.4, rel=0.1)


def test_the_temperature_stays_in_its_bounds():
    sure, labels = 50 * np.eye(4), np.arange(4)
    assert 0.05 <= calibration.fit_temperature(sure, labels) < 20
    assert calibration.fit_temperature(sure, (labels + 1) % 4) == pytest.approx(20, rel=1e-3)


def test_biases_are_judged_on_images_that_they_were_not_fitted_on(monkeypatch):
    """Each of ten fits sees nine tenths of the images, and speaks for the tenth that it does not know."""
    logits, labels = overconfident(np.random.default_rng(6), 100)
    numbered = logits + 1e-9 * np.arange(100)[:, None]  # tells which images a fit has seen
    fitted = []

    def fit(given, truth, real=calibration._fit_with_biases):
        fitted.append({float(value) for value in given[:, 0]})
        return real(given, truth)

    monkeypatch.setattr(calibration, "_fit_with_biases", fit)
    calibration.fit_scaling(numbered, labels)
    everything = {float(value) for value in numbered[:, 0]}
    held = [everything - seen for seen in fitted[:10]]
    assert {len(part) for part in held} == {10}
    assert set.union(*held) == everything


def test_biases_are_found_where_labels_were_weighted_and_only_there():
    logits, labels = overconfident(np.random.default_rng(3), 3000)
    shifted = logits + np.log([8.0, 1.0, 1.0, 0.5])  # as a network learns that saw the first label too often
    scaling = calibration.fit_scaling(shifted, labels)
    assert scaling.temperature == pytest.approx(2.5, rel=0.1)
    wanted = -np.log([8.0, 1.0, 1.0, 0.5]) / 2.5
    np.testing.assert_allclose(scaling.biases, wanted - wanted.mean(), atol=0.15)
    np.testing.assert_allclose(scaling.undo(scaling.apply(shifted)), shifted)
    assert calibration.fit_scaling(shifted, labels, biased=False).biases == (0.0,) * 4
    even = calibration.fit_scaling(logits[:300], labels[:300])
    assert even == calibration.Scaling(calibration.fit_temperature(logits[:300], labels[:300]), (0.0,) * 4)


def test_a_label_without_validation_images_keeps_its_say():
    """No bias against it, which would only silence it: nothing is known of it."""
    logits, labels = overconfident(np.random.default_rng(4), 400)
    scaling = calibration.fit_scaling(logits[labels != 2], labels[labels != 2])
    assert scaling.biases == (0.0,) * 4
    assert (scaling.apply(logits).argmax(axis=1) == 2).mean() == pytest.approx(0.25, abs=0.1)


@pytest.mark.parametrize("count", [1, 8, 200])
def test_images_that_were_all_judged_right_make_no_network_certain(count):
    """The likelihood has no maximum there: the model may be as sure as so many right answers allow."""
    labels = np.arange(count) % 2
    logits = np.random.default_rng(5).normal(size=(count, 2)) + 8 * np.eye(2)[labels]
    scaling = calibration.fit_scaling(logits, labels)
    confidence = softmax(scaling.apply(logits), axis=1).max(axis=1).mean()
    assert confidence == pytest.approx((count + 1) / (count + 2), abs=0.01)


def test_a_network_that_embeds_all_images_alike_has_a_novelty():
    reference = calibration.fit_reference(np.zeros((50, 8)), np.zeros((20, 8)))
    assert reference.novelty(np.zeros((1, 8))).tolist() == [0.0]
    assert np.isfinite(reference.novelty(np.ones((1, 8)))).all()


def test_folding_scales_and_shifts_the_logits():
    layer = nn.Linear(5, 3)
    inputs = torch.randn(4, 5)
    scaling = calibration.Scaling(1.7, (0.5, -0.2, -0.3))
    expected = scaling.apply(layer(inputs).detach().numpy())
    calibration.fold_scaling(layer, scaling)
    np.testing.assert_allclose(layer(inputs).detach().numpy(), expected, atol=1e-6)


def test_prediction_sets_cover_nine_tenths_of_new_images():
    rng = np.random.default_rng(1)
    logits, labels = overconfident(rng, 4000, temperature=1)
    threshold = calibration.fit_conformal(softmax(logits, axis=1), labels)
    logits, labels = overconfident(rng, 4000, temperature=1)
    covered = softmax(logits, axis=1)[np.arange(4000), labels] >= threshold
    assert covered.mean() == pytest.approx(0.9, abs=0.02)


@pytest.mark.parametrize(("count", "place"), [(9, 0), (10, 0), (18, 0), (19, 1), (99, 9), (199, 19)])
def test_the_threshold_is_the_quantile_of_split_conformal_prediction(count, place):
    """The ceil((n + 1) * 0.9)-th smallest of 1 - p: so many of the smallest p lie below the threshold."""
    likely = np.random.default_rng(7).permutation(np.linspace(0.2, 0.9, count))
    probs = np.stack([likely, 1 - likely], axis=1)
    threshold = calibration.fit_conformal(probs, np.zeros(count, int))
    assert threshold == pytest.approx(np.sort(likely)[place])


@pytest.mark.parametrize("count", [1, 8])
def test_too_few_images_rule_nothing_out(count):
    probs = np.tile([0.9, 0.1], (count, 1))
    assert calibration.fit_conformal(probs, np.zeros(count, int)) == 0.0


def test_calibration_error_of_known_cases():
    sure = np.tile([0.8, 0.2], (100, 1))
    assert calibration.calibration_error(sure, np.array([0] * 80 + [1] * 20), bins=1) == pytest.approx(0)
    assert calibration.calibration_error(sure, np.zeros(100, int), bins=1) == pytest.approx(0.2)


def test_calibration_error_is_that_of_fifteen_bins_of_equal_counts():
    rng = np.random.default_rng(8)
    probs = rng.dirichlet(np.ones(3), size=150)
    labels = rng.integers(3, size=150)
    order = np.argsort(probs.max(axis=1)).reshape(15, 10)
    correct = probs.argmax(axis=1) == labels
    gaps = [abs(probs.max(axis=1)[part].mean() - correct[part].mean()) for part in order]
    assert calibration.calibration_error(probs, labels) == pytest.approx(np.mean(gaps))
    alone = calibration.calibration_error(np.array([[0.7, 0.3], [0.2, 0.8]]), np.array([0, 0]))
    assert alone == pytest.approx((0.3 + 0.8) / 2)  # fewer images than bins: a bin each


def test_reference_knows_its_own_from_others():
    rng = np.random.default_rng(2)
    direction = rng.normal(size=64)
    own = direction + 0.3 * rng.normal(size=(900, 64))
    reference = calibration.fit_reference(own[:500], own[500:800])
    assert reference.embeddings.shape == (calibration.REFERENCE_SIZE, 64)
    assert (reference.novelty(own[800:]) <= 1).mean() > 0.93
    assert (reference.novelty(rng.normal(size=(50, 64))) > 1).all()


@pytest.mark.parametrize("size", [40, 600])
def test_the_distance_is_mahalanobis_with_a_shrunk_covariance(size):
    rng = np.random.default_rng(3)
    units = rng.normal(size=(120, size)) * np.linspace(0.1, 2, size) + 1
    units /= np.linalg.norm(units, axis=1, keepdims=True)
    others = rng.normal(size=(30, size))
    known = ShrunkCovariance(shrinkage=calibration.SHRINKAGE).fit(units)
    expected = known.mahalanobis(others / np.linalg.norm(others, axis=1, keepdims=True))
    reference = calibration.Reference(units, 1.0)
    np.testing.assert_allclose(reference.novelty(others), expected, rtol=1e-5)
    for length in (7, 0.01):
        np.testing.assert_allclose(reference.novelty(length * others), expected, rtol=1e-5)  # of the direction alone
    twice = calibration.Reference(units, 2.0)
    np.testing.assert_allclose(twice.novelty(others), expected / 2, rtol=1e-5)


def test_a_direction_that_training_images_never_take_is_far():
    rng = np.random.default_rng(4)
    own = np.zeros((600, 32))
    own[:, :4] = 1 + rng.normal(size=(600, 4))
    reference = calibration.fit_reference(own[:400], own[400:])
    stray = own[:100].copy()
    stray[:, 20] = 0.5
    assert (reference.novelty(stray) > 1).mean() > 0.95
    assert (reference.novelty(own[:100]) <= 1).mean() > 0.95


def test_equal_embeddings_have_a_distance_too():
    same = np.ones((20, 8))
    reference = calibration.fit_reference(same, same + 1e-3 * np.random.default_rng(0).normal(size=same.shape))
    assert np.isfinite(reference.novelty(-same)).all() and (reference.novelty(-same) > 1).all()


def test_biases_that_tell_all_images_apart_are_not_driven_to_their_bounds():
    """Two normal distributions, shifted: of 60 images often all are told apart, of which none is certain for that."""
    rng, worst = np.random.default_rng(0), 0.0
    for _ in range(20):
        labels = (rng.random(60) < 0.5).astype(int)
        score = 2.0 * (2 * labels - 1) + rng.standard_normal(60) + 1.5
        scaling = calibration.fit_scaling(np.stack([-score / 2, score / 2], axis=1), labels)
        worst = max(worst, *np.abs(scaling.biases))
    assert 1 < worst < 4


def test_the_image_at_the_threshold_is_in_its_own_set():
    rng = np.random.default_rng(0)
    for dtype in (np.float64, np.float32):
        for _ in range(100):
            probs = rng.dirichlet(np.ones(3), 99).astype(dtype)
            labels = rng.integers(0, 3, 99)
            true = probs[np.arange(99), labels]
            assert (true >= calibration.fit_conformal(probs, labels)).sum() == 90
    assert (np.full(50, 0.3) >= calibration.fit_conformal(np.full((50, 3), 0.3), np.zeros(50, int))).all()
