"""A task's images as the Trainer wants them: decoded once, augmented anew in every epoch, balanced as asked."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch.utils.data import Dataset, Sampler

from xray_models import datasets
from xray_models.augment import AUTO, DRAWS, vary
from xray_models.images import InputSpec, normalise
from xray_models.policies import POLICIES
from xray_models.recipes import Recipe
from xray_models.relabels import apply_relabels, check_ledger
from xray_models.tasks import Task, choose

_log = logging.getLogger(__name__)
_SPLITS = ("train", "validation", "test")


class ImageSet(Dataset):
    """Images of one split as they were decoded, (H, W) uint8, with the random numbers by which `augment` varies them.

    What augmentation does to an image follows from (seed, epoch, place in the set) alone: the number of workers
    and processes, and where a training was resumed, change nothing.

    Args:
        pixels: (N, H, W) uint8.
        labels: (N,) label numbers.
        spec: the model's input.
        augment: name of a policy.
        seed: of the augmentation.
    """

    def __init__(self, pixels: np.ndarray, labels: np.ndarray, spec: InputSpec, augment: str = "none", seed: int = 0):
        self.pixels, self.labels, self.spec = pixels, np.asarray(labels), spec
        self.policy = POLICIES[choose("augmentation policy", augment, POLICIES)]
        self.varied = self.policy._replace(auto=False) != POLICIES["none"]  # batch by batch
        self.order = np.arange(len(self.labels))  # the image behind each place
        self.seed, self.epoch = seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Says which epoch's augmentation comes next."""
        self.epoch = epoch

    def raise_minorities(self) -> None:
        """Repeats images until every label has as many as the most frequent; the copies go through AutoAugment, too."""
        counts = np.bincount(self.labels)
        rng = np.random.default_rng(self.seed)
        copies = []
        for label in np.flatnonzero(counts):
            own = np.flatnonzero(self.labels == label)
            missing = counts.max() - len(own)
            copies.append(np.concatenate([rng.permutation(own) for _ in range(-(-missing // len(own)))] or [own[:0]]))
            copies[-1] = copies[-1][:missing]
        self.order = np.concatenate([np.arange(len(self.labels)), *copies])

    def __len__(self) -> int:
        return len(self.order)

    def __getitem__(self, place: int) -> dict[str, Any]:
        index = self.order[place]
        image = torch.from_numpy(np.array(self.pixels[index]))
        item: dict[str, Any] = {"pixel_values": image, "labels": int(self.labels[index])}
        rng = np.random.default_rng([self.seed, self.epoch, int(place)])
        if self.varied:
            item["draws"] = rng.random(DRAWS)
        if self.policy.auto or place >= len(self.labels):
            with torch.random.fork_rng(devices=[]):
                torch.default_generator.manual_seed(int(rng.integers(2**32)))  # `torch.manual_seed` is slow beside CUDA
                item["pixel_values"] = AUTO(image[None])[0]
        return item

    def prepare(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Makes what a model takes of a batch: varied by the policy, and in the model's numbers.

        Args:
            batch: from `collate`; its tensors on any device.
        """
        pixels = batch["pixel_values"][:, None]
        if "draws" in batch:
            pixels = vary(pixels, batch["draws"], self.policy)
        return {"pixel_values": normalise(pixels[:, 0], self.spec), "labels": batch["labels"]}


def collate(items: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Puts items of an `ImageSet` into a batch: its images and labels as tensors, the random numbers as an array."""
    batch: dict[str, Any] = {
        "pixel_values": torch.stack([item["pixel_values"] for item in items]),
        "labels": torch.tensor([item["labels"] for item in items]),
    }
    if "draws" in items[0]:
        batch["draws"] = np.stack([item["draws"] for item in items])  # no tensor: it stays beside the processor
    return batch


def read_rows(task: Task, data: Path | None, flags: Path | None = None) -> pd.DataFrame:
    """Lists a task's images, one a row, as a manifest's `rows`.

    Args:
        task: the task.
        data: data folder, or None for the default.
        flags: a ledger whose relabels are applied to the training and validation images, or None.

    Raises:
        DataError: when the data are missing, a split has no image, or a label none to learn from.
    """
    if flags is not None:
        check_ledger(flags)
    rows = datasets.open_dataset(task, data).rows
    if flags is not None:
        rows = apply_relabels(rows, flags, task)
    _check_splits(task, rows)
    return rows


def load_splits(task: Task, recipe: Recipe, spec: InputSpec, rows: pd.DataFrame, seed: int = 0) -> dict[str, ImageSet]:
    """Reads a task's images into a training, a validation and a test set.

    Args:
        task: the task.
        recipe: names the augmentation and the balancing of the training set.
        spec: the model's input.
        rows: from `read_rows`.
        seed: of the augmentation.

    Raises:
        DataError: when no image of a split can be used.
    """
    number = {label: index for index, label in enumerate(task.labels)}
    sets = {}
    for split in _SPLITS:
        part, arrays = _decode(rows[rows["split"] == split], spec)
        labels = part["label"].map(number).to_numpy()
        sets[split] = ImageSet(arrays.pixels, labels, spec, recipe.augment if split == "train" else "none", seed)
    if recipe.balance == "copies":
        sets["train"].raise_minorities()
    return sets


def _decode(part: pd.DataFrame, spec: InputSpec) -> tuple[pd.DataFrame, datasets.Arrays]:
    """Decodes a split's images; those that cannot be brought to the input's size are left out."""
    arrays = datasets.load_arrays(part["path"], spec)
    if not any(arrays.faults):
        return part, arrays
    for path, fault in zip(part["path"], arrays.faults, strict=True):
        if fault:
            _log.warning("left out: %s: %s", path, fault)
    part = part[[not fault for fault in arrays.faults]]
    if part.empty:
        raise datasets.DataError(f"None of the {len(arrays.faults)} images of a split can be used: {arrays.faults[0]}")
    return part, datasets.load_arrays(part["path"], spec)


def _check_splits(task: Task, rows: pd.DataFrame) -> None:
    """Refuses a split without images, and a label without any to learn from; warns of one that cannot be judged."""
    for split in _SPLITS:
        part = rows[rows["split"] == split]
        if part.empty:
            raise datasets.DataError(f"The {split} split has no image; the data set has {len(rows)} in all.")
        missing = ", ".join(label for label in task.labels if label not in set(part["label"]))
        if missing and split == "train":
            raise datasets.DataError(
                f"No training image has the label {missing}; the training images have "
                f"{', '.join(sorted(set(part['label'])))}. A model learns a label from images: add some of it, or "
                "train a task whose `labels:` in hub_configs leave it out."
            )
        if missing:
            _log.warning("no %s image has the label %s: the model cannot be judged by it there", split, missing)


def class_weights(labels: np.ndarray, classes: int) -> np.ndarray:
    """Weights by inverse frequency whose mean over the images is 1.

    Args:
        labels: (N,) label numbers.
        classes: number of labels, K.

    Returns:
        (K,) weights.
    """
    return len(labels) / (classes * np.maximum(np.bincount(labels, minlength=classes), 1))


class BalancedSampler(Sampler[int]):
    """Draws with replacement, every label as often as any other; the same draw on every process.

    Args:
        labels: (N,) label numbers.
        seed: of the draw; each epoch has its own.
    """

    def __init__(self, labels: np.ndarray, seed: int):
        self.chances = torch.tensor(1 / np.bincount(labels)[labels], dtype=torch.float64)
        self.seed, self.epoch = seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Says which epoch is drawn next."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.chances)

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self.seed * 100_003 + self.epoch)
        yield from torch.multinomial(self.chances, len(self.chances), True, generator=generator).tolist()
