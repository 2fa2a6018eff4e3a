"""After the last epoch: a trained model is rounded, calibrated and judged as it will be shipped."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from scipy.special import softmax
from sklearn.metrics import confusion_matrix, roc_auc_score
from transformers import PreTrainedModel

from xray_models import calibration
from xray_models.architectures import split_model
from xray_models.calibration import Reference
from xray_models.checkpoints import round_weights
from xray_models.images import normalise
from xray_models.imagesets import ImageSet

_log = logging.getLogger(__name__)
_BATCH = 64  # images that a model sees at once
_FEW = 50  # validation images


@torch.inference_mode()
def collect_outputs(model: PreTrainedModel, images: ImageSet) -> tuple[np.ndarray, np.ndarray]:
    """Runs a model over a set in single precision.

    Returns:
        Logits (N, K), and the embeddings (N, D) that tell whether an image is in distribution; float32.
    """
    parts = split_model(model.eval())
    logits, embeddings = [], []
    for start in range(0, len(images), _BATCH):
        pixels = torch.from_numpy(np.array(images.pixels[start : start + _BATCH]))
        gathered = parts.gather(parts.body(normalise(pixels, images.spec).to(model.device)))
        embeddings.append(gathered.float().cpu().numpy())
        logits.append(parts.classifier(parts.fuse(gathered)).float().cpu().numpy())
    return np.concatenate(logits), np.concatenate(embeddings)


def calibrate(
    model: PreTrainedModel, sets: dict[str, ImageSet], labels: Sequence[str], biased: bool = True
) -> tuple[dict[str, Any], Reference]:
    """Rounds a trained model's weights, folds its calibration in, and judges what will be shipped.

    Args:
        model: trained.
        sets: images of `train`, `validation` and `test`.
        labels: of the task.
        biased: whether a bias for each label may be fitted, too.

    Returns:
        What `config.json` keeps (temperature, biases, conformal threshold, test metrics, image counts), and the
        out-of-distribution reference.
    """
    round_weights(model)
    logits, validation = collect_outputs(model, sets["validation"])
    truth = sets["validation"].labels
    if len(truth) < _FEW:
        _log.warning(
            "%d validation images are few: probabilities and prediction sets fitted on them are rough", len(truth)
        )
    classifier = split_model(model).classifier
    scaling = calibration.fit_scaling(logits, truth, biased and classifier.bias is not None)
    conformal = calibration.fit_conformal(softmax(scaling.apply(logits), axis=1), truth)
    calibration.fold_scaling(classifier, scaling)
    train = sets["train"]
    few = np.sort(np.random.default_rng(0).permutation(len(train.labels))[: calibration.REFERENCE_SIZE])
    _, embeddings = collect_outputs(model, ImageSet(train.pixels[few], train.labels[few], train.spec))
    reference = calibration.fit_reference(embeddings, validation)

    test_logits, _ = collect_outputs(model, sets["test"])
    test_truth = sets["test"].labels
    uncalibrated = softmax(scaling.undo(test_logits), axis=1)
    return {
        "temperature": scaling.temperature,
        "biases": list(scaling.biases),
        "conformal_threshold": conformal,
        "ece_before": calibration.calibration_error(uncalibrated, test_truth),
        "test": _test_metrics(softmax(test_logits, axis=1), test_truth, labels, conformal),
        "counts": {split: len(images.labels) for split, images in sets.items()},
    }, reference


def _test_metrics(probs: np.ndarray, labels: np.ndarray, names: Sequence[str], conformal: float) -> dict[str, Any]:
    """Means over labels are of those that occur; what is not defined for want of images is None."""
    predicted = probs.argmax(axis=1)
    matrix = confusion_matrix(labels, predicted, labels=range(len(names)))
    hits, actual, called = matrix.diagonal(), matrix.sum(axis=1), matrix.sum(axis=0)
    negatives = matrix.sum() - actual
    sets = probs >= conformal
    return {
        "accuracy": float((predicted == labels).mean()),
        "balanced_accuracy": float((hits[actual > 0] / actual[actual > 0]).mean()),
        "auroc": _mean_auroc(probs, labels),
        "nll": float(-np.log(np.maximum(probs[np.arange(len(labels)), labels], 1e-12)).mean()),
        "ece": calibration.calibration_error(probs, labels),
        "coverage": float(sets[np.arange(len(labels)), labels].mean()),
        "set_size": float(sets.sum(axis=1).mean()),
        "support": {name: int(actual[k]) for k, name in enumerate(names)},
        "sensitivity": {name: _share(hits[k], actual[k]) for k, name in enumerate(names)},
        "specificity": {name: _share(negatives[k] - called[k] + hits[k], negatives[k]) for k, name in enumerate(names)},
    }


def _mean_auroc(probs: np.ndarray, labels: np.ndarray) -> float | None:
    """Mean area of each label that occurs against the rest; with two labels, that of the second."""
    present = np.unique(labels)
    if len(present) < 2:
        return None
    columns = present[-1:] if probs.shape[1] == 2 else present
    return float(np.mean([roc_auc_score(labels == k, probs[:, k]) for k in columns]))


def _share(part: int, whole: int) -> float | None:
    return float(part / whole) if whole else None
