"""What a panel says of one image: opinions, their consensus and their disagreement."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from xray_models.images import Radiograph
from xray_models.tasks import Task


@dataclasses.dataclass(frozen=True)
class Opinion:
    """One model's opinion of one image.

    Attributes:
        model: its name in the panel.
        revision: which weights spoke; None where they could not be loaded.
        status: "ok" or "unavailable".
        label: the most probable label.
        probs: calibrated probability of each label, in the task's order.
        prediction_set: labels that the model cannot rule out at 90 % coverage; may be empty.
        novelty: how unlike the model's training images the image is, at least 0 and at most 1 where in distribution;
            None where not known.
        milliseconds: time for this image.
        reason: why the model is unavailable.
    """

    model: str
    revision: str | None = None
    status: str = "ok"
    label: str | None = None
    probs: dict[str, float] | None = None
    prediction_set: tuple[str, ...] | None = None
    novelty: float | None = None
    milliseconds: float | None = None
    reason: str | None = None

    @property
    def in_distribution(self) -> bool | None:
        """Whether the image is like those the model was trained on; None where not known."""
        return _is_familiar(self.novelty)


@dataclasses.dataclass(frozen=True)
class Consensus:
    """What the models that answered say together.

    Attributes:
        label: the most probable label of the mean.
        probs: mean of the calibrated probabilities.
        votes: number of models for each label that got any, most first.
        disagreement: Jensen-Shannon divergence of the opinions, base = number of labels, in [0, 1].
        prediction_set: labels that at least one model cannot rule out; None where no model has a threshold.
        novelty: root mean square of the models' own, so that those which are most surprised weigh most; at most 1 is in
            distribution; None where no model can tell.
        answered: number of models that answered.
        asked: number of models in the panel.
    """

    label: str
    probs: dict[str, float]
    votes: dict[str, int]
    disagreement: float
    prediction_set: tuple[str, ...] | None
    novelty: float | None
    answered: int
    asked: int

    @property
    def in_distribution(self) -> bool | None:
        """Whether the image is like those the models were trained on, by all of them together; None where not known."""
        return _is_familiar(self.novelty)

    @property
    def doubt(self) -> float:
        """Entropy of `probs`, base = number of labels, in [0, 1]: the disagreement and the models' own doubts together.

        The entropy of a mean is the Jensen-Shannon divergence of what it is of, and the mean of their entropies.
        """
        return float(_entropy(np.array(list(self.probs.values()))))


@dataclasses.dataclass(frozen=True)
class Reading:
    """A panel's opinions on one image; `consensus` is None when no model answered."""

    task: str
    image: dict[str, Any]
    opinions: tuple[Opinion, ...]
    consensus: Consensus | None

    def to_json(self) -> dict[str, Any]:
        """The reading as plain data, schema 1."""
        return {
            "schema": 1,
            "task": self.task,
            "image": self.image,
            "opinions": [_plain(opinion) for opinion in self.opinions],
            "consensus": None if self.consensus is None else _plain(self.consensus),
        }


def _plain(record: Opinion | Consensus) -> dict[str, Any]:
    """A dataclass as a dict, without what does not apply (None), tuples as lists."""
    raw = dataclasses.asdict(record) | {"in_distribution": record.in_distribution}
    return {key: list(v) if isinstance(v, tuple) else v for key, v in raw.items() if v is not None}


def _is_familiar(novelty: float | None) -> bool | None:
    return None if novelty is None else novelty <= 1


def agree(task: Task, opinions: Sequence[Opinion]) -> Consensus | None:
    """Forms the consensus of the opinions that are there; None when there is none."""
    answers = [opinion for opinion in opinions if opinion.probs is not None]
    if not answers:
        return None
    probs = np.array([list(answer.probs.values()) for answer in answers if answer.probs])  # (models, K)
    mean = probs.mean(axis=0)
    sets = [answer.prediction_set for answer in answers if answer.prediction_set is not None]
    known = [answer.novelty for answer in answers if answer.novelty is not None]
    return Consensus(
        label=task.labels[int(mean.argmax())],
        probs={label: float(p) for label, p in zip(task.labels, mean, strict=True)},
        votes=dict(Counter(str(answer.label) for answer in answers).most_common()),
        disagreement=disagreement(probs),
        prediction_set=tuple(label for label in task.labels if any(label in each for each in sets)) if sets else None,
        novelty=float(np.sqrt(np.mean(np.square(known)))) if known else None,
        answered=len(answers),
        asked=len(opinions),
    )


def disagreement(probs: np.ndarray) -> float:
    """Jensen-Shannon divergence of several distributions (Lin, 1991).

    Args:
        probs: (M, K) one distribution a row.

    Returns:
        The divergence in base K: 0 when all rows are equal, 1 when K rows are each sure of another label.
    """
    rows = np.asarray(probs, dtype=np.float64)
    return float(np.clip(_entropy(rows.mean(axis=0)) - _entropy(rows).mean(), 0.0, 1.0))


def _entropy(probs: np.ndarray) -> np.ndarray:
    """Of each distribution of (..., K), in base K."""
    surprise = np.where(probs > 0, probs * np.log(np.maximum(probs, 1e-300)), 0.0)
    return -np.sum(surprise, axis=-1) / np.log(probs.shape[-1])


def describe_image(image: Radiograph) -> dict[str, Any]:
    """What a reading says about its image: nothing of the patient."""
    height, width = image.pixels.shape
    facts: dict[str, Any] = {
        "sha256": image.sha256,
        "height": height,
        "width": width,
        "bits": image.bits,
        "format": image.format,
        "warnings": list(image.warnings),
    }
    if image.metadata:
        facts["metadata"] = dict(image.metadata)
    return facts
