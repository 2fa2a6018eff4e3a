"""Judges one model's heatmaps, image by image: what is shown, hidden, pointed at and lost is written into `Records`."""

from __future__ import annotations

import copy
import dataclasses
from collections import defaultdict
from typing import NamedTuple

import numpy as np
import torch
from torch import nn
from transformers import AutoModelForImageClassification

from evaluation import faithfulness as faith
from evaluation.samples import Item, QuickPanel
from xray_models.architectures import split_model
from xray_models.attribution import METHODS
from xray_models.checkpoints import Checkpoint
from xray_models.images import InputSpec, from_input, to_input
from xray_models.panel import Batch

STEPS = 6  # in which an image is shown or hidden
SANITY_IMAGES = 16  # on which maps are compared with those of a random network
COPIES = 4  # random networks of each model; one alone may resemble the model by chance


class Place(NamedTuple):
    """A region on an image: (H, W) bool, and (H, W) pixels to it."""

    region: np.ndarray
    distance: np.ndarray


class _Map(NamedTuple):
    """A heatmap: (h, w) in the input's plane, and (H, W) on the image's grid."""

    plane: np.ndarray
    values: np.ndarray


@dataclasses.dataclass
class Records:
    """What was measured on N images; NaN where it does not apply.

    Attributes:
        count: N.
        numbers: (N,) by model (or pair, or "" for what does not depend on a model) and measure.
        curves: (N, STEPS + 1) by model and curve.
        blank: by model, maps of random networks that are empty.
        unavailable: by model, why it was left out.
    """

    count: int
    numbers: dict[tuple[str, str], np.ndarray] = dataclasses.field(init=False)
    curves: dict[tuple[str, str], np.ndarray] = dataclasses.field(init=False)
    blank: dict[str, int] = dataclasses.field(default_factory=lambda: defaultdict(int))
    unavailable: dict[str, str] = dataclasses.field(default_factory=dict)

    def __post_init__(self):
        self.numbers = defaultdict(lambda: np.full(self.count, np.nan))
        self.curves = defaultdict(lambda: np.full((self.count, STEPS + 1), np.nan))


class Stage(NamedTuple):
    """One image, prepared for all models.

    Attributes:
        at: its place in the sample.
        item: the image.
        place: where its region lies, or None.
        batch: inputs of each spec, (3 + 2 (STEPS - 1), C, h, w): the image, blurred, grey, and the inner steps of
            insertion and deletion in random order.
    """

    at: int
    item: Item
    place: Place | None
    batch: Batch


def prepare_inputs(item: Item, specs: set[InputSpec], seed: int) -> Batch:
    """What all models with one spec share of an image; see `Stage.batch`."""
    inputs = {}
    for spec in specs:
        image = to_input(item.image, spec).numpy()
        blurred, grey = faith.blur_plane(image), _make_grey(image)
        ranks = faith.rank_pixels(faith.draw_random_map(image.shape[1:], seed), seed)
        steps = _list_inner_steps(image, blurred, grey, ranks)
        inputs[spec] = torch.from_numpy(np.concatenate([image[None], blurred[None], grey[None], steps]))
    return Batch((), inputs)


def _make_grey(image: np.ndarray) -> np.ndarray:
    """An input (C, h, w) that is its own mean everywhere."""
    return np.broadcast_to(image.mean(axis=(1, 2), keepdims=True), image.shape).copy()


def _list_inner_steps(image: np.ndarray, blurred: np.ndarray, grey: np.ndarray, ranks: np.ndarray) -> np.ndarray:
    """(2 (STEPS - 1), C, h, w): insertion's, then deletion's steps, without the images at the ends."""
    insertion = faith.compose_steps(blurred, image, ranks, STEPS)[1:-1]
    return np.concatenate([insertion, faith.compose_steps(image, grey, ranks, STEPS)[1:-1]])


class Judge:
    """Judges one model's maps, image by image."""

    def __init__(self, panel: QuickPanel, member: Checkpoint, method: str, kind: str, seed: int):
        self.panel, self.member, self.method, self.kind, self.seed = panel, member, method, kind, seed
        self.copies: dict[int, Checkpoint] = {}

    def judge(self, stage: Stage, records: Records) -> tuple[int, np.ndarray]:
        """Records all measures of one image; returns the label's number and its map on the common grid.

        Raises:
            ValueError: when the model's output is not a number.
        """
        shared = self.panel.score(self.member, stage.batch)  # (3 + 2 (STEPS - 1), K)
        if not np.isfinite(shared).all():
            raise ValueError("its output is not a number")
        label = int(shared[0].argmax())
        image = stage.batch.inputs[self.member.spec][0].contiguous()
        shown = self._explain(self.member, image, label, stage.item)
        self._record_curves(stage, records, shown, shared[:, label], label)
        if stage.place is not None:
            truth = self.panel.task.labels.index(stage.item.label) if self.kind == "finding" else label
            held = shown if truth == label else self._explain(self.member, image, truth, stage.item)
            self._record_place(stage.at, stage.place, records, held.values)
        own = faith.shrink_map(shown.values)
        if stage.at < SANITY_IMAGES:
            randomised = self._explain(self._randomise(stage.at), image, label, stage.item)
            lost = faith.correlate_ranks(own, faith.shrink_map(randomised.values))
            records.blank[self.member.name] += int(np.ptp(randomised.values) == 0)
            empty = np.isnan(lost) and np.ptp(own) > 0  # the random network's map is, which has nothing of the own
            records.numbers[self.member.name, "sanity"][stage.at] = 0.0 if empty else lost
        return label, own

    def _explain(self, member: Checkpoint, image: torch.Tensor, label: int, item: Item) -> _Map:
        inputs = image[None].to(self.panel.device)
        plane = METHODS[self.method](member.parts, inputs, label, member.spec).float().cpu()
        fine = nn.functional.interpolate(plane[None, None], image.shape[1:], mode="bilinear")[0, 0]
        return _Map(fine.numpy(), from_input(plane.numpy(), item.image.pixels.shape, member.spec))

    def _record_curves(self, stage: Stage, records: Records, shown: _Map, shared: np.ndarray, label: int) -> None:
        """Insertion and deletion in the map's order and in random order; all scores are probabilities."""
        spec = self.member.spec
        image, blurred, grey = stage.batch.inputs[spec][:3].numpy()
        steps = _list_inner_steps(image, blurred, grey, faith.rank_pixels(shown.plane, stage.at))
        own = self.panel.score(self.member, Batch((), {spec: torch.from_numpy(steps)}))[:, label]
        whole, low, none = shared[:3]
        for suffix, scores in (("", own), ("_random", shared[3:])):
            curves = {
                "insertion": [low, *scores[: STEPS - 1], whole],
                "deletion": [whole, *scores[STEPS - 1 :], none],
            }
            for name, curve in curves.items():
                records.curves[self.member.name, name + suffix][stage.at] = curve
                records.numbers[self.member.name, name + suffix][stage.at] = faith.area_under(np.array(curve))

    def _record_place(self, at: int, place: Place, records: Records, heatmap: np.ndarray) -> None:
        records.numbers[self.member.name, "pointing"][at] = faith.points_into(heatmap, place.distance)
        records.numbers[self.member.name, "energy"][at] = faith.energy_inside(heatmap, place.region)

    def _randomise(self, index: int) -> Checkpoint:
        """The model with its architecture's own random start in the place of all its weights."""
        number = index % COPIES
        if number not in self.copies:
            self.copies[number] = randomise(self.member, self.seed + number)
        return self.copies[number]


def randomise(member: Checkpoint, seed: int = 0) -> Checkpoint:
    """Builds the same network anew, all its weights drawn as its architecture draws them before training."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = AutoModelForImageClassification.from_config(copy.deepcopy(member.model.config))
    model = model.eval().requires_grad_(False).to(member.model.device)
    return dataclasses.replace(member, model=model, parts=split_model(model))
