import numpy as np
import pytest
import torch
from scipy.special import softmax
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


def test_folding_divides_the_logits():
    layer = nn.Linear(5, 3)
    inputs = torch.randn(4, 5)
    expected = layer(inputs).detach() / 1.7
    calibration.fold_temperature(layer, 1.7)
    torch.testing.assert_close(layer(inputs), expected)


def test_prediction_sets_cover_nine_tenths_of_new_images():
    rng = np.random.default_rng(1)
    logits, labels = overconfident(rng, 4000, temperature=1)
    threshold = calibration.fit_conformal(softmax(logits, axis=1), labels)
    logits, labels = overconfident(rng, 4000, temperature=1)
    covered = softmax(logits, axis=1)[np.arange(4000), labels] >= threshold
    assert covered.mean() == pytest.approx(0.9, abs=0.02)


def test_too_few_images_rule_nothing_out():
    assert calibration.fit_conformal(np.array([[0.9, 0.1]]), np.array([0])) == 0.0


def test_calibration_error_of_known_cases():
    sure = np.tile([0.8, 0.2], (100, 1))
    assert calibration.calibration_error(sure, np.array([0] * 80 + [1] * 20), bins=1) == pytest.approx(0)
    assert calibration.calibration_error(sure, np.zeros(100, int), bins=1) == pytest.approx(0.2)


def test_reference_knows_its_own_from_others():
    rng = np.random.default_rng(2)
    direction = rng.normal(size=64)
    own = direction + 0.3 * rng.normal(size=(900, 64))
    reference = calibration.fit_reference(own[:500], own[500:800])
    assert reference.embeddings.shape == (calibration.REFERENCE_SIZE, 64)
    assert np.mean([reference.contains(e) for e in own[800:]]) > 0.93
    assert not any(reference.contains(e) for e in rng.normal(size=(50, 64)))
