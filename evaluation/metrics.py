"""How good probabilities are: one function per metric, for one sample or for many resamples at once.

Every function of `METRICS` and `LABEL_METRICS` is called in one of two ways:

    accuracy(probs, labels)            -> a number          (label metrics: (K,))
    accuracy(probs, labels, weights)   -> (R,) numbers      (label metrics: (R, K))

`probs` is (N, K), rows that sum to 1; `labels` is (N,), true label numbers; `weights` is (R, N), how often
each of R resamples holds each image. A metric that a resample leaves undefined is NaN there. Macro means are
taken over the labels that occur in `labels`. A new metric is one more function of a `Sample` below `@_score`
or `@_label_score`. `measure` gives all of them in one go.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

import numpy as np

from evaluation.resamples import Sample, divide, mean_of
from xray_models.bins import equal_bins

Metric = Callable[..., Any]
METRICS: dict[str, Metric] = {}
LABEL_METRICS: dict[str, Metric] = {}
REFLECTED = frozenset({"ece"})  # errors that resampling pushes up; `statistics.reflect` makes their intervals
_SMALLEST = 1e-12  # probability below which the log loss does not grow any more


def _enter(registry: dict[str, Metric]) -> Callable[[Callable[[Sample], np.ndarray]], Metric]:
    """Puts a function of a `Sample` into a registry and lets it be called with (probs, labels, weights)."""

    def enter(function: Callable[[Sample], np.ndarray]) -> Metric:
        @functools.wraps(function)
        def metric(probs: np.ndarray, labels: np.ndarray, weights: np.ndarray | None = None) -> Any:
            found = function(_sample(probs, labels, weights))
            return found[0] if weights is None else found

        registry[function.__name__] = metric
        return metric

    return enter


_score = _enter(METRICS)
_label_score = _enter(LABEL_METRICS)


def _sample(probs: np.ndarray, labels: np.ndarray, weights: np.ndarray | None) -> Sample:
    return Sample(probs, labels, np.ones((1, len(labels))) if weights is None else weights)


def measure(probs: np.ndarray, labels: np.ndarray, weights: np.ndarray | None = None) -> dict[str, Any]:
    """All of `METRICS` and `LABEL_METRICS` by name, as if each were called by itself, in less time."""
    sample = _sample(probs, labels, weights)
    found = {name: inspect.unwrap(metric)(sample) for name, metric in (METRICS | LABEL_METRICS).items()}
    return {name: values[0] for name, values in found.items()} if weights is None else found


@_score
def accuracy(sample: Sample) -> np.ndarray:
    """Share of images whose most probable label is true, in [0, 1]."""
    return mean_of(sample.predicted == sample.labels, sample.weights)


@_score
def balanced_accuracy(sample: Sample) -> np.ndarray:
    """Mean sensitivity of the labels, in [0, 1] (Brodersen et al., 2010)."""
    hits, actual, _, _ = sample.margins
    return divide(hits, actual)[:, sample.present].mean(axis=1)


@_score
def macro_f1(sample: Sample) -> np.ndarray:
    """Mean F1 of the labels, in [0, 1] (Sokolova & Lapalme, 2009)."""
    hits, actual, called, _ = sample.margins
    f1 = np.where(actual > 0, divide(2 * hits, actual + called), np.nan)
    return f1[:, sample.present].mean(axis=1)


@_score
def mcc(sample: Sample) -> np.ndarray:
    """Matthews correlation of all labels, in [-1, 1] (Gorodkin, 2004); 0 where only one label was called."""
    hits, actual, called = (part / np.maximum(sample.margins.total, 1) for part in sample.margins[:3])
    covariance = hits.sum(axis=1) - (actual * called).sum(axis=1)
    spread = (1 - (actual**2).sum(axis=1)) * (1 - (called**2).sum(axis=1))
    return np.where(spread > 1e-9, covariance / np.sqrt(np.maximum(spread, 1e-9)), 0.0)


@_score
def auroc(sample: Sample) -> np.ndarray:
    """Area under the ROC curve, in [0, 1]; the mean of each label against the rest (Fawcett, 2006).

    With two labels that is the area of either of them; the second's scores are used.
    """
    columns = sample.present[-1:] if sample.probs.shape[1] == 2 else sample.present
    return sample.curve.auroc[:, columns].mean(axis=1)


@_score
def auprc(sample: Sample) -> np.ndarray:
    """Average precision, in [0, 1]; the mean of each label against the rest (Davis & Goadrich, 2006)."""
    return sample.curve.auprc[:, sample.present].mean(axis=1)


@_score
def brier(sample: Sample) -> np.ndarray:
    """Squared distance of the probabilities from the truth, summed over labels, in [0, 2] (Brier, 1950)."""
    truth = np.eye(sample.probs.shape[1])[sample.labels]
    return mean_of(((sample.probs - truth) ** 2).sum(axis=1), sample.weights)


@_score
def ece(sample: Sample) -> np.ndarray:
    """Expected calibration error, in [0, 1], as `xray_models.calibration.calibration_error` defines it.

    Resamples keep the bins of the whole sample. The error is never below 0, so chance pushes it up, and that of a
    resample once more; its interval is therefore reflected. What chance adds to the value itself stays: of 600
    images, 95 % intervals held a true error of 0.05 in 9 cases of 10, one of 0.02 in 8, and one of 0.001 in 4.
    """
    confidence, correct = sample.probs.max(axis=1), sample.predicted == sample.labels
    parts = equal_bins(confidence)
    gaps = np.zeros((len(correct), len(parts)), dtype=sample.weights.dtype)
    for index, part in enumerate(parts):
        gaps[part, index] = confidence[part] - correct[part]
    return divide(np.abs(sample.weights @ gaps).sum(axis=1), sample.weights.sum(axis=1))


@_score
def overconfidence(sample: Sample) -> np.ndarray:
    """Mean confidence less accuracy, in [-1, 1]: above 0 a model is too sure, below 0 not sure enough.

    The gap's size is a lower bound of the calibration error; its sign says what a distance cannot.
    """
    return mean_of(sample.probs.max(axis=1) - (sample.predicted == sample.labels), sample.weights)


@_score
def nll(sample: Sample) -> np.ndarray:
    """Negative log likelihood of the true label, in nats, at least 0 (Good, 1952)."""
    likely = sample.probs[np.arange(len(sample.labels)), sample.labels]
    return mean_of(-np.log(np.maximum(likely, _SMALLEST)), sample.weights)


@_label_score
def sensitivity(sample: Sample) -> np.ndarray:
    """Of the images with a label, the share called so; in [0, 1], NaN for a label that does not occur."""
    hits, actual, _, _ = sample.margins
    return divide(hits, actual)


@_label_score
def specificity(sample: Sample) -> np.ndarray:
    """Of the images without a label, the share not called so; in [0, 1], NaN where every image has it."""
    hits, actual, called, total = sample.margins
    return divide(total - actual - called + hits, total - actual)


@_label_score
def ppv(sample: Sample) -> np.ndarray:
    """Of the images that are called so, the share with the label; in [0, 1], NaN where none is called so.

    As the negative predictive value, it holds for this sample's share of the label and for no other
    (Altman & Bland, 1994).
    """
    hits, _, called, _ = sample.margins
    return divide(hits, called)


@_label_score
def npv(sample: Sample) -> np.ndarray:
    """Of the images that are not called so, the share without the label; in [0, 1], NaN where all are called so."""
    hits, actual, called, total = sample.margins
    return divide(total - actual - called + hits, total - called)


@_label_score
def auroc_by_label(sample: Sample) -> np.ndarray:
    """Area under the ROC curve of each label against the rest, in [0, 1]; NaN for a label that does not occur."""
    return sample.curve.auroc


@_label_score
def auprc_by_label(sample: Sample) -> np.ndarray:
    """Average precision of each label against the rest, in [0, 1]; NaN for a label that does not occur."""
    return sample.curve.auprc
