"""Answers as Parquet files, one for each part of a data set: written by many processes, put into arrays by one.

`opinions-000012.parquet` holds one row for each image and model, the consensus last, images in order;
`faults-000012.parquet` the images that cannot be read. A file is there as a whole or not at all, and writing it twice
makes no difference.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from evaluation.cases import FAULT
from evaluation.predictions import CONSENSUS, Answers, Case, PredictionError, Table
from xray_models.layouts import shorten
from xray_models.readings import Consensus, Opinion
from xray_models.tasks import Task, TaskError

_OWN = re.compile(r"(opinions|faults)-\d{6,}\.(parquet|draft)")  # files that this module writes


class Part(NamedTuple):
    """A piece of a data set: its number, and the place of its first image in the whole."""

    number: int
    first: int


def list_fields(task: Task) -> pa.Schema:
    """The columns of a file of opinions; what does not apply to a row is null."""
    names = pa.dictionary(pa.int32(), pa.string())
    return pa.schema(
        [
            ("place", pa.int64()),  # rises from image to image
            ("image", pa.string()),
            ("group", pa.string()),
            ("label", names),
            ("model", names),
            ("revision", names),
            ("reason", names),  # why the model did not answer
            ("novelty", pa.float64()),  # at most 1 in distribution
            ("disagreement", pa.float64()),  # of the consensus
            ("divided", pa.bool_()),  # of the consensus: whether the models name different labels
            *((f"p:{label}", pa.float64()) for label in task.labels),
            *((f"set:{label}", pa.bool_()) for label in task.labels),
        ]
    )


def write_part(task: Task, part: Part, cases: Sequence[Case], faults: pd.DataFrame, folder: Path) -> None:
    """Writes a part's answers and faults.

    Args:
        task: its labels name the columns.
        part: which part of the data set this is.
        cases: in the data set's order.
        faults: image, label, reason.
        folder: made if missing.
    """
    rows = []
    for place, case in enumerate(cases, part.first):
        known = {"place": place, "image": case.image, "group": case.group, "label": case.label}
        rows += [known | _describe(opinion) for opinion in case.opinions]
        if case.consensus is not None:
            rows.append(known | _describe(case.consensus))
    folder.mkdir(parents=True, exist_ok=True)
    text = pa.schema([(name, pa.string()) for name in FAULT])
    _write(pa.Table.from_pandas(faults, text, preserve_index=False), folder / f"faults-{part.number:06}.parquet")
    _write(pa.Table.from_pylist(rows, list_fields(task)), folder / f"opinions-{part.number:06}.parquet")


def _describe(voice: Opinion | Consensus) -> dict[str, Any]:
    row: dict[str, Any] = {"novelty": voice.novelty}
    if isinstance(voice, Opinion):
        row |= {name: getattr(voice, name) for name in ("model", "revision", "reason")}
    else:
        row |= {"model": CONSENSUS, "disagreement": voice.disagreement, "divided": len(voice.votes) > 1}
    for label, p in (voice.probs or {}).items():
        row[f"p:{label}"] = p
        row[f"set:{label}"] = None if voice.prediction_set is None else label in voice.prediction_set
    return row


def _write(table: pa.Table, path: Path) -> None:
    draft = path.with_suffix(".draft")
    pq.write_table(table, draft)
    draft.replace(path)


def clear_parts(folder: Path) -> None:
    """Removes a folder of parts that an earlier run has left; does nothing where there is none.

    Raises:
        TaskError: when anything else lies in it; nothing is removed then.
        OSError: when it is no folder, or cannot be removed.
    """
    try:
        found = sorted(folder.iterdir())
    except FileNotFoundError:
        return
    foreign = [path.name for path in found if not (_OWN.fullmatch(path.name) and path.is_file())]
    if foreign:
        raise TaskError(
            f"{folder} is where the parts of an evaluation go, and holds something else: {shorten(foreign)}. Move that "
            "away, or name another folder with --out."
        )
    for path in found:
        path.unlink()
    folder.rmdir()


def scan_parts(folder: Path) -> Iterator[pa.RecordBatch]:
    """Reads the answers of all parts, in the data set's order, some thousand rows at a time."""
    files = [str(path) for path in sorted(folder.glob("opinions-*.parquet"))]
    return ds.dataset(files, format="parquet").to_batches(batch_size=2**14, use_threads=True)


def read_faults(folder: Path) -> pd.DataFrame:
    """Reads the faults of all parts, in the data set's order: image, label, reason."""
    tables = [pq.read_table(path) for path in sorted(folder.glob("faults-*.parquet"))]
    return pa.concat_tables(tables).to_pandas()


def tabulate_parts(task: Task, batches: Iterable[pa.RecordBatch]) -> Table:
    """Puts answers into the arrays of `predictions.tabulate`; only columns of numbers are kept on the way.

    Args:
        task: its labels are the valid ones.
        batches: of `scan_parts`.

    Raises:
        PredictionError: when no model answered on any image.
    """
    columns = _Columns(task)
    for batch in batches:
        columns.add(batch)
    return columns.close()


def list_unavailable(batches: Iterable[pa.RecordBatch]) -> dict[str, str]:
    """Models that answered on no image, with the first reason that they gave."""
    answered: set[str] = set()
    reasons: dict[str, str] = {}
    for batch in batches:
        silent = pc.is_valid(batch.column("reason"))
        answered.update(pc.unique(batch.filter(pc.invert(silent)).column("model").dictionary_decode()).to_pylist())
        without = batch.filter(silent).select(["model", "reason"]).to_pandas().drop_duplicates("model")
        for model, reason in without.itertuples(index=False):
            reasons.setdefault(model, reason)
    return {model: reason for model, reason in reasons.items() if model not in answered}


class _Piece(NamedTuple):
    """Some of one model's answers: places (n,), probabilities and sets (n, K), novelty (n,); NaN where not known."""

    place: np.ndarray
    probs: np.ndarray
    sets: np.ndarray
    novelty: np.ndarray


class _Columns:
    """Record batches on their way into a `Table`."""

    def __init__(self, task: Task):
        self.task = task
        self.pieces: dict[str, list[_Piece]] = {}  # by model, as they first answer
        self.revisions: dict[str, str | None] = {}
        self.images: list[pa.RecordBatch] = []  # the consensus's rows, without its probabilities

    def add(self, batch: pa.RecordBatch) -> None:
        """Takes the rows of a batch on which a model, or the panel, answered."""
        batch = batch.filter(pc.is_valid(batch.column(f"p:{self.task.labels[0]}")))
        whole = _Piece(
            batch.column("place").to_numpy(),
            np.column_stack([_to_numbers(batch, f"p:{label}") for label in self.task.labels]),
            np.column_stack([_to_numbers(batch, f"set:{label}") for label in self.task.labels]),
            _to_numbers(batch, "novelty"),
        )
        models = batch.column("model")
        for code in dict.fromkeys(models.indices.to_numpy().tolist()):
            name, rows = models.dictionary[code].as_py(), np.flatnonzero(models.indices.to_numpy() == code)
            self.pieces.setdefault(name, []).append(_Piece(*(column[rows] for column in whole)))
            self.revisions.setdefault(name, batch.column("revision")[int(rows[0])].as_py())
            if name == CONSENSUS:
                self.images.append(batch.take(rows).select(["image", "group", "label", "disagreement", "divided"]))

    def close(self) -> Table:
        """All answers, on the images on which any model answered."""
        if not self.images:
            raise PredictionError("There is no image on which a model answered.")
        images = pa.Table.from_batches(self.images).unify_dictionaries()
        places = np.concatenate([piece.place for piece in self.pieces[CONSENSUS]])
        names = [name for name in self.pieces if name != CONSENSUS]
        answers = {name: self._spread(name, places) for name in [*names, CONSENSUS]}
        truth = pc.index_in(images["label"].cast(pa.string()), pa.array(self.task.labels))
        if all(answers[name].sets is None for name in names):
            answers[CONSENSUS] = dataclasses.replace(answers[CONSENSUS], sets=None)
        return Table(
            labels=self.task.labels,
            images=tuple(images["image"].to_pylist()),
            groups=np.array(images["group"].to_pylist()),
            truth=truth.to_numpy().astype(np.int64),
            answers=answers,
            disagreement=images["disagreement"].to_numpy(),
            divided=images["divided"].to_numpy(),
        )

    def _spread(self, name: str, places: np.ndarray) -> Answers:
        """One model's answers, with gaps where it did not answer; its pieces are let go."""
        place, probs, sets, novelty = map(np.concatenate, zip(*self.pieces.pop(name), strict=True))
        rows = np.searchsorted(places, place)
        spread = [np.full((len(places), *part.shape[1:]), np.nan) for part in (probs, sets, novelty)]
        for whole, part in zip(spread, (probs, sets, novelty), strict=True):
            whole[rows] = part
        given = not np.isnan(sets).any()
        return Answers(self.revisions[name], spread[0], spread[1] == 1 if given else None, spread[2])


def _to_numbers(batch: pa.RecordBatch, name: str) -> np.ndarray:
    """A column as floats, NaN where null."""
    return batch.column(name).cast(pa.float64()).to_numpy(zero_copy_only=False)
