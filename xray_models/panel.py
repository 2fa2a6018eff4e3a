"""A task's models, read side by side: `Panel.load("covid").read(read_image(path))`.

One model that is missing, broken, too slow or not finite is an opinion "unavailable: reason"; the others answer, and
the consensus leaves it out and says so.
"""

from __future__ import annotations

import dataclasses
import functools
import logging
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, wait
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
import torch

from xray_models.batches import Batch, first_line
from xray_models.checkpoints import Checkpoint, load_checkpoint
from xray_models.fusing import share_weights
from xray_models.images import Radiograph
from xray_models.readings import Opinion, Reading, agree, describe_image
from xray_models.tasks import ModelRef, Task, TaskError, choose, load_task
from xray_models.workers import WORKERS, ahead

_log = logging.getLogger(__name__)
TIMEOUT = 60.0  # seconds that one model may take for one batch
_BATCH = 16


class Outputs(NamedTuple):
    """What a model gives for a batch.

    Attributes:
        probs: (B, K) probabilities.
        novelty: (B,) how unlike its training images each is, as in `Opinion`; None where that is not known.
        seconds: that it took.
    """

    probs: np.ndarray
    novelty: np.ndarray | None
    seconds: float


class Panel:
    """All models of a task, loaded.

    Args:
        task: the task.
        members: in the order of the task; a `Checkpoint`, or the unavailable `Opinion` that stands for it.
        device: torch device of the models.

    Attributes:
        engines: what runs each loaded model.
    """

    def __init__(self, task: Task, members: Sequence[Checkpoint | Opinion], device: str = "cpu"):
        self.task, self.members, self.device = task, tuple(members), device
        self.timeout = TIMEOUT
        self.engines = dict.fromkeys(self.checkpoints, "torch")
        self._lent = share_weights([member for member in self.members if isinstance(member, Checkpoint)])

    @classmethod
    def load(
        cls,
        task: str | Task,
        models: Iterable[str] | None = None,
        device: str | None = None,
        engine: str = "torch",
    ) -> Panel:
        """Loads a task's models; one that cannot be loaded becomes an unavailable opinion.

        Args:
            task: a task or its name.
            models: names of the wanted models; None for all.
            device: torch device; None for CUDA where there is one, else the CPU.
            engine: one of `engine.ENGINES`; the exact one by default.

        Raises:
            TaskError: for an unknown task, model or engine name, or a model that is named twice.
        """
        task = load_task(task) if isinstance(task, str) else task
        refs = task.models if models is None else task.pick(models)
        device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        panel = cls(task, [_load(task, ref, device) for ref in refs], device)
        panel.choose_engines(engine)
        return panel

    def choose_engines(self, kind: str) -> None:
        """Gives every model its engine, one after the other; readings may go on meanwhile.

        A model that cannot have the engine that was asked for becomes an unavailable opinion.

        Args:
            kind: one of `engine.ENGINES`.

        Raises:
            TaskError: for an unknown engine.
        """
        if kind == "torch":
            return
        from xray_models.engine import ENGINES, build_engine  # OpenVINO is not needed for torch

        choose("engine", kind, ENGINES)
        for place, member in enumerate(self.members):
            if not isinstance(member, Checkpoint):
                continue
            try:
                found = build_engine(member, kind)
            except TaskError as error:
                settled: Checkpoint | Opinion = _unavailable(member.name, str(error), member.revision)
                self.engines.pop(member.name, None)
            else:
                settled = dataclasses.replace(member, fast=found.parts)
                self.engines[member.name] = found.name
            self.members = (*self.members[:place], settled, *self.members[place + 1 :])

    @property
    def checkpoints(self) -> dict[str, Checkpoint]:
        """The models that could be loaded, by name."""
        return {member.name: member for member in self.members if isinstance(member, Checkpoint)}

    @property
    def memory(self) -> int:
        """Bytes that the models' weights take; OpenVINO has its own beside torch's, a fusion its members' ones."""
        taken: dict[int, int] = {}  # by place in the memory
        for name, member in self.checkpoints.items():
            copies = 1 if self.engines.get(name, "torch") == "torch" else 2
            for tensor in member.model.state_dict().values():
                size = copies * tensor.numel() * tensor.element_size()
                taken[tensor.data_ptr()] = max(size, taken.get(tensor.data_ptr(), 0))
        return sum(taken.values())

    def read(self, image: Radiograph) -> Reading:
        """Asks every model about one image."""
        return self.collect(image, list(self.ask(image)))

    def ask(self, image: Radiograph, features: dict[str, Any] | None = None) -> Iterator[Opinion]:
        """Yields each model's opinion as soon as it is there, in the panel's order.

        Args:
            image: the image.
            features: filled with what each model's body gave, for `attribution.explain`.
        """
        batch = Batch([image], features=features)
        batch.resize(member.spec for member in self.checkpoints.values())
        coming: Future[list[Opinion]] | None = None
        for member in (*self.members, None):
            arrived = coming.result() if coming else []
            coming = WORKERS.start(functools.partial(self._opinions, member, batch)) if member else None
            yield from arrived  # the next model computes while the caller does its part

    def read_many(self, images: Iterable[Radiograph]) -> Iterator[Reading]:
        """Reads images in batches, in their order.

        Memory holds one batch, and beside a GPU two: there the next one is prepared while the models read this one. On
        a CPU that would take a core from the models, which wait for their slowest thread.
        """
        prepared = self._prepare(iter(images))
        for batch in prepared if self.device == "cpu" else ahead(prepared):
            columns = [self._opinions(member, batch) for member in self.members]
            for image, opinions in zip(batch.images, zip(*columns, strict=True), strict=True):
                yield self.collect(image, opinions)

    def _prepare(self, images: Iterator[Radiograph]) -> Iterator[Batch]:
        specs = [member.spec for member in self.checkpoints.values()]
        while taken := list(islice(images, _BATCH)):
            batch = Batch(taken)
            batch.resize(specs)
            wait(part for parts in batch.planes.values() for part in parts)
            yield batch

    def collect(self, image: Radiograph, opinions: Sequence[Opinion]) -> Reading:
        """Puts opinions on one image together into a reading."""
        return Reading(self.task.name, describe_image(image), tuple(opinions), agree(self.task, opinions))

    def _opinions(self, member: Checkpoint | Opinion, batch: Batch) -> list[Opinion]:
        """One model's opinions on a batch."""
        count = len(batch.images)
        if isinstance(member, Opinion):
            return [member] * count
        try:
            batch.prepare(member.spec)
            outputs = WORKERS.run(lambda: self._run(member, batch), self.timeout)
            faults = batch.faults.get(member.spec, {})
            return [
                _unavailable(member.name, faults[index], member.revision)
                if index in faults
                else _form_opinion(self.task, member, outputs, index)
                for index in range(count)
            ]
        except Exception as error:  # noqa: BLE001 - the edge: one model must not stop the others
            reason = first_line(error)
            _log.warning("model %s of task %s is unavailable: %s", member.name, self.task.name, reason)
            return [_unavailable(member.name, reason, member.revision)] * count

    @torch.no_grad()
    def _run(self, member: Checkpoint, batch: Batch) -> Outputs:
        start = time.perf_counter()
        lenders = self._lent.get(member.name, ())
        if lenders and all(name in batch.embeddings for name in lenders):
            gathered = torch.cat([batch.embeddings[name] for name in lenders], dim=1)
            if batch.features is not None:
                batch.features[member.name] = tuple(batch.features[name] for name in lenders)
        else:
            features = member.forward.body(batch.prepare(member.spec).to(self.device))
            gathered = member.forward.gather(features)
            if batch.features is not None:
                batch.features[member.name] = features
        batch.embeddings[member.name] = embeddings = member.parts.fuse(gathered)
        probs = member.parts.classifier(embeddings).float().softmax(dim=1).cpu().numpy()
        known = member.reference
        novelty = None if known is None else known.novelty(gathered.float().cpu().numpy())
        return Outputs(probs, novelty, time.perf_counter() - start)


def _load(task: Task, ref: ModelRef, device: str) -> Checkpoint | Opinion:
    try:
        checkpoint = load_checkpoint(task, ref)
        torch.nn.Module.to(checkpoint.model, device).requires_grad_(False)
        torch.nn.Module.to(checkpoint.model, memory_format=torch.channels_last)  # convolutions take less time so
    except Exception as error:  # noqa: BLE001 - the edge: whatever is wrong with one model must not stop the others
        reason = first_line(error)
        _log.warning("model %s of task %s is unavailable: %s", ref.name, task.name, reason)
        return _unavailable(ref.name, reason, ref.revision)
    return checkpoint


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
        novelty=None if outputs.novelty is None else round(float(outputs.novelty[index]), 3),
        milliseconds=round(1000 * outputs.seconds / len(outputs.probs), 2),
    )
