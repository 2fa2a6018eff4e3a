import dataclasses

import numpy as np

from evaluation.document import Gallery, Paragraph
from evaluation.failures import (
    SHOWN,
    build_failure_section,
    list_confident_errors,
    list_divided,
    list_missed,
)
from evaluation.predictions import CONSENSUS
from tests.test_report import make_table


def test_confident_errors_are_errors_and_sorted():
    table = make_table()
    chosen = list_confident_errors(table)
    together = table.answers[CONSENSUS]
    wrong = together.predicted != table.truth
    assert set(chosen) == set(np.flatnonzero(wrong))
    assert (np.diff(together.probs.max(axis=1)[chosen]) <= 0).all()


def test_the_most_divided_come_first():
    table = make_table()
    chosen = list_divided(table)
    assert set(chosen) == set(np.flatnonzero(table.divided))
    assert (np.diff(table.disagreement[chosen]) <= 0).all()


def test_missed_are_those_whose_set_lacks_the_truth():
    table = make_table()
    chosen = list_missed(table)
    sets = table.answers[CONSENSUS].sets
    assert set(chosen) == {i for i, truth in enumerate(table.truth) if not sets[i, truth]}
    bare = dataclasses.replace(table.answers[CONSENSUS], sets=None)
    assert list_missed(dataclasses.replace(table, answers=table.answers | {CONSENSUS: bare})) == []


def test_a_gallery_counts_all_and_shows_some():
    table = make_table()
    section = build_failure_section(table)
    divided = section.blocks[1]
    assert isinstance(divided, Gallery)
    count = int(table.divided.sum())
    assert f"on {count} of 40 images" in divided.note
    assert len(divided.pictures) == min(SHOWN, count)
    marks = {line.who: line.mark for line in divided.pictures[0].lines}
    index = list_divided(table)[0]
    for name, mark in marks.items():
        assert (mark == "right") == (table.answers[name].predicted[index] == table.truth[index])


def test_one_model_is_never_divided():
    section = build_failure_section(make_table(models=1))
    assert section.blocks[1] == Paragraph(
        "The models name different labels, the most divided (highest Jensen-Shannon divergence) first: on no image."
    )
