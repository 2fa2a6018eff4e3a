"""A task's models, read side by side: `Panel.load("covid").read(read_image(path))`.

One model that is missing, broken, too slow or not finite is an opinion "unavailable: reason"; the others answer, and
the consensus leaves it out and says so.
"""

from __future__ import annotations

import dataclasses
import logging
import queue
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch

from xray_models.checkpoints import Checkpoint, load_checkpoint
from xray_models.images import InputSpec, Radiograph, to_input
from xray_models.tasks import ModelRef, Task, load_task

_log = logging.getLogger(__name__)
_T = TypeVar("_T")
TIMEOUT = 60.0  # seconds that one model may take for one batch
_BATCH = 16


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
        in_distribution: whether the image is like those the model was trained on; None where not known.
        milliseconds: time for this image.
        reason: why the model is unavailable.
    """

    model: str
    revision: str | None = None
    status: str = "ok"
    label: str | None = None
    probs: dict[str, float] | None = None
    prediction_set: tuple[str, ...] | None = None
    in_distribution: bool | None = None
    milliseconds: float | None = None
    reason: str | None = None


@dataclasses.dataclass(frozen=True)
class Consensus:
    """What the models that answered say together.

    Attributes:
        label: the most probable label of the mean.
        probs: mean of the calibrated probabilities.
        votes: number of models for each label that got any, most first.
        disagreement: Jensen-Shannon divergence of the opinions, base = number of labels, in [0, 1].
        prediction_set: labels that at least one model cannot rule out.
        in_distribution: whether most models that can tell say so; None where none can.
        answered: number of models that answered.
        asked: number of models in the panel.
    """

    label: str
    probs: dict[str, float]
    votes: dict[str, int]
    disagreement: float
    prediction_set: tuple[str, ...]
    in_distribution: bool | None
    answered: int
    asked: int


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
    raw = dataclasses.asdict(record)
    return {key: list(v) if isinstance(v, tuple) else v for key, v in raw.items() if v is not None}


class Outputs(NamedTuple):
    """What a model gives for a batch: probabilities (B, K), embeddings (B, D), seconds."""

    probs: np.ndarray
    embeddings: np.ndarray
    seconds: float


class Panel:
    """All models of a task, loaded.

    Args:
        task: the task.
        members: in the order of the task; a `Checkpoint`, or the unavailable `Opinion` that stands for it.
        device: torch device of the models.
    """

    def __init__(self, task: Task, members: Sequence[Checkpoint | Opinion], device: str = "cpu"):
        self.task, self.members, self.device = task, tuple(members), device
        self.timeout = TIMEOUT

    @classmethod
    def load(cls, task: str | Task, models: Iterable[str] | None = None, device: str | None = None) -> Panel:
        """Loads a task's models; one that cannot be loaded becomes an unavailable opinion.

        Args:
            task: a task or its name.
            models: names of the wanted models; None for all.
            device: torch device; None for CUDA where there is one, else the CPU.

        Raises:
            TaskError: for an unknown task or model name.
        """
        task = load_task(task) if isinstance(task, str) else task
        refs = task.models if models is None else [task.model(name) for name in models]
        device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        return cls(task, [_load(task, ref, device) for ref in refs], device)

    @property
    def checkpoints(self) -> dict[str, Checkpoint]:
        """The models that could be loaded, by name."""
        return {member.name: member for member in self.members if isinstance(member, Checkpoint)}

    def read(self, image: Radiograph) -> Reading:
        """Asks every model about one image."""
        return self.collect(image, list(self.ask(image)))

    def ask(self, image: Radiograph) -> Iterator[Opinion]:
        """Yields each model's opinion as soon as it is there, in the panel's order."""
        inputs: dict[InputSpec, torch.Tensor] = {}
        for member in self.members:
            yield self._opinions(member, [image], inputs)[0]

    def read_many(self, images: Iterable[Radiograph]) -> Iterator[Reading]:
        """Reads images in batches, in their order; memory holds one batch."""
        remaining = iter(images)
        while batch := list(islice(remaining, _BATCH)):
            inputs: dict[InputSpec, torch.Tensor] = {}
            columns = [self._opinions(member, batch, inputs) for member in self.members]
            for image, opinions in zip(batch, zip(*columns, strict=True), strict=True):
                yield self.collect(image, opinions)

    def collect(self, image: Radiograph, opinions: Sequence[Opinion]) -> Reading:
        """Puts opinions on one image together into a reading."""
        return Reading(self.task.name, describe_image(image), tuple(opinions), agree(self.task, opinions))

    def _opinions(
        self,
        member: Checkpoint | Opinion,
        images: Sequence[Radiograph],
        inputs: dict[InputSpec, torch.Tensor],
    ) -> list[Opinion]:
        """One model's opinions on a batch; `inputs` keeps each distinct input for the models after it."""
        if isinstance(member, Opinion):
            return [member] * len(images)
        try:
            if member.spec not in inputs:
                inputs[member.spec] = torch.stack([to_input(image, member.spec) for image in images])
            outputs = within(self.timeout, lambda: self._run(member, inputs[member.spec]))
        except Exception as error:  # noqa: BLE001 - the edge: one model must not stop the others
            reason = _first_line(error)
            _log.warning("model %s of task %s is unavailable: %s", member.name, self.task.name, reason)
            return [_unavailable(member.name, reason, member.revision)] * len(images)
        return [_form_opinion(self.task, member, outputs, index) for index in range(len(images))]

    @torch.inference_mode()
    def _run(self, member: Checkpoint, inputs: torch.Tensor) -> Outputs:
        start = time.perf_counter()
        embeddings = member.parts.pool(member.parts.body(inputs.to(self.device)))
        probs = member.parts.classifier(embeddings).float().softmax(dim=1).cpu().numpy()
        return Outputs(probs, embeddings.float().cpu().numpy(), time.perf_counter() - start)


def _load(task: Task, ref: ModelRef, device: str) -> Checkpoint | Opinion:
    try:
        checkpoint = load_checkpoint(task, ref)
        torch.nn.Module.to(checkpoint.model, device).requires_grad_(False)
    except Exception as error:  # noqa: BLE001 - the edge: whatever is wrong with one model must not stop the others
        reason = _first_line(error)
        _log.warning("model %s of task %s is unavailable: %s", ref.name, task.name, reason)
        return _unavailable(ref.name, reason, ref.revision)
    return checkpoint


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def _unavailable(model: str, reason: str, revision: str | None) -> Opinion:
    return Opinion(model, revision, status="unavailable", reason=reason)


def _form_opinion(task: Task, member: Checkpoint, outputs: Outputs, index: int) -> Opinion:
    probs = outputs.probs[index]
    if not np.isfinite(probs).all():
        return _unavailable(member.name, "its output is not a number", member.revision)
    chosen = None
    if member.conformal is not None:
        chosen = tuple(label for label, p in zip(task.labels, probs, strict=True) if p >= member.conformal)
    return Opinion(
        model=member.name,
        revision=member.revision,
        label=task.labels[int(probs.argmax())],
        probs={label: float(p) for label, p in zip(task.labels, probs, strict=True)},
        prediction_set=chosen,
        in_distribution=None if member.reference is None else member.reference.contains(outputs.embeddings[index]),
        milliseconds=round(1000 * outputs.seconds / len(outputs.probs), 2),
    )


def agree(task: Task, opinions: Sequence[Opinion]) -> Consensus | None:
    """Forms the consensus of the opinions that are there; None when there is none."""
    answers = [opinion for opinion in opinions if opinion.probs is not None]
    if not answers:
        return None
    probs = np.array([list(answer.probs.values()) for answer in answers if answer.probs])  # (models, K)
    mean = probs.mean(axis=0)
    ruled_in = {label for answer in answers for label in answer.prediction_set or ()}
    known = [answer.in_distribution for answer in answers if answer.in_distribution is not None]
    return Consensus(
        label=task.labels[int(mean.argmax())],
        probs={label: float(p) for label, p in zip(task.labels, mean, strict=True)},
        votes=dict(Counter(str(answer.label) for answer in answers).most_common()),
        disagreement=disagreement(probs),
        prediction_set=tuple(label for label in task.labels if label in ruled_in),
        in_distribution=2 * sum(known) > len(known) if known else None,
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

    def entropy(p: np.ndarray) -> np.ndarray:
        return -np.sum(np.where(p > 0, p * np.log(np.maximum(p, 1e-300)), 0.0), axis=-1) / np.log(p.shape[-1])

    rows = np.asarray(probs, dtype=np.float64)
    return float(np.clip(entropy(rows.mean(axis=0)) - entropy(rows).mean(), 0.0, 1.0))


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


def within(seconds: float, work: Callable[[], _T]) -> _T:
    """Runs `work` in its own thread and waits for it; raises TimeoutError when it takes longer.

    A thread cannot be stopped: one that hangs is left behind and ends with the process.
    """
    answer: queue.SimpleQueue[tuple[bool, Any]] = queue.SimpleQueue()

    def run() -> None:
        try:
            answer.put((True, work()))
        except BaseException as error:  # noqa: BLE001 - handed to the caller, which raises it
            answer.put((False, error))

    threading.Thread(target=run, daemon=True).start()
    try:
        ok, value = answer.get(timeout=seconds)
    except queue.Empty:
        raise TimeoutError(f"no answer within {seconds:g} s") from None
    if not ok:
        raise value
    return value
