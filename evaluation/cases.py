"""Asks a panel about the images of a manifest: decoded ahead, answered in batches, kept as cases."""

from __future__ import annotations

import dataclasses
import os
import re
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import pandas as pd
from tqdm import tqdm

from evaluation.cache import OpinionCache, Voice, know_voice
from evaluation.predictions import CONSENSUS, Case
from xray_models.fields import check_once
from xray_models.images import ImageError, Radiograph, read_image
from xray_models.layouts import name_below
from xray_models.panel import Panel
from xray_models.readings import Opinion, Reading, agree
from xray_models.tasks import ModelRef, Task, TaskError

FAULT = ("image", "label", "reason")
BATCH = 16  # images that a panel reads at once, and after which the cache is written
_THREADS = 8  # that decode, at most
_DIGITS = 6  # of a probability
_PINNED = re.compile(r"([\w.-]+/[\w.-]+)@([0-9a-f]{40})")


def choose_models(task: Task, names: Sequence[str] | None) -> Task:
    """Returns the task with these models alone, in this order; pulls those of the Hub that are not on this machine.

    Args:
        task: the task.
        names: models of the task, or `owner/repo@<commit>` of the Hub, which is then called `repo` (`repo-2`, where
            that name is taken); None for the task as it is.

    Raises:
        TaskError: for an unknown or repeated name, or a model of the Hub that is not pinned to a commit.
        HubError: when a model of the Hub cannot be had, or is for other labels.
    """
    if names is None:
        return task
    check_once("model", names)
    own = {name: task.model(name) for name in names if "/" not in name}
    taken = {CONSENSUS, *(ref.name for ref in task.models)}
    refs = []
    for name in names:
        ref = own.get(name) or _pin(name, taken)
        taken.add(ref.name)
        refs.append(ref)
    for ref in refs:
        if ref.repo is not None:
            _fetch(task, ref)
    return dataclasses.replace(task, models=tuple(refs))


def _pin(name: str, taken: set[str]) -> ModelRef:
    """A model of the Hub from `owner/repo@commit`, under a name that is not taken."""
    pinned = _PINNED.fullmatch(name)
    if pinned is None:
        raise TaskError(
            f"{name!r} does not name a model of the Hub at a commit, and anything else could change between two runs. "
            "Write owner/repo@ and the 40 hexadecimal digits of a commit; the repository's history lists them."
        )
    from xray_models.hub_cache import name_model  # local models need no client

    repo, revision = pinned.groups()
    return ModelRef(name_model(repo, taken), repo=repo, revision=revision)


def _fetch(task: Task, ref: ModelRef) -> None:
    """Sees to it that a model of the Hub is on this machine and fits the task."""
    from huggingface_hub.errors import HFValidationError

    from xray_models.hub_cache import check_config, pull_model, read_config, resolve  # local models need no client
    from xray_models.hub_client import HubError, NotPulled, connect

    try:
        folder = resolve(task, ref)
        check_config(task, read_config(folder), [path.name for path in folder.iterdir()], str(ref.repo))
    except NotPulled:
        pull_model(connect(), task, ref)
    except HFValidationError as error:
        raise HubError(f"{ref.repo!r} cannot be the name of a repository: {error}") from error


def load_panel(task: Task, models: Sequence[str] | None = None, engine: str = "torch") -> Panel:
    """Loads a task's panel; raises `TaskError` with every reason when no model of it is available."""
    panel = Panel.load(task, models, engine=engine)
    if not panel.checkpoints:
        reasons = [f"{member.model}: {member.reason}" for member in panel.members if isinstance(member, Opinion)]
        known = ", ".join(ref.name for ref in task.models) or "none"
        raise TaskError(f"No model of task {task.name!r} is available (models: {known}). " + " ".join(reasons))
    return panel


def read_ahead(paths: Iterable[str], beside: bool = False) -> Iterator[Radiograph | str]:
    """Decodes images in threads, a batch at a time; yields each image, or the reason why it cannot be read.

    Args:
        paths: the files.
        beside: whether the next batch is decoded while the caller has this one. On a CPU that takes a core from the
            models, which wait for their slowest thread: slower than all cores for one and then for the other.
    """
    rest = iter(paths)
    with ThreadPoolExecutor(min(_THREADS, os.cpu_count() or 1)) as pool:
        batch = [pool.submit(try_to_read, path) for path in islice(rest, BATCH)]
        while batch:
            following = [pool.submit(try_to_read, path) for path in islice(rest, BATCH)] if beside else []
            for image in batch:
                yield image.result()
            batch = following or [pool.submit(try_to_read, path) for path in islice(rest, BATCH)]


def try_to_read(path: str) -> Radiograph | str:
    """Returns an image, or the reason why it cannot be read."""
    try:
        return read_image(path)
    except ImageError as error:
        return str(error)
    except OSError as error:
        return error.strerror or type(error).__name__


def collect_cases(
    panel: Panel, rows: pd.DataFrame, folder: Path, cache: OpinionCache | None = None
) -> tuple[list[Case], pd.DataFrame]:
    """Asks a panel about every image of a manifest; memory holds one batch of images.

    With a cache, an opinion that it holds is taken from there, and an image on which it holds all of them is not even
    opened. What is new is stored after every batch, so that a run that was broken off goes on where it stopped.

    Args:
        panel: the models.
        rows: of a manifest: path, label, group, and with a cache sha256.
        folder: the data folder, to which the cases' paths are relative.
        cache: opinions formed before.

    Returns:
        A case for each image that could be read, and the others: image, label, reason; both in the order of `rows`.
        The opinions are as `settle` leaves them, and the consensus is formed of those.
    """
    desk = _Desk(panel, list(rows["path"]), cache)
    if cache is not None:
        desk.recall(rows["sha256"])
    desk.ask()
    cases, faults = [], []
    for place, (path, group, label) in enumerate(zip(desk.paths, rows["group"], rows["label"], strict=True)):
        image = name_below(path, folder)
        if place in desk.faults:
            faults.append((image, label, desk.faults[place]))
        else:
            opinions = desk.opinions(place)
            cases.append(Case(image, str(group), label, opinions, agree(panel.task, opinions)))
    return cases, pd.DataFrame(faults, columns=list(FAULT))


class _Desk:
    """A panel's answers on the way: what is known, by model and picture, and what cannot be read, by place."""

    def __init__(self, panel: Panel, paths: list[str], cache: OpinionCache | None):
        self.panel, self.paths, self.cache = panel, paths, cache
        self.known: dict[str, dict[str, Opinion]] = {name: {} for name in panel.checkpoints}
        self.pictures = [""] * len(paths)  # sha256 of the pixels, "" until known
        self.faults: dict[int, str] = {}
        self.voices: dict[str, Voice] = {}

    def recall(self, pictures: Iterable[str]) -> None:
        """Takes what the cache holds on these pictures, one a path."""
        if self.cache is not None:
            self.pictures = list(pictures)
            members, engines = self.panel.checkpoints, self.panel.engines
            self.voices = {name: know_voice(member, engines[name]) for name, member in members.items()}
            self.known = {name: self.cache.find(voice, self.pictures) for name, voice in self.voices.items()}

    def ask(self) -> None:
        """Has every missing opinion formed: images that lack the same models' go together."""
        lacking: dict[tuple[str, ...], list[int]] = {}
        for place, picture in enumerate(self.pictures):
            models = tuple(name for name, known in self.known.items() if picture not in known)
            lacking.setdefault(models, []).append(place)
        done = len(lacking.pop((), ()))
        with tqdm(desc="reading", total=len(self.paths), initial=done, unit="image", disable=None) as bar:
            for models, places in lacking.items():
                asked: deque[int] = deque()
                readings = self._choose(models).read_many(self._decode(places, asked))
                while new := list(islice(readings, BATCH)):
                    self._take([asked.popleft() for _ in new], new)
                    bar.update(len(new))

    def _choose(self, models: tuple[str, ...]) -> Panel:
        """The panel, or only some of its models."""
        members = self.panel.checkpoints
        if len(models) == len(members):
            return self.panel
        chosen = Panel(self.panel.task, [members[name] for name in models], self.panel.device)
        chosen.timeout = self.panel.timeout
        return chosen

    def _decode(self, places: list[int], asked: deque[int]) -> Iterator[Radiograph]:
        """Yields the images that can be read, and notes their places in `asked`."""
        decoded = read_ahead((self.paths[place] for place in places), beside=self.panel.device != "cpu")
        for place, found in zip(places, decoded, strict=True):
            if isinstance(found, str):
                self.faults[place] = found
            else:
                asked.append(place)
                yield found

    def _take(self, places: list[int], readings: list[Reading]) -> None:
        """Keeps a batch's opinions; of two on the same picture the first counts."""
        new = []
        for place, reading in zip(places, readings, strict=True):
            picture = self.pictures[place] = reading.image["sha256"]
            for opinion in reading.opinions:
                if opinion.model in self.known:
                    kept = self.known[opinion.model].setdefault(picture, settle(opinion))
                    new.append((opinion.model, picture, kept))
        if self.cache is not None:
            self.cache.store((self.voices[model], picture, kept) for model, picture, kept in new)

    def opinions(self, place: int) -> tuple[Opinion, ...]:
        """What the panel says on one image, in its order."""
        picture = self.pictures[place]
        members = self.panel.members
        return tuple(m if isinstance(m, Opinion) else self.known[m.name][picture] for m in members)


def settle(opinion: Opinion) -> Opinion:
    """An opinion as it is judged and stored: probabilities of six significant digits, without its milliseconds.

    The seventh digit of a float moves with the other images of a batch. Two runs that batch the images differently
    agree in what is kept, save where that digit tips the rounding: then they differ in the last digit kept. Digits are
    significant ones, not decimals, because a probability of 3e-7 that became 0 would count as an endless log loss.
    """
    if opinion.probs is None:
        return dataclasses.replace(opinion, milliseconds=None)
    probs = {label: float(f"{p:.{_DIGITS}g}") for label, p in opinion.probs.items()}
    return dataclasses.replace(opinion, label=max(probs, key=probs.__getitem__), probs=probs, milliseconds=None)


def find_unavailable(cases: Iterable[Case]) -> dict[str, str]:
    """Models that answered on no image, with the first reason that they gave."""
    opinions = [opinion for case in cases for opinion in case.opinions]
    answered = {opinion.model for opinion in opinions if opinion.probs is not None}
    reasons: dict[str, str] = {}
    for opinion in opinions:
        if opinion.model not in answered:
            reasons.setdefault(opinion.model, opinion.reason or "no reason given")
    return reasons
