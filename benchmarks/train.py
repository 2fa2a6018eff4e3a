"""Images a second of training: `python -m benchmarks.train [--models M ...] [--steps S] [--rounds R] [--batch B]`.

In turns, in one run; medians with spread. The clock runs over steps alone, after the first few; what a training does
between two epochs is not in it.

    ours         this project's Trainer on images in memory, with the `radiograph` policy, in bfloat16 where that helps,
                 and with freed memory kept, as the command keeps it
    plain        the recipe of transformers' image-classification example: its Trainer as it comes, single precision,
                 JPEG files opened one by one and put through torchvision's transforms
    synthetic    the same model's bare step, in the same precision and with freed memory kept, on one batch that is in
                 memory already
"""

from __future__ import annotations

import sys

if __name__ == "__main__":  # answers --help before what follows is imported
    from benchmarks.commands import train

    sys.exit(train())

import argparse
import contextlib
import os
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.utils.data import Dataset
from torchvision import transforms
from transformers import (
    AutoModelForImageClassification,
    PreTrainedModel,
    ProgressCallback,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

from benchmarks.measuring import (
    compare,
    describe_machine,
    format_bar,
    format_spread,
    list_versions,
    summarise_all,
    take_turns,
    write_record,
)
from xray_models import phantom
from xray_models.architectures import build_model
from xray_models.images import InputSpec, from_pixels, to_uint8
from xray_models.imagesets import ImageSet, collate
from xray_models.memory import keep_memory, release_memory
from xray_models.precision import bf16_helps
from xray_models.recipes import Recipe
from xray_models.trainer import RecipeTrainer, build_trainer

WARM = 3  # steps before the clock starts
DRAWN = 64  # different images; a longer epoch goes through them again
BARS = {"plain": 2.5, "synthetic": 0.95}  # how many times as fast as these `ours` shall be
BARRED = {"plain": ("resnet18",), "synthetic": ("simple_cnn", "resnet18", "vit_tiny")}  # for which models


class Subject(NamedTuple):
    """What one model is trained on, in every way.

    Attributes:
        build: makes the untrained model, the same each time.
        spec: its input.
        pixels: (N, h, w) uint8, decoded and resized.
        paths: N JPEG files.
        labels: (N,) label numbers.
        recipe: of this project's training.
    """

    build: Callable[[], PreTrainedModel]
    spec: InputSpec
    pixels: np.ndarray
    paths: list[str]
    labels: np.ndarray
    recipe: Recipe


class Clock(TrainerCallback):
    """Times a training's steps after the first `WARM`."""

    def __init__(self) -> None:
        self.started = self.ended = 0.0
        self.steps = 0

    def on_step_end(self, args: TrainingArguments, state: Any, control: Any, **kwargs: Any) -> None:
        """Starts at the last step of the warm-up, and is read at every step from there on."""
        self.ended = time.perf_counter()
        if state.global_step == WARM:
            self.started = self.ended
        self.steps = state.global_step - WARM

    def rate(self, batch: int) -> float:
        """Images a second."""
        return self.steps * batch / (self.ended - self.started)


class JpegSet(Dataset):
    """Files as the example's transforms make tensors of them, anew each time."""

    def __init__(self, subject: Subject):
        side = subject.spec.height
        self.paths, self.labels = subject.paths, subject.labels
        self.change = transforms.Compose(
            [
                transforms.RandomResizedCrop(side),
                transforms.RandomHorizontalFlip(),
                transforms.ToTensor(),
                transforms.Normalize(subject.spec.mean, subject.spec.std),
            ]
        )

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, place: int) -> dict[str, Any]:
        with Image.open(self.paths[place]) as picture:
            return {"pixel_values": self.change(picture.convert("RGB")), "labels": int(self.labels[place])}


def draw_subject(name: str, folder: Path, options: argparse.Namespace) -> Subject:
    """Draws the images of one model's trainings; the JPEG files are drawn once for all models."""
    recipe = Recipe(epochs=1, batch_size=options.batch, augment="radiograph", image_size=options.image_size)

    def build() -> PreTrainedModel:
        torch.manual_seed(0)
        return build_model(name, phantom.LABELS, recipe)[0]

    spec = build_model(name, phantom.LABELS, recipe)[1]
    count = options.batch * (WARM + options.steps)
    places = np.arange(count) % DRAWN
    planes, paths = [], []
    for place in range(min(count, DRAWN)):
        path = folder / f"{place}.jpg"
        if not path.is_file():
            drawn = phantom.draw_phantom(phantom.LABELS[place % 4], place, size=options.size).pixels
            Image.fromarray(drawn).save(path, quality=92)
        paths.append(str(path))
        planes.append(to_uint8(from_pixels(np.asarray(Image.open(path))), spec))
    pixels = np.stack(planes)[places]
    return Subject(build, spec, pixels, [paths[place] for place in places], places % 4, recipe)


def _build_ours(subject: Subject, folder: Path) -> RecipeTrainer:
    sets = {
        "train": ImageSet(subject.pixels, subject.labels, subject.spec, subject.recipe.augment),
        "validation": ImageSet(subject.pixels[:4], subject.labels[:4], subject.spec),
    }
    trainer = build_trainer(subject.build(), sets, subject.recipe, folder, seed=0)
    trainer.remove_callback(ProgressCallback)
    return trainer


def train_ours(subject: Subject) -> float:
    """Images a second of this project's Trainer."""
    keep_memory()
    return _time(lambda folder: _build_ours(subject, folder), subject.recipe.batch_size)


def train_plain(subject: Subject) -> float:
    """Images a second of the example's recipe."""
    release_memory()
    batch, config = subject.recipe.batch_size, subject.build().config

    def build(folder: Path) -> Trainer:
        arguments = TrainingArguments(
            output_dir=str(folder),
            num_train_epochs=1,
            per_device_train_batch_size=batch,
            use_cpu=True,
            remove_unused_columns=False,
            report_to=[],
            save_strategy="no",
            logging_strategy="no",
            disable_tqdm=True,
        )
        model = AutoModelForImageClassification.from_config(config)
        return Trainer(model=model, args=arguments, train_dataset=JpegSet(subject))

    return _time(build, batch)


def _time(build: Callable[[Path], Trainer], batch: int) -> float:
    """Images a second of a Trainer that is built, trained for one epoch and dropped, without what it would print."""
    watch = Clock()
    with tempfile.TemporaryDirectory() as name, Path(os.devnull).open("w") as nowhere:
        trainer = build(Path(name))
        trainer.add_callback(watch)
        with contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere):
            trainer.train()
    return watch.rate(batch)


def train_synthetic(subject: Subject) -> float:
    """Images a second of the bare step on one batch."""
    keep_memory()
    batch = subject.recipe.batch_size
    with tempfile.TemporaryDirectory() as name:
        trainer: Any = _build_ours(subject, Path(name))
        images = trainer.train_dataset
        inputs = images.prepare(collate([images[place] for place in range(batch)]))
        model = trainer.model.train()
        optimizer = trainer.create_optimizer()
        parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        steps = len(subject.labels) // batch
        started = time.perf_counter()
        for step in range(steps):
            if step == WARM:
                started = time.perf_counter()
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16_helps()):
                logits = model(pixel_values=inputs["pixel_values"]).logits
            nn.functional.cross_entropy(logits.float(), inputs["labels"]).backward()
            nn.utils.clip_grad_norm_(parameters, trainer.args.max_grad_norm)
            optimizer.step()
            optimizer.zero_grad()
        return (steps - WARM) * batch / (time.perf_counter() - started)


WAYS: dict[str, Callable[[Subject], float]] = {"ours": train_ours, "plain": train_plain, "synthetic": train_synthetic}


def run(options: argparse.Namespace) -> None:
    """Measures, prints a table and writes `train.json`."""
    machine = describe_machine()
    with tempfile.TemporaryDirectory() as name:
        subjects = {model: draw_subject(model, Path(name), options) for model in options.models}
        ways = {
            f"{model}, {way}": partial(train, subject)
            for model, subject in subjects.items()
            for way, train in WAYS.items()
        }
        rates = take_turns(ways, options.rounds, warm=False)  # each has its own warm-up
    found = summarise_all(rates)
    for way, spread in found.items():
        print(f"{way:24} {format_spread(spread)} images/s")
    ratios: dict[str, dict[str, dict[str, float]]] = {model: {} for model in subjects}
    for model in subjects:
        for way, least in BARS.items():
            ratio = ratios[model][way] = compare(rates[f"{model}, ours"], rates[f"{model}, {way}"])
            print(format_bar(f"{model} against {way}", ratio, least if model in BARRED[way] else None))
    settings = {key: getattr(options, key) for key in ("models", "steps", "rounds", "batch", "size", "image_size")}
    record = {"images_per_second": found, "ratios": ratios, "bars": BARS, "bf16": bf16_helps(), "settings": settings}
    versions = list_versions("transformers", "timm", "torchvision", "accelerate")
    write_record("train", record | {"machine": machine, "versions": versions}, options.out)
