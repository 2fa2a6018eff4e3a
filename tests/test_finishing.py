import json

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

from evaluation import metrics
from xray_models.finishing import _test_metrics

NAMES = ("Normal", "Nodule", "Effusion")


def judge(labels, names=NAMES):
    labels = np.array(labels)
    probs = np.random.default_rng(0).dirichlet(np.ones(len(names)), len(labels))
    return probs, labels, _test_metrics(probs, labels, names, 0.2)


def test_the_figures_are_scikit_learns():
    probs, labels, found = judge([0, 1, 2] * 20)
    assert found["auroc"] == pytest.approx(roc_auc_score(labels, probs, multi_class="ovr"))
    assert found["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(labels, probs.argmax(axis=1)))
    probs, labels, found = judge([0, 1] * 20, NAMES[:2])
    assert found["auroc"] == pytest.approx(roc_auc_score(labels, probs[:, 1]))


@pytest.mark.parametrize("labels", [[0, 1] * 10, [0, 2] * 10, [1] * 10])
def test_a_label_without_test_images_is_left_out_of_the_means(labels):
    probs, labels, found = judge(labels)
    for name in ("accuracy", "balanced_accuracy", "auroc", "nll", "ece"):
        expected = float(metrics.METRICS[name](probs, labels))
        assert found[name] == (None if np.isnan(expected) else pytest.approx(expected)), name
    for name in ("sensitivity", "specificity"):
        expected = metrics.LABEL_METRICS[name](probs, labels)
        assert list(found[name].values()) == [None if np.isnan(x) else pytest.approx(x) for x in expected]
    json.dumps(found, allow_nan=False)
