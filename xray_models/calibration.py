"""What is fitted on the validation images and travels with the weights.

- temperature scaling (Guo et al., 2017, "On calibration of modern neural networks"), with a bias for each label where
  that predicts better (Alexandari et al., 2020, "Maximum likelihood with bias-corrected calibration is hard-to-beat
  at label shift adaptation"): a network trained with rare labels weighted up is too sure of them. Folded into the last
  linear layer, so that every consumer of the weights gets calibrated probabilities;
- the threshold of split conformal prediction sets (Sadinle et al., 2019, "Least ambiguous set-valued
  classifiers"), for sets that hold the true label in 90 % of the images like those of validation;
- the out-of-distribution reference (Mueller & Hein, 2025, "Mahalanobis++: improving OOD detection via feature
  normalization"): embeddings of training images, and the Mahalanobis distance that 99 % of the validation images stay
  within.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from scipy.optimize import minimize, minimize_scalar
from scipy.special import log_softmax, softmax
from torch import nn

from xray_models.bins import BINS, equal_bins

COVERAGE = 0.90
REFERENCE_SIZE = 384  # embeddings, at most
_REFERENCE_NUMBERS = 400_000  # in all, at most: 0.8 MB as they are stored
SHRINKAGE = 0.02  # of the covariance towards a sphere; Ledoit and Wolf's estimates for the starter models: .002 to .05
FOLDS = 10  # of the validation images, to see whether biases predict better than none
KEPT_IN = 0.99  # share of the validation images that count as in distribution
_NO_DISTANCE = 1e-9  # least threshold: a network that embeds all images alike has none


class Spread(NamedTuple):
    """Where unit embeddings of dimension D lie: their mean, and a covariance `rows.T @ rows + rest * identity`.

    Attributes:
        middle: (D,) the mean.
        rows: (R, D) the embeddings seen from there, scaled.
        factor: (R, R) Cholesky factor of `rows @ rows.T + rest * identity`, which is smaller than the covariance.
        rest: variance along directions that no embedding takes.
    """

    middle: torch.Tensor
    rows: torch.Tensor
    factor: torch.Tensor
    rest: float


@dataclasses.dataclass(frozen=True)
class Reference:
    """What counts as in distribution for one model.

    Attributes:
        embeddings: (R, D) float32 of norm 1, from training images.
        threshold: largest squared Mahalanobis distance to them that is still in distribution.
    """

    embeddings: np.ndarray
    threshold: float

    @cached_property
    def spread(self) -> Spread:
        """The mean and the shrunk covariance of the embeddings; found at the first use."""
        return _find_spread(torch.from_numpy(self.embeddings).double())

    def novelty(self, embeddings: np.ndarray) -> np.ndarray:
        """How unlike the training images are those with these embeddings.

        Args:
            embeddings: (N, D), any norm.

        Returns:
            (N,) squared Mahalanobis distances over the threshold: at most 1 is in distribution.
        """
        return measure_distance(embeddings, self.spread) / self.threshold


class Scaling(NamedTuple):
    """What makes a network's logits calibrated: `logits / temperature + biases`.

    Attributes:
        temperature: above 1 where the network was overconfident.
        biases: one for each label, summing to 0; all 0 for temperature scaling alone.
    """

    temperature: float
    biases: tuple[float, ...]

    def apply(self, logits: np.ndarray) -> np.ndarray:
        """Calibrated logits of (N, K) raw ones."""
        return logits / self.temperature + np.array(self.biases)

    def undo(self, logits: np.ndarray) -> np.ndarray:
        """Raw logits of (N, K) calibrated ones."""
        return (logits - np.array(self.biases)) * self.temperature


def fit_scaling(logits: np.ndarray, labels: np.ndarray, biased: bool = True) -> Scaling:
    """Fits a temperature, and biases where they lower the log loss of images that they were not fitted on.

    A label that no image has keeps its say: the best bias for it would be the lowest, and the model never give it.

    Args:
        logits: (N, K) uncalibrated.
        labels: (N,) true label numbers.
        biased: whether the layer that they will be folded into has a bias.
    """
    if (logits.argmax(axis=1) == labels).all():
        return Scaling(_fit_smoothed(logits, labels), (0.0,) * logits.shape[1])
    if not biased or len(np.unique(labels)) < logits.shape[1]:
        return _fit_temperature_alone(logits, labels)
    folds = np.random.default_rng(0).permutation(len(labels)) % FOLDS
    fits = (_fit_temperature_alone, _fit_with_biases)
    losses = []
    for fit in fits:
        scaled = np.empty_like(logits, dtype=np.float64)
        for fold in range(min(FOLDS, len(labels))):
            held = folds == fold
            scaled[held] = fit(logits[~held], labels[~held]).apply(logits[held])
        losses.append(log_loss(scaled, labels))
    return fits[int(np.argmin(losses))](logits, labels)


def _fit_temperature_alone(logits: np.ndarray, labels: np.ndarray) -> Scaling:
    return Scaling(fit_temperature(logits, labels), (0.0,) * logits.shape[1])


def _fit_smoothed(logits: np.ndarray, labels: np.ndarray) -> float:
    """A temperature where no image is misjudged: the lower, the likelier, however few images there are.

    So the targets are those of Laplace's rule of succession, as Platt's are (1999, "Probabilistic outputs for support
    vector machines"): of N images that were all judged right, one is added for each label.
    """
    targets = _succeed(labels, logits.shape[1])

    def loss(log_temperature: float) -> float:
        return _cross_entropy(logits / np.exp(log_temperature), targets)

    return _minimise(loss)


def _succeed(labels: np.ndarray, labels_in_all: int) -> np.ndarray:
    """(N, K) targets by Laplace's rule: of the N images, one more for each label."""
    return (np.eye(labels_in_all)[labels] * len(labels) + 1) / (len(labels) + labels_in_all)


def _cross_entropy(logits: np.ndarray, targets: np.ndarray) -> float:
    return float(-(targets * log_softmax(logits, axis=1)).sum(axis=1).mean())


def _fit_with_biases(logits: np.ndarray, labels: np.ndarray) -> Scaling:
    """Convex in the reciprocal of the temperature and the biases; starts from the temperature alone.

    Biases may tell all images apart, or all but one, and then the more of them the likelier: targets as in
    `_fit_smoothed`, as Platt's always are.
    """
    targets = _succeed(labels, logits.shape[1])
    logits = logits.astype(np.float64)

    def loss(values: np.ndarray) -> tuple[float, np.ndarray]:
        scaled = logits * values[0] + values[1:]
        excess = (softmax(scaled, axis=1) - targets) / len(targets)
        return _cross_entropy(scaled, targets), np.append((excess * logits).sum(), excess.sum(axis=0))

    start = np.append(1 / fit_temperature(logits, labels), np.zeros(logits.shape[1]))
    bounds = [(0.05, 20.0), *[(-10.0, 10.0)] * logits.shape[1]]
    found = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds).x
    return Scaling(float(1 / found[0]), tuple(float(bias) for bias in found[1:] - found[1:].mean()))


def log_loss(logits: np.ndarray, labels: np.ndarray) -> float:
    """The mean log loss of (N, K) logits for (N,) label numbers, in nats."""
    return float(-log_softmax(logits, axis=1)[np.arange(len(labels)), labels].mean())


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """Finds the temperature that minimises the log loss.

    Args:
        logits: (N, K) uncalibrated.
        labels: (N,) true label numbers.

    Returns:
        The temperature, in [0.05, 20]; above 1 the model was overconfident.
    """

    def loss(log_temperature: float) -> float:
        return log_loss(logits / np.exp(log_temperature), labels)

    return _minimise(loss)


def _minimise(loss: Callable[[float], float]) -> float:
    """The temperature in [0.05, 20] that has the least loss, given its logarithm."""
    return float(np.exp(minimize_scalar(loss, bounds=(np.log(0.05), np.log(20)), method="bounded").x))


@torch.no_grad()
def fold_scaling(classifier: nn.Linear, scaling: Scaling) -> None:
    """Makes the last linear layer give calibrated logits, in place; one without a bias takes the temperature alone."""
    classifier.weight.div_(scaling.temperature)
    if classifier.bias is not None:
        classifier.bias.div_(scaling.temperature).add_(torch.tensor(scaling.biases, device=classifier.bias.device))


def fit_conformal(probs: np.ndarray, labels: np.ndarray) -> float:
    """Finds the probability from which a label belongs to the prediction set: `COVERAGE` of the sets hold the true one.

    Args:
        probs: (N, K) calibrated probabilities.
        labels: (N,) true label numbers.

    Returns:
        The threshold, in [0, 1]: labels with at least this probability form the set. It lies just below a
        probability that occurs, whose own label must not be lost to rounding.
    """
    true = np.sort(probs[np.arange(len(labels)), labels])
    rank = int(np.ceil((len(true) + 1) * COVERAGE))
    if rank > len(true):
        return 0.0  # too few images to rule anything out
    return float(np.nextafter(np.float32(true[len(true) - rank]), np.float32(0)))


def fit_reference(train: np.ndarray, validation: np.ndarray) -> Reference:
    """Chooses reference embeddings from training images and the distance that validation images stay within.

    Args:
        train: (N, D) embeddings of training images.
        validation: (M, D) embeddings of validation images.
    """
    size = min(REFERENCE_SIZE, _REFERENCE_NUMBERS // train.shape[1])
    chosen = np.random.default_rng(0).permutation(len(train))[:size]
    reference = Reference(_unit(train[chosen]).astype(np.float16).astype(np.float32), 1.0)  # as it will be stored
    threshold = max(float(np.quantile(reference.novelty(validation), KEPT_IN)), _NO_DISTANCE)
    return dataclasses.replace(reference, threshold=threshold)


def measure_distance(embeddings: np.ndarray, spread: Spread) -> np.ndarray:
    """Squared Mahalanobis distance of each embedding, brought to norm 1, to the middle of the reference.

    Args:
        embeddings: (N, D), any norm.
        spread: of the reference's unit embeddings.

    Returns:
        (N,) distances, at least 0.
    """
    # in torch, since numpy's own threads would wait busily afterwards; in double, which autocast leaves alone
    away = torch.from_numpy(_unit(embeddings)).double() - spread.middle
    usual = torch.linalg.solve_triangular(spread.factor, spread.rows @ away.T, upper=False)  # (R, N); Woodbury
    return ((away.square().sum(dim=1) - usual.square().sum(dim=0)) / spread.rest).clamp_min(0).numpy()


def _find_spread(units: torch.Tensor) -> Spread:
    """Of (R, D) unit embeddings, the covariance shrunk towards a sphere of the same mean variance."""
    middle = units.mean(dim=0)
    away = units - middle
    rest = max(SHRINKAGE * float(away.square().mean()), 1e-12)
    rows = away * ((1 - SHRINKAGE) / len(units)) ** 0.5
    factor = torch.linalg.cholesky(rows @ rows.T + rest * torch.eye(len(rows), dtype=rows.dtype))
    return Spread(middle, rows, factor, rest)


def _unit(embeddings: np.ndarray) -> np.ndarray:
    embeddings = np.asarray(embeddings, dtype=np.float32)
    return embeddings / np.maximum(np.linalg.norm(embeddings, axis=1, keepdims=True), 1e-12)


def calibration_error(probs: np.ndarray, labels: np.ndarray, bins: int = BINS) -> float:
    """Expected calibration error of the predicted label, with bins of equal counts (Nguyen & O'Connor, 2015).

    Args:
        probs: (N, K) probabilities.
        labels: (N,) true label numbers.
        bins: number of bins.

    Returns:
        Mean distance of confidence from accuracy, in [0, 1].
    """
    confidence, correct = probs.max(axis=1), probs.argmax(axis=1) == labels
    parts = equal_bins(confidence, bins)
    gaps = [abs(confidence[part].mean() - correct[part].mean()) * len(part) for part in parts]
    return float(sum(gaps) / len(labels))
