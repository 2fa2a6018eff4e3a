"""Which images a person should look at first: orders of the images, and how many errors each finds by when.

Two kinds of error are looked for. The consensus's own errors, by orders that do not know the labels: the models'
disagreement and the consensus's entropy. And wrong labels, by label quality, which needs the labels; how well that
works is tried on labels that are made wrong on purpose.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from evaluation.document import Block, Cell, Figures, Grid, Paragraph, Plot, Row, Section
from evaluation.predictions import CONSENSUS, Table
from evaluation.statistics import Interval, bootstrap, round_number
from evaluation.summary import count, set_interval
from xray_models.style import INK, RULE, SERIES

BUDGETS = (0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.75, 1.0)
"""Shares of the images that a person reads."""

ORDERS = {
    "disagreement": "the models’ disagreement",
    "entropy": "the consensus’ entropy",
    "label_quality": "label quality",
}
_STROKES = {"disagreement": "-", "entropy": (0, (6, 2)), "label_quality": (0, (2, 1.5))}


class Noise(NamedTuple):
    """Labels of which some were made wrong on purpose: (N,) label numbers, and (N,) bool where."""

    labels: np.ndarray
    flipped: np.ndarray


def label_quality(probs: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """How much the probabilities speak for the given labels (confident learning: Northcutt et al., 2021).

    A label's probability is compared with the mean that the images with this label get, so that a label of which
    the models are never very sure is not suspected for that alone.

    Args:
        probs: (N, K) of a model that did not see these images in training.
        labels: (N,) given label numbers.

    Returns:
        (N,) in [0, 1]; low where the label is doubtful.
    """
    classes = range(probs.shape[1])
    usual = np.array([probs[labels == k, k].mean() if (labels == k).any() else 1e-6 for k in classes])
    shifted = probs - usual + usual.max()
    return shifted[np.arange(len(labels)), labels] / shifted.sum(axis=1)


def flip_labels(truth: np.ndarray, classes: int, share: float, seed: int) -> Noise:
    """Gives a share of the images, chosen at random, another label at random.

    Args:
        truth: (N,) label numbers.
        classes: number of labels, at least 2.
        share: of the images, in (0, 1).
        seed: of the choice.
    """
    rng = np.random.default_rng(seed)
    flipped = np.zeros(len(truth), dtype=bool)
    flipped[rng.permutation(len(truth))[: round(share * len(truth))]] = True
    other = (truth + rng.integers(1, classes, len(truth))) % classes
    return Noise(np.where(flipped, other, truth), flipped)


def score_images(table: Table, labels: np.ndarray) -> dict[str, np.ndarray]:
    """Scores each image for each of `ORDERS`, (N,) each; the highest should be read first.

    Args:
        table: the answers.
        labels: (N,) given label numbers, which only label quality looks at.
    """
    probs = table.answers[CONSENSUS].probs
    entropy = -(probs * np.log(np.maximum(probs, 1e-12))).sum(axis=1)
    return {"disagreement": table.disagreement, "entropy": entropy, "label_quality": -label_quality(probs, labels)}


def count_found(score: np.ndarray, wanted: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """Share of what is wanted that stands among the first images, for each of `BUDGETS`.

    Args:
        score: (N,) the highest is read first. Images of one score stand in no order: of those that a budget ends
            among, what chance finds counts.
        wanted: (N,) bool.
        weights: (R, N) how often each resample holds each image; None for the sample itself.

    Returns:
        (R, B), or (B,) without weights; NaN where nothing is wanted.
    """
    if weights is None:
        return count_found(score, wanted, np.ones((1, len(score))))[0]
    order = np.argsort(-score, kind="stable")
    ends = np.flatnonzero(np.diff(_even(score)[order], append=np.nan))  # the last image of each score
    held = weights[:, order].astype(np.float64)
    read, found = (np.cumsum(counts, axis=1)[:, ends] for counts in (held, held * wanted[order]))
    read, found = (np.pad(counts, ((0, 0), (1, 1)), mode="edge") for counts in (read, found))
    read[:, 0] = found[:, 0] = 0.0
    tied = np.append(np.diff(ends, prepend=-1) > 1, False)
    rows, total, shares = np.arange(len(held)), found[:, -1:], []
    for budget in BUDGETS:
        limit = np.floor(budget * read[:, -1] + 1e-9)
        last = (read[:, 1:-1] <= limit[:, None]).sum(axis=1)  # scores of which every image is read
        begun = tied[last] * (limit - read[rows, last]) / np.maximum(read[rows, last + 1] - read[rows, last], 1)
        shares.append(found[rows, last] + begun * (found[rows, last + 1] - found[rows, last]))
    return np.divide(np.stack(shares, axis=1), total, out=np.full((len(held), len(BUDGETS)), np.nan), where=total > 0)


def _even(score: np.ndarray) -> np.ndarray:
    """Scores without what sums in another order differ by: alike where they should be."""
    return score.round(12)


def judge_worklist(table: Table, resamples: int, seed: int, noise: float = 0.0) -> dict[str, Any]:
    """Measures how much of the errors a reader finds within each budget.

    Args:
        table: the answers.
        resamples: of the bootstrap over groups.
        seed: of the resamples and of the flipped labels.
        noise: share of labels to flip; 0 for none.

    Returns:
        `levels`, the 0th to 100th percentile of the disagreement; `budget`; `errors`, how many the consensus makes;
        `errors_found` by order, with intervals; `random`, what chance finds; and with noise `noise`: its `share`,
        `flipped` and what each order `found` of them. A disagreement that never varies, as of one model, is no order.
    """
    wrong = table.answers[CONSENSUS].predicted != table.truth
    free = {name: score for name, score in score_images(table, table.truth).items() if name != "label_quality"}
    found: dict[str, Any] = {
        "levels": np.percentile(table.disagreement, range(101)).round(6).tolist(),
        "budget": list(BUDGETS),
        "errors": int(wrong.sum()),
        "errors_found": _found_by(free, wrong, table.groups, resamples, seed),
        "random": list(BUDGETS),
        "noise": None,
    }
    if noise:
        flips = flip_labels(table.truth, len(table.labels), noise, seed)
        scores = score_images(table, flips.labels)
        found["noise"] = {
            "share": noise,
            "flipped": int(flips.flipped.sum()),
            "found": _found_by(scores, flips.flipped, table.groups, resamples, seed),
        }
    return found


def _found_by(
    scores: Mapping[str, np.ndarray], wanted: np.ndarray, groups: np.ndarray, resamples: int, seed: int
) -> dict[str, dict[str, list[float | None]]]:
    def measure(weights: np.ndarray | None) -> dict[str, Any]:
        return {
            name: count_found(score, wanted, weights)
            for name, score in scores.items()
            if name != "disagreement" or np.ptp(_even(score))
        }

    intervals = bootstrap(measure, groups, resamples, seed)
    return {name: _plain(interval) for name, interval in intervals.items()}


def _plain(interval: Interval) -> dict[str, list[float | None]]:
    return {key: [round_number(number) for number in column] for key, column in interval._asdict().items()}


def list_worklist(table: Table) -> pd.DataFrame:
    """One row an image, the most doubtful first: what a person who corrects labels works through."""
    scores = score_images(table, table.truth)
    together = table.answers[CONSENSUS]
    frame = pd.DataFrame(
        {
            "image": table.images,
            "label": np.array(table.labels)[table.truth],
            "consensus": np.array(table.labels)[together.predicted],
            "disagreement": table.disagreement.round(6),
            "entropy": scores["entropy"].round(6),
            "label_quality": (-scores["label_quality"]).round(6),
        }
    )
    return frame.sort_values(["entropy", "image"], ascending=[False, True], ignore_index=True)


def build_worklist_section(found: Mapping[str, Any], images: int) -> Section:
    """Says how far each order beats chance, and what wrong labels it would find.

    Args:
        found: what `judge_worklist` gives.
        images: how many there are.
    """
    plots: list[Plot] = []
    blocks: list[Block] = []
    if found["errors"]:
        blocks.append(
            _grid("Share of the consensus’ errors found, %, by share of the images read.", found["errors_found"])
        )
        plots.append(Plot("Errors of the consensus", partial(_draw, found["errors_found"])))
    else:
        blocks.append(Paragraph("The consensus makes no error on these images."))
    if found["noise"]:
        share = f"{100 * found['noise']['share']:g} %"
        caption = f"{found['noise']['flipped']:,} labels ({share}) made wrong at random: share found, %."
        blocks.append(_grid(caption, found["noise"]["found"]))
        plots.append(Plot("Flipped labels", partial(_draw, found["noise"]["found"])))
    about = Paragraph(
        f"Of {count(images, 'image')}, those highest on a list are read first; a list in random order finds as large a "
        "share of the errors as it reads of the images. The consensus’ entropy holds the models’ disagreement and "
        "their own doubts; worklist.csv has the whole list in its order.",
        "note",
    )
    if plots:
        blocks.append(Figures("worklist", tuple(plots), "Grey: chance. Lines: the whole sample."))
    return Section("Which images to look at first", (about, *blocks))


def _grid(caption: str, found: Mapping[str, Mapping[str, Any]]) -> Grid:
    shown = [BUDGETS.index(budget) for budget in (0.05, 0.1, 0.15, 0.2, 0.3)]
    rows: tuple[Row, ...] = tuple(
        (ORDERS[name], *(_cell(curve, place) for place in shown)) for name, curve in found.items()
    )
    chance: Row = ("chance", *(f"{100 * BUDGETS[place]:g}" for place in shown))
    return Grid(caption, ("Ordered by", *(f"{100 * BUDGETS[place]:g} % read" for place in shown)), (*rows, chance))


def _cell(curve: Mapping[str, Any], place: int) -> Cell:
    return set_interval({key: curve[key][place] for key in ("value", "low", "high")}, 100, 0)


def _draw(found: Mapping[str, Mapping[str, Any]], axes: Axes) -> None:
    axes.plot([0, 100], [0, 100], color=RULE, linewidth=1)
    for place, (name, curve) in enumerate(found.items()):
        shares = [0.0, *(100 * (value or 0.0) for value in curve["value"])]
        colour = INK if name == "disagreement" else SERIES[place % len(SERIES)]
        axes.plot(
            [0, *(100 * b for b in BUDGETS)],
            shares,
            color=colour,
            linestyle=_STROKES[name],
            label=name.replace("_", " "),
        )
    axes.set(xlim=(0, 100), ylim=(0, 101), xlabel="images read, %", ylabel="found, %")
    axes.legend(loc="lower right", fontsize=8)
