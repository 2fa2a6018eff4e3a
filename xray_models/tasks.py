"""Tasks and their models, read from `hub_configs/*.yaml` into frozen dataclasses.

A task is a question with a fixed, ordered list of labels. Adding a task is adding one YAML file. Whatever is
misspelt, missing or contradictory in such a file is a `TaskError` that names the value, what is valid and the fix.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from xray_models.fields import TaskError, build_fields, check_keys, check_once, check_type, choose
from xray_models.recipes import Recipe

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = ROOT / "hub_configs"
CHECKPOINTS = ROOT / "checkpoints"
SPLITS = ("train", "validation", "test")
SPLIT_KINDS = ("grouped", "official")
LAYOUT_NAMES = ("covid_radiography", "fracatlas", "hub_export", "label_folders", "phantom", "split_folders")
CONSENSUS = "consensus"  # what the panel's common opinion is called beside the models

_REVISION = re.compile(r"[0-9a-f]{40}")


@dataclasses.dataclass(frozen=True)
class Dataset:
    """Where a task's images come from and how their publisher lays them out.

    Attributes:
        layout: name of a reader in `xray_models.datasets.LAYOUTS`.
        source: publisher and identifier, shown when the data are missing and in every model card.
        licence: licence of the images.
        citation: what to cite.
        images: how many the publisher offers for the task's labels; 0 where that is not known.
        root: folder below the data folder in which the layout starts.
        splits: the publisher's split folders, our name to theirs, for `split_folders`.
        patient: regular expression that finds a patient's id in a file name, or "" where names carry none.
        relabels: CSV below the data folder with `file_name` and `label` of files to label anew, or "".
    """

    layout: str
    source: str
    licence: str
    citation: str
    images: int = 0
    root: str = ""
    splits: Mapping[str, str] = dataclasses.field(default_factory=dict)
    patient: str = ""
    relabels: str = ""

    def __post_init__(self) -> None:
        choose("layout under `dataset.layout:`", self.layout, LAYOUT_NAMES)
        if self.images < 0:
            raise TaskError(
                f"dataset.images is {self.images}; write how many images the publisher offers, or leave it out."
            )
        unknown = [str(name) for name in self.splits if name not in SPLITS]
        if unknown:
            raise TaskError(
                f"dataset.splits has the keys {', '.join(unknown)}; valid: {', '.join(SPLITS)}. Write our name of each "
                "split before the publisher's folder, as in `validation: val`."
            )
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
        if self.seed < 0:
            raise TaskError(f"split.seed is {self.seed}; it must be 0 or more.")
        if self.group not in ("auto", "none"):
            raise TaskError(f"split.group is {self.group!r}; valid: auto, none.")
        if not (self.validation > 0 and self.test > 0 and self.validation + self.test < 1):
            raise TaskError(
                f"split.validation is {self.validation} and split.test is {self.test}; "
                "both must be above 0 and together below 1."
            )


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

    def pick(self, names: Iterable[str]) -> tuple[ModelRef, ...]:
        """Returns the models of these names, in this order; raises `TaskError` for an unknown or a repeated one."""
        names = list(names)
        check_once("model", names)
        return tuple(self.model(name) for name in names)

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
    check_keys("", raw, allowed=keys, required=keys - {"split", "train"})
    for key in ("title", "modality"):
        check_type(key, raw[key], "str")
    for key in ("labels", "positive"):
        check_type(key, raw[key], "tuple[str, ...]")
    return Task(
        name=name,
        title=raw["title"],
        modality=raw["modality"],
        labels=tuple(raw["labels"]),
        positive=tuple(raw["positive"]),
        dataset=build_fields(Dataset, "dataset.", raw["dataset"]),
        split=build_fields(Split, "split.", raw.get("split", {})),
        recipe=build_fields(Recipe, "train.", raw.get("train", {})),
        models=_build_models({} if raw["models"] is None else raw["models"]),
    )


def _build_models(raw: Any) -> tuple[ModelRef, ...]:
    """Builds the panel; a model's recipe and the members of a fusion are checked too."""
    check_type("models", raw, "Mapping[str, Any]")
    refs = []
    for name, entry in raw.items():
        check_type(f"models.{name}", entry, "Mapping[str, Any]")
        build_fields(Recipe, f"models.{name}.train.", entry.get("train", {}))
        refs.append(build_fields(ModelRef, f"models.{name}.", {"name": name, **entry}))
        for member in refs[-1].members:
            choose(f"model under `models.{name}.members:`", member, raw)
    return tuple(refs)
