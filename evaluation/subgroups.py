"""Results by subgroup: any column of a table of metadata (sex, age, view, site, source)."""

from __future__ import annotations

import dataclasses
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from evaluation.document import Grid, Paragraph, Section
from evaluation.metrics import accuracy, auroc, balanced_accuracy
from evaluation.predictions import CONSENSUS, PredictionError, Table
from evaluation.sections import show
from evaluation.statistics import bootstrap, describe
from evaluation.summary import TITLES
from xray_models.tables import read_table

_log = logging.getLogger(__name__)
MOST = 50  # subgroups that a column may make: a column of patients or dates divides nothing
SMALL = 30  # images below which a subgroup is marked: its figures mean little
_MANY = 12  # values above which a column of numbers is cut into bands
_AGES = (0, 18, 40, 65, 200)
_METRICS = {"accuracy": accuracy, "balanced_accuracy": balanced_accuracy, "auroc": auroc}


def read_metadata(path: Path) -> pd.DataFrame:
    """Reads a CSV with a column `image` and one column for each way to divide the images.

    Args:
        path: of the CSV; `image` as in `predictions.csv`, or the file's name alone where only one image bears it.

    Returns:
        Text, one row for each image, named by it.

    Raises:
        DataError: when the file cannot be read, or has no column `image`.
        PredictionError: when it has no other column, or two rows for an image.
    """
    rows = read_table(path, ("image",))
    if len(rows.columns) < 2:
        raise PredictionError(
            f"{path} has the column image alone. It needs at least one more, for instance sex, age, view or site."
        )
    twice = rows[rows.duplicated("image")]
    if not twice.empty:
        raise PredictionError(f"{path} has two rows for image {twice['image'].iloc[0]!r}. Keep one.")
    return rows.set_index("image")


def match_metadata(known: pd.DataFrame, table: Table) -> pd.DataFrame:
    """Finds what is known of each image.

    Args:
        known: as `read_metadata` gives it.
        table: the answers.

    Returns:
        One row for each image of the table, in its order, text; "" where nothing is known. Numbers of many values
        are cut into bands: a column `age` at 18, 40 and 65, others at their quartiles; but more than `MOST` whole
        numbers of which no two are alike name the images, as patients or dates do. A column that makes more than
        `MOST` subgroups is left out with a warning.

    Raises:
        PredictionError: when none of the images is named, one twice, or one by a bare name that several bear.
    """
    names = _name_images(known, table.images)
    if not known.index.isin(names).any():
        raise PredictionError(
            f"The metadata name none of the evaluated images. Their first is {known.index[0]!r}; the evaluation's "
            f"first is {table.images[0]!r}."
        )
    found = known.reindex(names).fillna("").reset_index(drop=True)
    found = found.apply(lambda column: _cut(column, str(column.name)))
    counts = found.nunique()
    for name in counts.index[counts > MOST]:
        _log.warning("metadata: column %r is left out: of its %d values at most %d divide", name, counts[name], MOST)
    return found.loc[:, counts <= MOST]


def _name_images(known: pd.DataFrame, images: Sequence[str]) -> list[str]:
    """The name under which the metadata may know each image: its own, or its bare name."""
    bare = [Path(image).name for image in images]
    bearers, names = Counter(bare), []
    for image, name in zip(images, bare, strict=True):
        if name != image and name in known.index:
            if bearers[name] > 1:
                raise PredictionError(
                    f"The metadata have a row for image {name!r}, a bare name that {bearers[name]} of the evaluated "
                    f"images bear. Write the path as in predictions.csv, for instance {image!r}."
                )
            if image in known.index:
                raise PredictionError(f"The metadata have two rows for one image: {image!r} and {name!r}. Keep one.")
        names.append(image if image in known.index else name)
    return names


def _cut(column: pd.Series, name: str) -> pd.Series:
    """Bands of a column of numbers of many values; other columns as they are."""
    numbers = pd.to_numeric(column, errors="coerce").replace([np.inf, -np.inf], np.nan)
    if numbers.notna().sum() < (column != "").sum() or numbers.nunique() <= _MANY:
        return column
    known, age = numbers.dropna(), name.lower() == "age"
    if len(known) > MOST and known.is_unique and (known % 1 == 0).all() and not age:
        return column
    edges = _AGES if age else sorted(set(numbers.quantile([0, 0.25, 0.5, 0.75, 1])))
    bands = pd.cut(numbers, list(edges), right=False, include_lowest=True, labels=_name_bands(edges))
    if not age:
        bands = bands.fillna(_name_bands(edges)[-1]).where(numbers.notna())
    return bands.astype(object).fillna("").astype(str)


def _name_bands(edges: Any) -> list[str]:
    names = [f"{edge:.12g}" for edge in edges]
    if len(set(names)) < len(names):
        names = [repr(float(edge)) for edge in edges]
    inner = [f"{low} to below {high}" for low, high in zip(names[:-1], names[1:], strict=True)]
    return [*inner[:-1], f"{names[-2]} and above"]


def judge_subgroups(table: Table, metadata: pd.DataFrame, resamples: int, seed: int) -> dict[str, Any]:
    """Measures the consensus on each subgroup.

    Args:
        table: the answers.
        metadata: as `match_metadata` gives it.
        resamples: of the bootstrap over groups.
        seed: of the resamples.

    Returns:
        By column and value: `n`, `small`, and the metrics with intervals; images without a value are "not known".
    """
    found: dict[str, Any] = {}
    for name in metadata.columns:
        values = metadata[name].replace("", "not known").to_numpy()
        found[name] = {
            value: _judge(_take(table, values == value), resamples, seed) for value in sorted(set(values), key=str)
        }
    return found


def _take(table: Table, rows: np.ndarray) -> Table:
    """The part of a table on which the consensus answered; other answers are not needed here."""
    together = table.answers[CONSENSUS]
    return dataclasses.replace(
        table,
        images=tuple(np.array(table.images)[rows]),
        groups=table.groups[rows],
        truth=table.truth[rows],
        answers={CONSENSUS: dataclasses.replace(together, probs=together.probs[rows], sets=None)},
        disagreement=table.disagreement[rows],
        divided=table.divided[rows],
    )


def _judge(part: Table, resamples: int, seed: int) -> dict[str, Any]:
    probs = part.answers[CONSENSUS].probs
    intervals = bootstrap(
        lambda weights: {name: metric(probs, part.truth, weights) for name, metric in _METRICS.items()},
        part.groups,
        resamples,
        seed,
    )
    numbers = {name: describe(*interval) for name, interval in intervals.items()}
    return {"n": len(part.truth), "small": len(part.truth) < SMALL, **numbers}


def build_subgroup_section(found: Mapping[str, Any]) -> Section:
    """One table for each column; subgroups of fewer than 30 images are marked."""
    about = Paragraph(
        f"The consensus. Subgroups of fewer than {SMALL} images are marked with *: their figures mean little. Many "
        "subgroups are looked at, so one that stands out may do so by chance.",
        "note",
    )
    grids = [
        Grid(
            f"By {column}.",
            (column, "Images", *(TITLES[name] for name in _METRICS)),
            tuple(
                (
                    value + (" *" if part["small"] else ""),
                    f"{part['n']:,}",
                    *(show(part[name], name) for name in _METRICS),
                )
                for value, part in values.items()
            ),
        )
        for column, values in found.items()
    ]
    return Section("Subgroups", (about, *grids))
