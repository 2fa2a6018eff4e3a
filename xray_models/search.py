"""Search over learning rate, dropout and batch size: a grid, or Optuna's sampler (Akiba et al., 2019)."""

from __future__ import annotations

import dataclasses
import logging
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd
from sqlalchemy import URL, NullPool
from transformers import PreTrainedModel

from xray_models.imagesets import ImageSet
from xray_models.progress import TRIALS
from xray_models.recipes import Recipe
from xray_models.tasks import TaskError, choose
from xray_models.teaching import Teacher
from xray_models.trainer import build_trainer

_log = logging.getLogger(__name__)

GRID: dict[str, tuple[float, ...]] = {
    "learning_rate": (1e-4, 3e-4, 1e-3),
    "dropout": (0.0, 0.3),
    "per_device_train_batch_size": (16, 32),
}
SEARCHES = ("grid", "optuna")
_STUDY = "search"
_NAMES = {"per_device_train_batch_size": "batch_size"}


@dataclasses.dataclass(frozen=True)
class Plan:
    """How to search.

    Attributes:
        kind: one of `SEARCHES`.
        trials: trainings at most; a grid has 12.
        seed: of the trainings and of Optuna's sampler.
    """

    kind: str = "grid"
    trials: int = 12
    seed: int = 0

    def __post_init__(self) -> None:
        choose("search", self.kind, SEARCHES)
        if self.trials < 1:
            raise TaskError(f"trials is {self.trials}; a search needs at least 1.")


def search_recipes(
    build: Callable[[Recipe], PreTrainedModel],
    sets: dict[str, ImageSet],
    recipe: Recipe,
    out: Path,
    plan: Plan,
    teacher: Teacher | None = None,
    resume: bool = False,
) -> pd.DataFrame:
    """Trains once per combination, by the Trainer's own `hyperparameter_search`.

    Each training goes on to its own end. To cut some short, Optuna would compare them after the same number of steps,
    which are more images for larger batches, and would rank a loss on the way with those at the end.

    Args:
        build: from a recipe to a new model.
        sets: the training and validation images.
        recipe: what all trainings share.
        out: folder for the Trainer's checkpoints, and for what came of each training.
        plan: which search, and how long.
        teacher: whose opinions the models learn, besides the labels.
        resume: whether the trainings that an interrupted search ended in `out` count. One that was cut off is done
            again; Optuna's later suggestions are others than without the interruption.

    Returns:
        One row a training, best first: learning_rate, dropout, batch_size, and log_loss, of the validation images
        after temperature scaling, in the epoch that would be kept: the best.

    Raises:
        TaskError: when every training has diverged.
    """
    out.mkdir(parents=True, exist_ok=True)
    if recipe.ema or recipe.frozen_epochs:
        _log.warning("a search trains in one stage and keeps no moving average: ema and frozen_epochs are left out")
    recipe = dataclasses.replace(recipe, ema=0.0, frozen_epochs=0)  # both belong to one model
    wanted = plan.trials if plan.kind == "optuna" else min(plan.trials, math.prod(map(len, GRID.values())))
    storage, done = _open_storage(out, resume)
    if resume:
        _log.info("%d of %d trainings of the interrupted search are done", done, wanted)
    suggest = _suggest_from_grid if plan.kind == "grid" else _suggest
    trainings = _Trainings(build, recipe, suggest, out)
    if done < wanted:
        build_trainer(trainings.build, sets, recipe, out, plan.seed, teacher).hyperparameter_search(
            hp_space=lambda trial: {name: value for name, value in suggest(trial).items() if name != "dropout"},
            compute_objective=trainings.find_best,
            direction="minimize",
            backend="optuna",
            n_trials=wanted - done,
            sampler=_build_sampler(plan, done),
            pruner=optuna.pruners.NopPruner(),
            storage=storage,
            study_name=_STUDY,
            load_if_exists=True,
        )
    trials = _list_ended(storage)
    rows = pd.DataFrame([{**trial.params, "log_loss": trial.value} for trial in trials])
    if not np.isfinite(rows["log_loss"]).any():
        raise TaskError("Every training of the search has diverged. Correct the data or the recipe.")
    rows = rows.replace(math.inf, math.nan)
    return rows.rename(columns=_NAMES).sort_values("log_loss", ignore_index=True)


class _Trainings:
    """The models of one training after another, and how good the one under way has been.

    Args:
        build: from a recipe to a new model.
        recipe: what all trainings share.
        suggest: a trial's settings.
        out: folder of the Trainer's checkpoints.
    """

    def __init__(self, build: Callable[[Recipe], PreTrainedModel], recipe: Recipe, suggest: Callable, out: Path):
        self._build, self._recipe, self._suggest, self._out = build, recipe, suggest, out
        self._best = math.inf

    def build(self, trial: Any) -> PreTrainedModel:
        """The model of the next training; the Trainer asks for one without a trial as well."""
        self._best = math.inf
        for folder in self._out.glob("run-*"):  # of the trainings before: a large network's would fill the disk
            shutil.rmtree(folder)
        if trial is None:
            return self._build(self._recipe)
        return self._build(dataclasses.replace(self._recipe, dropout=self._suggest(trial)["dropout"]))

    def find_best(self, metrics: dict[str, float]) -> float:
        """The lowest log loss of this training's epochs until now; infinite where it diverged."""
        self._best = min(self._best, metrics["eval_calibrated_log_loss"])
        return self._best


def _build_sampler(plan: Plan, done: int) -> optuna.samplers.BaseSampler:
    if plan.kind == "grid":
        return optuna.samplers.GridSampler({name: list(values) for name, values in GRID.items()}, seed=plan.seed)
    return optuna.samplers.TPESampler(seed=plan.seed + done)  # or it would suggest the same again


def _open_storage(out: Path, resume: bool) -> tuple[optuna.storages.RDBStorage, int]:
    """Where a search keeps what came of its trainings, and how many of them have ended.

    Only those go on: Optuna would count one that was cut off as tried.
    """
    path, fresh = out / TRIALS, out / f"new-{TRIALS}"
    kept = _list_ended(_connect(path)) if resume and path.is_file() else []
    fresh.unlink(missing_ok=True)
    optuna.create_study(direction="minimize", storage=_connect(fresh), study_name=_STUDY).add_trials(kept)
    fresh.replace(path)
    return _connect(path), len(kept)


def _connect(path: Path) -> optuna.storages.RDBStorage:
    logging.getLogger("alembic").setLevel(logging.WARNING)  # which tells what kind of database it is
    address = URL.create("sqlite", database=str(path.absolute()))
    return optuna.storages.RDBStorage(address.render_as_string(), engine_kwargs={"poolclass": NullPool})


def _list_ended(storage: optuna.storages.RDBStorage) -> list[optuna.trial.FrozenTrial]:
    if _STUDY not in optuna.get_all_study_names(storage):
        return []
    study = optuna.load_study(study_name=_STUDY, storage=storage)
    return study.get_trials(states=[optuna.trial.TrialState.COMPLETE])


def _suggest_from_grid(trial: optuna.Trial) -> dict[str, Any]:
    return {name: trial.suggest_categorical(name, values) for name, values in GRID.items()}


def _suggest(trial: optuna.Trial) -> dict[str, Any]:
    return {
        "learning_rate": trial.suggest_float("learning_rate", 3e-5, 3e-3, log=True),
        "dropout": trial.suggest_float("dropout", 0.0, 0.5),
        "per_device_train_batch_size": trial.suggest_categorical("per_device_train_batch_size", (16, 32, 64)),
    }
