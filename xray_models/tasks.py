"""Tasks and their models, read from `hub_configs/*.yaml` into frozen dataclasses.

A task is a question with a fixed, ordered list of labels. Adding a task is adding one YAML file. Whatever is
misspelt, missing or contradictory in such a file is a `TaskError` that names the value, what is valid and the fix.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = ROOT / "hub_configs"
CHECKPOINTS = ROOT / "checkpoints"
SPLIT_KINDS = ("grouped", "official")
LAYOUT_NAMES = ("covid_radiography", "fracatlas", "hub_export", "label_folders", "phantom", "split_folders")
CONSENSUS = "consensus"  # what the panel's common opinion is called beside the models

_T = TypeVar("_T")
_CHOICES = {  # of a recipe's words
    "augment": ("none", "light", "radiograph", "covid", "brain", "autoaugment"),
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
_TYPES: dict[str, tuple[Callable[[Any], bool], str]] = {  # by a field's annotation: what a file may say there
    "str": (lambda value: isinstance(value, str), "a text: quote it"),
    "str | None": (lambda value: value is None or isinstance(value, str), "a text: quote it"),
    "int": (lambda value: type(value) is int, "a whole number"),
    "float": (lambda value: type(value) in (int, float), "a number"),
    "tuple[str, ...]": (lambda value: _are_texts(value), "a list of texts that are not empty: quote each"),
    "Mapping[str, str]": (
        lambda value: isinstance(value, Mapping) and _are_texts([*value.values()]),
        "keys with texts",
    ),
    "Mapping[str, Any]": (lambda value: isinstance(value, Mapping), "a mapping of keys"),
}
_REVISION = re.compile(r"[0-9a-f]{40}")


class TaskError(ValueError):
    """A task, a model or a setting that does not exist or does not fit; the message says what to do."""


@dataclasses.dataclass(frozen=True)
class Dataset:
    """Where a task's images come from and how their publisher lays them out.

    Attributes:
        layout: name of a reader in `xray_models.datasets.LAYOUTS`.
        source: publisher and identifier, shown when the data are missing and in every model card.
        licence: licence of the images.
        citation: what to cite.
        root: folder below the data folder in which the layout starts.
        splits: the publisher's split folders, our name to theirs, for `split_folders`.
        patient: regular expression that finds a patient's id in a file name, or "" where names carry none.
        relabels: CSV below the data folder with `file_name` and `label` of files to label anew, or "".
    """

    layout: str
    source: str
    licence: str
    citation: str
    root: str = ""
    splits: Mapping[str, str] = dataclasses.field(default_factory=dict)
    patient: str = ""
    relabels: str = ""

    def __post_init__(self) -> None:
        choose("layout under `dataset.layout:`", self.layout, LAYOUT_NAMES)
        try:
            re.compile(self.patient)
        except re.error as error:
            raise TaskError(
                f"dataset.patient is {self.patient!r}, which is no regular expression ({error}); correct it, or leave "
                "it out where file names carry no patient's id."
            ) from error


@dataclasses.dataclass(frozen=True)
class Split:
    """How images are divided: fractions in (0, 1), whole groups at a time.

    Attributes:
        seed: seed of the division.
        validation: fraction of the images for validation.
        test: fraction of the images for the test.
        group: `auto` (near-copies, mirrored ones too, and patient ids stay together) or `none`.
        kind: `grouped`, or `official` for the publisher's own (validation is cut from train where he has none).
    """

    seed: int = 7
    validation: float = 0.15
    test: float = 0.15
    group: str = "auto"
    kind: str = "grouped"

    def __post_init__(self) -> None:
        choose("split.kind", self.kind, SPLIT_KINDS)
        if self.group not in ("auto", "none"):
            raise TaskError(f"split.group is {self.group!r}; valid: auto, none.")
        if not (self.validation > 0 and self.test > 0 and self.validation + self.test < 1):
            raise TaskError(
                f"split.validation is {self.validation} and split.test is {self.test}; "
                "both must be above 0 and together below 1."
            )


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How a model is trained. Every field is also an option of `python -m xray_models.train`.

    Attributes:
        epochs: passes over the training images, at most.
        learning_rate: peak learning rate.
        batch_size: images per step, over all processes.
        optimizer: `adamw`, `adam`, `sgd` (Nesterov) or `rmsprop`.
        weight_decay: decoupled for AdamW, else the L2 penalty.
        layer_decay: rate of each transformer layer relative to the one above it, in (0, 1].
        augment: name of a policy in `xray_models.augment.POLICIES`.
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
        teacher: trained models of the task, with commas between, whose opinions the model learns (distillation).
        teaching: share of the loss that is the teacher's, in [0, 1]; the labels have the rest.
        frozen_epochs: epochs of a first stage that trains the head alone.
        frozen_rate: peak learning rate of that stage.
        head: `linear`, or `dense` (256 units, batch norm, ReLU and dropout before the last layer).
        dropout: probability before the last linear layer, in [0, 1).
        width: channels relative to the published network (ResNet only), for small starter models.
        image_size: height and width of the model's input, in pixels; 0 for the architecture's own.
        images: how many phantoms to draw (task `phantom` only).
        log: where else the training's figures go: `none`, `tensorboard` or `trackio`.
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
    dropout: float = 0.0
    width: float = 1.0
    image_size: int = 0
    images: int = 4000
    log: str = "none"

    def __post_init__(self) -> None:
        for name, valid in _CHOICES.items():
            choose(name, getattr(self, name), valid)
        for name, (fits, words) in _RANGES.items():
            if not (math.isfinite(getattr(self, name)) and fits(getattr(self, name))):
                raise TaskError(f"{name} is {getattr(self, name)}; it must be a finite number {words}.")


@dataclasses.dataclass(frozen=True)
class ModelRef:
    """Where one model of a task lies: a local checkpoint, or a pinned repository on the Hub.

    Attributes:
        name: the model's name in the panel, also its architecture's name unless `architecture` says otherwise.
        checkpoint: folder below `checkpoints/`.
        repo: `owner/name` on the Hub.
        revision: 40 hexadecimal digits, required with `repo`.
        architecture: entry of `xray_models.architectures.ARCHITECTURES`.
        train: what differs from the task's training recipe.
        members: the models of the same task whose features a `fusion` joins; empty for the others.
    """

    name: str
    checkpoint: str | None = None
    repo: str | None = None
    revision: str | None = None
    architecture: str = ""
    train: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    members: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "members", tuple(self.members))
        if self.name == CONSENSUS:
            raise TaskError(f"no model can be called {CONSENSUS!r}, the name of the panel's common opinion; rename it.")
        if (self.checkpoint is None) == (self.repo is None):
            raise TaskError(f"model {self.name!r} needs either `checkpoint:` or `repo:`, and not both.")
        if self.repo is not None and not _REVISION.fullmatch(self.revision or ""):
            raise TaskError(
                f"model {self.name!r} comes from the Hub at revision {self.revision!r}; pin it with "
                "`revision:` and the 40 hexadecimal digits of a commit, so that its weights cannot change."
            )
        if not self.architecture:
            object.__setattr__(self, "architecture", self.name)

    @property
    def path(self) -> Path | None:
        """The local checkpoint's folder, or None for a model on the Hub."""
        return None if self.checkpoint is None else CHECKPOINTS / self.checkpoint


@dataclasses.dataclass(frozen=True)
class Task:
    """A question with a fixed, ordered list of labels.

    Attributes:
        name: the YAML file's stem.
        title: what people read.
        modality: kind of image.
        labels: in the order of the logits.
        positive: the labels that a reader must not miss.
        dataset: where the images come from.
        split: how they are divided.
        recipe: how models are trained.
        models: the panel.
    """

    name: str
    title: str
    modality: str
    labels: tuple[str, ...]
    positive: tuple[str, ...]
    dataset: Dataset
    split: Split
    recipe: Recipe
    models: tuple[ModelRef, ...]

    def __post_init__(self) -> None:
        if len(self.labels) < 2 or len(set(self.labels)) != len(self.labels):
            raise TaskError(f"labels {list(self.labels)} must be at least two, all different.")
        for label in self.positive:
            choose("label under `positive:`", label, self.labels)

    def model(self, name: str) -> ModelRef:
        """Returns the model of this name; raises `TaskError` with the valid names."""
        by_name = {ref.name: ref for ref in self.models}
        return by_name[choose(f"model of task {self.name!r}", name, by_name)]

    def recipe_of(self, name: str) -> Recipe:
        """Returns the task's recipe with what the model's entry changes."""
        return dataclasses.replace(self.recipe, **self.model(name).train)

    def check_labels(self, found: list[str], where: str) -> None:
        """Raises `TaskError` unless a checkpoint's labels are this task's, in the same order."""
        if found != list(self.labels):
            raise TaskError(
                f"{where} has the labels {found}, but task {self.name!r} has {list(self.labels)}, in this order. "
                f"Use a model trained for {self.name!r}, or correct `labels:` in hub_configs/{self.name}.yaml."
            )


def choose(what: str, name: str, valid: Iterable[str]) -> str:
    """Returns `name` if it is among `valid`; else raises `TaskError` that lists them and the nearest."""
    names = list(valid)
    if name in names:
        return name
    near = difflib.get_close_matches(str(name), names, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise TaskError(f"Unknown {what}: {name!r}. Valid: {', '.join(names) or 'none'}.{hint}")


def task_names(configs: Path = CONFIGS) -> list[str]:
    """Names of all tasks, sorted."""
    return sorted(path.stem for path in configs.glob("*.yaml"))


def load_task(name: str, configs: Path = CONFIGS) -> Task:
    """Reads one task.

    Args:
        name: a name from `task_names`.
        configs: folder with the YAML files.

    Returns:
        The frozen task.

    Raises:
        TaskError: for an unknown name, an unknown or missing key, or values that contradict each other.
    """
    choose("task", name, task_names(configs))
    path = configs / f"{name}.yaml"
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise TaskError(f"{path.name} is not valid YAML: {error}") from error
    except UnicodeDecodeError as error:
        raise TaskError(f"{path.name} is not valid UTF-8: {error}. Save it as UTF-8.") from error
    try:
        return _build_task(name, raw)
    except TaskError as error:
        raise TaskError(f"{path.name}: {error}") from error


def load_tasks(configs: Path = CONFIGS) -> dict[str, Task]:
    """Reads every task, by name."""
    return {name: load_task(name, configs) for name in task_names(configs)}


def _build_task(name: str, raw: Any) -> Task:
    keys = {"title", "modality", "labels", "positive", "dataset", "split", "train", "models"}
    _check_keys("", raw, allowed=keys, required=keys - {"split", "train"})
    for key in ("title", "modality"):
        _check_type(key, raw[key], "str")
    for key in ("labels", "positive"):
        _check_type(key, raw[key], "tuple[str, ...]")
    return Task(
        name=name,
        title=raw["title"],
        modality=raw["modality"],
        labels=tuple(raw["labels"]),
        positive=tuple(raw["positive"]),
        dataset=_build(Dataset, "dataset.", raw["dataset"]),
        split=_build(Split, "split.", raw.get("split", {})),
        recipe=_build(Recipe, "train.", raw.get("train", {})),
        models=_build_models({} if raw["models"] is None else raw["models"]),
    )


def _build_models(raw: Any) -> tuple[ModelRef, ...]:
    """Builds the panel; a model's recipe and the members of a fusion are checked too."""
    _check_type("models", raw, "Mapping[str, Any]")
    refs = []
    for name, entry in raw.items():
        _check_type(f"models.{name}", entry, "Mapping[str, Any]")
        _build(Recipe, f"models.{name}.train.", entry.get("train", {}))
        refs.append(_build(ModelRef, f"models.{name}.", {"name": name, **entry}))
        for member in refs[-1].members:
            choose(f"model under `models.{name}.members:`", member, raw)
    return tuple(refs)


def _build(cls: type[_T], where: str, raw: Any) -> _T:
    """Builds a dataclass from a mapping, every key and the type of every value checked."""
    fields = dataclasses.fields(cls)  # type: ignore[arg-type]
    required = {f.name for f in fields if f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING}
    _check_keys(where, raw, allowed={f.name for f in fields}, required=required)
    for field in fields:
        if field.name in raw:
            _check_type(where + field.name, raw[field.name], str(field.type))
    return cls(**raw)


def _check_type(where: str, value: Any, kind: str) -> None:
    """Raises `TaskError` unless a value is of a kind of `_TYPES`."""
    fits, words = _TYPES[kind]
    if not fits(value):
        raise TaskError(f"`{where}` is {value!r}; it must be {words}.{_suggest_number(value, kind)}")


def _suggest_number(value: Any, kind: str) -> str:
    """What to write in the place of a text such as 3e-4, which is no number in YAML for want of a point."""
    try:
        number = float(value) if kind == "float" and isinstance(value, str) else math.nan
    except ValueError:
        return ""
    return f" Write {number:.12f}".rstrip("0").rstrip(".") + "." if math.isfinite(number) else ""


def _are_texts(value: Any) -> bool:
    return isinstance(value, list | tuple) and all(isinstance(text, str) and text.strip() for text in value)


def _check_keys(where: str, raw: Any, allowed: set[str], required: set[str]) -> None:
    if not isinstance(raw, Mapping):
        raise TaskError(f"`{where.rstrip('.') or 'the file'}` must be a mapping of keys, not {raw!r}.")
    for key in raw:
        choose(f"key `{where}{key}`; key", str(key), sorted(allowed))
    missing = sorted(required - set(raw))
    if missing:
        raise TaskError(f"the key `{where}{missing[0]}` is missing.")
