"""Where the panel fails: the images on which it is wrong, split, or rules the truth out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from evaluation.document import Gallery, Line, Paragraph, Picture, Section
from evaluation.predictions import CONSENSUS, Table

SHOWN = 12


def list_confident_errors(table: Table) -> list[int]:
    """Numbers of the images on which the consensus is wrong, the surest first."""
    together = table.answers[CONSENSUS]
    wrong = together.predicted != table.truth
    return _order(together.probs.max(axis=1), wrong)


def list_divided(table: Table) -> list[int]:
    """Numbers of the images on which models name different labels, the most divided first."""
    return _order(table.disagreement, table.divided)


def list_missed(table: Table) -> list[int]:
    """Numbers of the images whose true label the consensus' prediction set rules out, the least likely truth first."""
    together = table.answers[CONSENSUS]
    if together.sets is None:
        return []
    rows = np.arange(len(table.truth))
    return _order(-together.probs[rows, table.truth], ~together.sets[rows, table.truth])


def _order(score: np.ndarray, chosen: np.ndarray) -> list[int]:
    return [int(index) for index in np.argsort(-score, kind="stable") if chosen[index]]


def build_failure_section(table: Table) -> Section:
    """Shows the first dozen images of each kind."""
    kinds = [
        ("The consensus is wrong, the surest first", list_confident_errors(table)),
        (
            "The models name different labels, the most divided (highest Jensen-Shannon divergence) first",
            list_divided(table),
        ),
    ]
    if table.answers[CONSENSUS].sets is not None:
        kinds.append(
            ("The consensus’ prediction set rules the truth out, the least likely truth first", list_missed(table))
        )
    blocks = [_show(table, title, chosen) for title, chosen in kinds]
    return Section("Failures to look at", tuple(blocks))


def _show(table: Table, title: str, chosen: Sequence[int]) -> Gallery | Paragraph:
    if not chosen:
        return Paragraph(f"{title}: on no image.")
    several = f"; here the first {SHOWN}" if len(chosen) > SHOWN else ""
    note = f"{title}: on {len(chosen):,} of {len(table.images):,} images{several}."
    return Gallery(tuple(_picture(table, index) for index in chosen[:SHOWN]), note)


def _picture(table: Table, index: int) -> Picture:
    truth = int(table.truth[index])
    lines = []
    for name, answers in table.answers.items():
        if answers.answered[index]:
            number = int(answers.predicted[index])
            share = f"{100 * answers.probs[index, number]:.0f} %"
            lines.append(Line(name, table.labels[number], share, "right" if number == truth else "wrong"))
    return Picture(table.images[index], f"True label: {table.labels[truth]}", tuple(lines))
