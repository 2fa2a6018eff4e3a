"""How a model is trained: every choice of a training, in one frozen dataclass."""

from __future__ import annotations

import dataclasses
import inspect
import math
import re
from collections.abc import Callable

from xray_models.fields import TaskError, choose
from xray_models.policies import POLICIES

_CHOICES = {  # of a recipe's words
    "augment": tuple(POLICIES),
    "calibrate": ("biases", "temperature"),
    "optimizer": ("adamw", "adam", "sgd", "rmsprop"),
    "schedule": ("cosine", "plateau", "constant"),
    "balance": ("none", "loss", "sampler", "copies"),
    "head": ("linear", "dense"),
    "log": ("none", "tensorboard", "trackio"),
}
_POSITIVE = ("epochs", "learning_rate", "batch_size", "patience", "width", "images")
_NOT_NEGATIVE = ("weight_decay", "mixup", "frozen_epochs", "frozen_rate", "image_size")
_BELOW_ONE = ("label_smoothing", "warmup", "dropout", "ema")
_RANGES: dict[str, tuple[Callable[[float], bool], str]] = {  # of a recipe's numbers
    **dict.fromkeys(_POSITIVE, (lambda value: value > 0, "above 0")),
    **dict.fromkeys(_NOT_NEGATIVE, (lambda value: value >= 0, "of 0 or more")),
    **dict.fromkeys(_BELOW_ONE, (lambda value: 0 <= value < 1, "in [0, 1)")),
    "teaching": (lambda value: 0 <= value <= 1, "in [0, 1]"),
    "layer_decay": (lambda value: 0 < value <= 1, "in (0, 1]"),
}


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How a model is trained. Every field is also an option of `python -m xray_models.train`.

    Attributes:
        epochs: passes over the training images, at most.
        learning_rate: peak learning rate.
        batch_size: images per step, over all processes, each of which has as many.
        optimizer: `adamw`, `adam`, `sgd` (Nesterov) or `rmsprop`.
        weight_decay: decoupled for AdamW, else the L2 penalty.
        layer_decay: rate of each layer relative to the one above it, in (0, 1].
        augment: `none`, `light`, `radiograph`, `covid`, `brain` or `autoaugment`, as `xray_models.policies` has them.
        mixup: alpha of mixup (Zhang et al., 2018); 0 for none.
        schedule: `cosine` or `constant` (both with warm-up), or `plateau` (halved when validation stalls).
        warmup: fraction of the steps over which the rate rises (not for plateau).
        patience: epochs without a better validation loss before training stops.
        balance: what is done about unequal classes: `none`, `loss` (weighted by inverse frequency), `sampler`
            (each label drawn as often), or `copies` (rarer labels repeated through AutoAugment).
        calibrate: what is fitted on the validation images: `biases` (a temperature, and a bias for each label where
            that predicts better), or `temperature` alone, which keeps what `balance` has gained in sensitivity.
        label_smoothing: mass moved from the true label to the others, in [0, 1).
        ema: decay of the moving average of the weights, in [0, 1); 0 for none.
        teacher: trained models of the task, with commas between, whose opinions the model learns (distillation). Its
            own name is the model that it will replace (Furlanello et al., 2018, "Born-again neural networks").
        teaching: share of the loss that is the teacher's, in [0, 1]; the labels have the rest.
        frozen_epochs: epochs of a first stage that trains the head alone.
        frozen_rate: peak learning rate of that stage.
        head: `linear`, or `dense` (256 units, batch norm, ReLU and dropout before the last layer).
        dropout: probability before the last linear layer, in [0, 1); left out, the architecture's own (0.5 behind dense
            units, 0.3 in a fusion, 0.2 in the project's CNNs, none in others).
        width: channels relative to the published network (ResNet only), for small starter models.
        image_size: height and width of the model's input, in pixels; 0 for the architecture's own.
        images: how many phantoms to draw (task `phantom` only).
        log: where else the training's figures go: `none`, `tensorboard` (into `runs`, in the model's folder), or
            `trackio`.
    """

    epochs: int = 10
    learning_rate: float = 3e-4
    batch_size: int = 32
    optimizer: str = "adamw"
    weight_decay: float = 0.05
    layer_decay: float = 1.0
    augment: str = "radiograph"
    mixup: float = 0.0
    schedule: str = "cosine"
    warmup: float = 0.1
    patience: int = 5
    balance: str = "loss"
    calibrate: str = "biases"
    label_smoothing: float = 0.0
    ema: float = 0.0
    teacher: str = ""
    teaching: float = 0.8
    frozen_epochs: int = 0
    frozen_rate: float = 1e-3
    head: str = "linear"
    dropout: float | None = None
    width: float = 1.0
    image_size: int = 0
    images: int = 4000
    log: str = "none"

    def __post_init__(self) -> None:
        for name, valid in _CHOICES.items():
            choose(name, getattr(self, name), valid)
        for name, (fits, words) in _RANGES.items():
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and fits(value)):
                raise TaskError(f"{name} is {value}; it must be a finite number {words}.")


def share_batch(batch_size: int, processes: int) -> int:
    """Returns how many images of a step each process has; raises `TaskError` where they cannot have as many each."""
    share, over = divmod(batch_size, processes)
    if over:
        fitting = " or ".join(str(size * processes) for size in (share, share + 1) if size)
        raise TaskError(
            f"batch_size is {batch_size}, which {processes} processes cannot share evenly. Give --batch-size {fitting}."
        )
    return share


def list_teachers(teacher: str) -> list[str]:
    """Names of the models that a recipe's `teacher` stands for."""
    return [name.strip() for name in teacher.split(",") if name.strip()]


def describe_fields() -> dict[str, str]:
    """What each field of a recipe is, as `Recipe` says it; nothing where Python runs without docstrings."""
    entries = re.findall(r"^    (\w+): (.+(?:\n {8}.+)*)", inspect.getdoc(Recipe) or "", re.MULTILINE)
    return {name: " ".join(text.split()).rstrip(".") for name, text in entries}
