"""Predictions: one row for each image and model, read from a file, written to one, put into arrays."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from xray_models.layouts import DataError
from xray_models.readings import Consensus, Opinion, agree
from xray_models.rows import disarm
from xray_models.tables import read_table
from xray_models.tasks import CONSENSUS, Task

_TOLERANCE = 1e-3  # by which probabilities may miss a sum of 1
_KEYS = ("image", "group", "label", "model", "revision", "predicted")


class PredictionError(DataError):
    """A table of predictions that cannot be scored; the message says where and what is valid."""


@dataclasses.dataclass(frozen=True)
class Case:
    """One image whose label is known, with what the panel says about it.

    Attributes:
        image: path relative to the data folder.
        group: what must stay together, a patient for example.
        label: the true label.
        opinions: of every model, in the panel's order.
        consensus: of the models that answered; None where none did.
    """

    image: str
    group: str
    label: str
    opinions: tuple[Opinion, ...]
    consensus: Consensus | None


@dataclasses.dataclass(frozen=True)
class Answers:
    """One model's answers on N images.

    Attributes:
        revision: which weights spoke, where known.
        probs: (N, K) probabilities; a row of NaN where the model did not answer.
        sets: (N, K) bool prediction sets, or None where the model gives none.
        novelty: (N,) how unlike the training images each is, at most 1 in distribution; NaN where not known.
    """

    revision: str | None
    probs: np.ndarray
    sets: np.ndarray | None
    novelty: np.ndarray

    @property
    def answered(self) -> np.ndarray:
        """(N,) bool, where the model answered."""
        return ~np.isnan(self.probs[:, 0])

    @property
    def predicted(self) -> np.ndarray:
        """(N,) most probable label numbers; -1 where the model did not answer."""
        return np.where(self.answered, np.nan_to_num(self.probs).argmax(axis=1), -1)


@dataclasses.dataclass(frozen=True)
class Table:
    """All answers on N images.

    Attributes:
        labels: the task's K labels.
        images: N paths relative to the data folder.
        groups: (N,) names of groups.
        truth: (N,) true label numbers.
        answers: by model, in the panel's order; the last is the consensus.
        disagreement: (N,) Jensen-Shannon divergence of the opinions, in [0, 1].
        divided: (N,) bool, where not all models name the same label.
    """

    labels: tuple[str, ...]
    images: tuple[str, ...]
    groups: np.ndarray
    truth: np.ndarray
    answers: dict[str, Answers]
    disagreement: np.ndarray
    divided: np.ndarray

    @property
    def models(self) -> dict[str, Answers]:
        """The answers without the consensus."""
        return {name: answers for name, answers in self.answers.items() if name != CONSENSUS}


def tabulate(task: Task, cases: Iterable[Case]) -> Table:
    """Puts cases into arrays. Images on which no model answered are left out, and models that never answered.

    Raises:
        PredictionError: when nothing is left.
    """
    kept = [case for case in cases if case.consensus is not None]
    if not kept:
        raise PredictionError("There is no image on which a model answered.")
    names = list(dict.fromkeys(o.model for case in kept for o in case.opinions if o.probs is not None))
    by_model = [{opinion.model: opinion for opinion in case.opinions} for case in kept]
    answers = {name: _stack(task, [opinions.get(name) for opinions in by_model]) for name in names}
    together = [case.consensus for case in kept if case.consensus is not None]
    answers[CONSENSUS] = _stack(task, together, any(votes.sets is not None for votes in answers.values()))
    return Table(
        labels=task.labels,
        images=tuple(case.image for case in kept),
        groups=np.array([case.group for case in kept]),
        truth=np.array([task.labels.index(case.label) for case in kept]),
        answers=answers,
        disagreement=np.array([consensus.disagreement for consensus in together]),
        divided=np.array([len(consensus.votes) > 1 for consensus in together]),
    )


def _stack(task: Task, voices: Sequence[Opinion | Consensus | None], with_sets: bool = True) -> Answers:
    """One model's opinions, or the consensus, over all images."""
    heard = [voice if voice is not None and voice.probs is not None else None for voice in voices]
    probs = [[np.nan] * len(task.labels) if v is None else list((v.probs or {}).values()) for v in heard]
    sets = [() if voice is None else voice.prediction_set for voice in heard]
    known = with_sets and all(chosen is not None for chosen in sets)
    novelty = [None if voice is None else voice.novelty for voice in heard]
    revisions = {voice.revision for voice in heard if isinstance(voice, Opinion)}
    return Answers(
        revision=next(iter(revisions), None),
        probs=np.array(probs, dtype=np.float64),
        sets=np.array([[label in (s or ()) for label in task.labels] for s in sets]) if known else None,
        novelty=np.array(novelty, dtype=np.float64),
    )


def write_predictions(table: Table, path: Path) -> None:
    """Writes one row for each image and each model that answered, the consensus last.

    A spreadsheet runs no cell of it as a formula; `read_predictions` gives back what such cells were.
    """
    frames = []
    for name, answers in table.answers.items():
        rows = np.flatnonzero(answers.answered)
        frame = pd.DataFrame(
            {
                "image": np.array(table.images)[rows],
                "group": table.groups[rows].astype(str),
                "label": np.array(table.labels)[table.truth[rows]],
                "model": name,
                "revision": answers.revision or "",
                "predicted": np.array(table.labels)[answers.predicted[rows]],
                **{f"p:{label}": answers.probs[rows, k] for k, label in enumerate(table.labels)},
            }
        )
        frames.append(frame.set_index(rows))
    together = pd.concat(frames).sort_index(kind="stable")
    together[list(_KEYS)] = together[list(_KEYS)].map(disarm)
    together.to_csv(path, index=False, float_format="%.9g", lineterminator="\n")


def read_predictions(paths: Sequence[Path], task: Task) -> list[Case]:
    """Reads tables of predictions, made here or elsewhere, as one.

    Rows of the model `consensus` are skipped: the consensus is formed again, from all models in the files.

    Args:
        paths: CSV files with the columns image, group, label, model, revision, predicted, p:<label>…. An image
            whose group is empty is a group of its own.
        task: its labels are the valid ones.

    Raises:
        DataError: for a file that cannot be read.
        PredictionError: for rows that cannot be right.
    """
    rows = pd.concat([_read_rows(path, task) for path in paths], ignore_index=True)
    rows = rows[rows["model"] != CONSENSUS]
    if rows.empty:
        raise PredictionError("The files hold no prediction of a model. Give one row for each image and model.")
    twice = rows[rows.duplicated(["image", "model"])]
    if not twice.empty:
        first = twice.iloc[0]
        raise PredictionError(f"Model {first['model']!r} has two rows for image {first['image']!r}. Keep one.")
    _check_revisions(rows)
    for column in ("label", "group"):
        several = rows.groupby("image")[column].nunique()
        if (several > 1).any():
            raise PredictionError(
                f"Image {several.idxmax()!r} has more than one {column}. Give it the same for every model."
            )
    said: dict[str, list[Opinion]] = {}
    probs = rows[[f"p:{label}" for label in task.labels]].to_numpy().tolist()
    keys = (rows[column] for column in ("image", "model", "revision", "predicted"))
    for image, model, revision, label, p in zip(*keys, probs, strict=True):
        opinion = Opinion(model, revision or None, label=label, probs=dict(zip(task.labels, p, strict=True)))
        said.setdefault(image, []).append(opinion)
    images = rows.drop_duplicates("image")
    return [
        Case(image, group, label, tuple(said[image]), agree(task, said[image]))
        for image, group, label in zip(images["image"], images["group"], images["label"], strict=True)
    ]


def _check_revisions(rows: pd.DataFrame) -> None:
    """Raises for a model that answers at two revisions: its figures would be those of no one model."""
    for model, given in rows.groupby("model")["revision"]:
        if given.nunique() > 1:
            first, second = sorted(given.unique())[:2]
            raise PredictionError(
                f"Model {model!r} answers at two revisions, {first!r} and {second!r}. Keep one, or give each a name "
                "of its own."
            )


def _read_rows(path: Path, task: Task) -> pd.DataFrame:
    columns = [f"p:{label}" for label in task.labels]
    rows = read_table(path, (*_KEYS, *columns))
    strange = [name for name in rows.columns if name.startswith("p:") and name not in columns]
    if strange:
        raise PredictionError(f"{path}: {strange[0]!r} is no label of task {task.name!r}. Valid: {', '.join(columns)}.")
    for column in ("image", "model"):
        _check_rows(path, rows[column].str.strip() != "", f"its {column} is empty")
    for column in ("label", "predicted"):
        known = rows[column].isin(task.labels)
        _check_rows(path, known, f"its {column} is none of {', '.join(task.labels)}")
    probs = rows[columns].apply(pd.to_numeric, errors="coerce").astype(np.float64)
    _check_rows(path, probs.ge(0).all(axis=1) & probs.le(1).all(axis=1), "a probability is no number from 0 to 1")
    total = probs.sum(axis=1)
    _check_rows(path, (total - 1).abs() <= _TOLERANCE, f"its probabilities must sum to 1 within {_TOLERANCE}")
    predicted = probs.to_numpy()[np.arange(len(rows)), rows["predicted"].map(task.labels.index).to_numpy(dtype=int)]
    _check_rows(path, probs.max(axis=1) <= predicted + 1e-6, "predicted is not its most probable label")
    return rows.assign(**probs, group=rows["group"].where(rows["group"].str.strip() != "", rows["image"]))


def _check_rows(path: Path, good: pd.Series, problem: str) -> None:
    """Raises for the first row that is not good, counted as a spreadsheet counts them."""
    if not good.all():
        raise PredictionError(f"{path}, row {int(np.flatnonzero(~good)[0]) + 2}: {problem}. Correct the file.")
