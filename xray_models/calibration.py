"""What is fitted on the validation images and travels with the weights.

- temperature scaling (Guo et al., 2017, "On calibration of modern neural networks"), folded into the last linear
  layer, so that every consumer of the weights gets calibrated probabilities;
- the threshold of split conformal prediction sets (Sadinle et al., 2019, "Least ambiguous set-valued
  classifiers"), for sets that hold the true label in 90 % of the images like those of validation;
- the out-of-distribution reference (Sun et al., 2022, "Out-of-distribution detection with deep nearest
  neighbors"): embeddings of training images, and the distance that 99 % of the validation images stay within.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import torch
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax
from torch import nn

COVERAGE = 0.90
NEIGHBOURS = 10
REFERENCE_SIZE = 384
KEPT_IN = 0.99  # share of the validation images that count as in distribution


@dataclasses.dataclass(frozen=True)
class Reference:
    """What counts as in distribution for one model.

    Attributes:
        embeddings: (R, D) float32 of norm 1, from training images.
        threshold: largest cosine distance to the tenth neighbour that is still in distribution.
    """

    embeddings: np.ndarray
    threshold: float

    def contains(self, embedding: np.ndarray) -> bool:
        """Whether an image with this (D,) embedding is like those the model was trained on."""
        return bool(neighbour_distance(embedding[None], self.embeddings)[0] <= self.threshold)


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """Finds the temperature that minimises the log loss.

    Args:
        logits: (N, K) uncalibrated.
        labels: (N,) true label numbers.

    Returns:
        The temperature, in [0.05, 20]; above 1 the model was overconfident.
    """

    def loss(log_temperature: float) -> float:
        scaled = log_softmax(logits / np.exp(log_temperature), axis=1)
        return float(-scaled[np.arange(len(labels)), labels].mean())

    return float(np.exp(minimize_scalar(loss, bounds=(np.log(0.05), np.log(20)), method="bounded").x))


@torch.no_grad()
def fold_temperature(classifier: nn.Linear, temperature: float) -> None:
    """Divides the last linear layer by the temperature, in place."""
    classifier.weight.div_(temperature)
    if classifier.bias is not None:
        classifier.bias.div_(temperature)


def fit_conformal(probs: np.ndarray, labels: np.ndarray, coverage: float = COVERAGE) -> float:
    """Finds the probability from which a label belongs to the prediction set.

    Args:
        probs: (N, K) calibrated probabilities.
        labels: (N,) true label numbers.
        coverage: wanted share of sets that hold the true label, in (0, 1).

    Returns:
        The threshold, in [0, 1]: labels with at least this probability form the set.
    """
    scores = 1 - probs[np.arange(len(labels)), labels]
    rank = int(np.ceil((len(scores) + 1) * coverage))
    if rank > len(scores):
        return 0.0  # too few images to rule anything out
    return float(1 - np.sort(scores)[rank - 1])


def fit_reference(train: np.ndarray, validation: np.ndarray, seed: int = 0) -> Reference:
    """Chooses reference embeddings from training images and the distance that validation images stay within.

    Args:
        train: (N, D) embeddings of training images.
        validation: (M, D) embeddings of validation images.
        seed: of the choice.
    """
    chosen = np.random.default_rng(seed).permutation(len(train))[:REFERENCE_SIZE]
    reference = _unit(train[chosen]).astype(np.float16).astype(np.float32)  # as it will be stored
    threshold = float(np.quantile(neighbour_distance(validation, reference), KEPT_IN))
    return Reference(reference, threshold)


def neighbour_distance(embeddings: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Cosine distance of each embedding to its tenth nearest reference.

    Args:
        embeddings: (N, D), any norm.
        reference: (R, D) of norm 1.

    Returns:
        (N,) distances in [0, 2].
    """
    unit = torch.from_numpy(_unit(embeddings).astype(np.float32, copy=False))
    similarity = (unit @ torch.from_numpy(reference).T).numpy()  # numpy's own threads would wait busily after it
    k = min(NEIGHBOURS, similarity.shape[1])
    return 1 - np.partition(similarity, -k, axis=1)[:, -k]


def _unit(embeddings: np.ndarray) -> np.ndarray:
    embeddings = np.asarray(embeddings, dtype=np.float32)
    return embeddings / np.maximum(np.linalg.norm(embeddings, axis=1, keepdims=True), 1e-12)


def calibration_error(probs: np.ndarray, labels: np.ndarray, bins: int = 15) -> float:
    """Expected calibration error of the predicted label, with bins of equal counts (Nguyen & O'Connor, 2015).

    Args:
        probs: (N, K) probabilities.
        labels: (N,) true label numbers.
        bins: number of bins.

    Returns:
        Mean distance of confidence from accuracy, in [0, 1].
    """
    confidence, correct = probs.max(axis=1), probs.argmax(axis=1) == labels
    order = np.argsort(confidence, kind="stable")
    parts = np.array_split(order, min(bins, len(order)))
    gaps = [abs(confidence[part].mean() - correct[part].mean()) * len(part) for part in parts]
    return float(sum(gaps) / len(order))
