"""Answers that went through files are the answers that were given, in arrays as `tabulate` makes them."""

import dataclasses

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from evaluation.cases import FAULT, find_unavailable, settle
from evaluation.parts import (
    Part,
    clear_parts,
    list_fields,
    list_unavailable,
    read_faults,
    scan_parts,
    tabulate_parts,
    write_part,
)
from evaluation.predictions import Case, PredictionError, tabulate
from xray_models.readings import Opinion, agree
from xray_models.tasks import TaskError, load_task

TASK = load_task("phantom")
NONE = pd.DataFrame(columns=list(FAULT))


def draw_cases(count=50, seed=0):
    """Three models: one with sets, one without that falls silent at times, one that never answers; once none does."""
    rng = np.random.default_rng(seed)
    cases = []
    for number in range(count):
        silent = number == 7
        said = []
        for model in ("sets", "bare"):
            probs = rng.dirichlet(np.ones(len(TASK.labels)))
            probs = dict(zip(TASK.labels, map(float, probs), strict=True))
            chosen = tuple(label for label, p in probs.items() if p > 0.3) if model == "sets" else None
            novelty = [0.5, 1.5, None][number % 3] if model == "sets" else None
            opinion = settle(Opinion(model, f"{model}-1", probs=probs, prediction_set=chosen, novelty=novelty))
            if silent or (model == "bare" and number % 11 == 0):
                opinion = Opinion(model, f"{model}-1", status="unavailable", reason="no answer within 60 s")
            said.append(opinion)
        said.append(Opinion("never", status="unavailable", reason="no weights"))
        group, label = f"g{number // 3}", TASK.labels[number % len(TASK.labels)]
        cases.append(Case(f"x/ü{number}.png", group, label, tuple(said), agree(TASK, said)))
    return cases


def write(cases, folder, size):
    for number in range(0, len(cases), size):
        write_part(TASK, Part(number // size, number), cases[number : number + size], NONE, folder)


def check_same(found, expected):
    assert list(found.answers) == list(expected.answers)
    for name, own in expected.answers.items():
        assert found.answers[name].revision == own.revision
        assert found.answers[name].probs.dtype == np.float64
        np.testing.assert_array_equal(found.answers[name].probs, own.probs, err_msg=name)
        np.testing.assert_array_equal(found.answers[name].novelty, own.novelty, err_msg=name)
        assert (found.answers[name].sets is None) == (own.sets is None), name
        if own.sets is not None:
            np.testing.assert_array_equal(found.answers[name].sets, own.sets)
    assert (found.labels, found.images) == (expected.labels, expected.images)
    for name in ("groups", "truth", "disagreement", "divided"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name), err_msg=name)


@pytest.mark.parametrize("size", [50, 8])
def test_the_arrays_are_those_of_the_cases(tmp_path, size):
    cases = draw_cases()
    write(cases, tmp_path, size)
    table = tabulate(TASK, cases)
    assert len(table.images) == 49
    assert list(table.answers) == ["sets", "bare", "consensus"]
    check_same(tabulate_parts(TASK, scan_parts(tmp_path)), table)


def test_batches_may_end_within_an_image(tmp_path):
    cases = draw_cases()
    write(cases, tmp_path, 8)
    rows = (batch.slice(start, 3) for batch in scan_parts(tmp_path) for start in range(0, len(batch), 3))
    check_same(tabulate_parts(TASK, rows), tabulate(TASK, cases))


def test_without_any_set_the_consensus_has_none(tmp_path):
    cases = []
    for case in draw_cases():
        said = tuple(dataclasses.replace(opinion, prediction_set=None) for opinion in case.opinions)
        cases.append(dataclasses.replace(case, opinions=said, consensus=agree(TASK, said)))
    write(cases, tmp_path, 20)
    table = tabulate_parts(TASK, scan_parts(tmp_path))
    assert table.answers["consensus"].sets is None
    check_same(table, tabulate(TASK, cases))


def test_models_that_never_answered_are_named(tmp_path):
    cases = draw_cases()
    write(cases, tmp_path, 8)
    assert list_unavailable(scan_parts(tmp_path)) == find_unavailable(cases) == {"never": "no weights"}


def test_faults_keep_their_order_and_a_part_may_hold_nothing_else(tmp_path):
    cases = draw_cases(4)
    faults = pd.DataFrame([(f"f{number}.png", "Normal", "damaged") for number in range(5)], columns=list(FAULT))
    write_part(TASK, Part(10, 40), [], faults.iloc[3:], tmp_path)
    write_part(TASK, Part(2, 8), cases, faults.iloc[:3], tmp_path)
    write_part(TASK, Part(0, 0), [], NONE, tmp_path)
    pd.testing.assert_frame_equal(read_faults(tmp_path), faults.astype(read_faults(tmp_path).dtypes))
    check_same(tabulate_parts(TASK, scan_parts(tmp_path)), tabulate(TASK, cases))


def test_a_part_that_is_written_twice_counts_once(tmp_path):
    cases = draw_cases(16)
    write(cases, tmp_path, 8)
    write(cases[:8], tmp_path, 8)
    check_same(tabulate_parts(TASK, scan_parts(tmp_path)), tabulate(TASK, cases))
    assert sorted(path.name for path in tmp_path.iterdir())[2:] == [
        "opinions-000000.parquet",
        "opinions-000001.parquet",
    ]


def test_others_can_read_the_files(tmp_path):
    """One row for each image and model, and nothing that this package alone understands."""
    cases = draw_cases(6)
    write(cases, tmp_path, 6)
    rows = pq.read_table(tmp_path / "opinions-000000.parquet").to_pandas()
    assert len(rows) == 6 * 4
    row = rows[(rows["image"] == cases[1].image) & (rows["model"] == "sets")].iloc[0]
    assert row[[f"p:{label}" for label in TASK.labels]].tolist() == [*cases[1].opinions[0].probs.values()]


def test_no_answer_at_all_is_an_error(tmp_path):
    write_part(TASK, Part(0, 0), [], NONE, tmp_path)
    with pytest.raises(PredictionError, match="no image on which a model answered"):
        tabulate_parts(TASK, scan_parts(tmp_path))
    assert list_fields(TASK).field("p:Normal").type == pa.float64()


def test_parts_of_an_earlier_run_are_cleared_and_nothing_else(tmp_path):
    folder = tmp_path / "parts"
    clear_parts(folder)
    folder.mkdir()
    for name in ("opinions-000000.parquet", "faults-000000.parquet", "opinions-000001.draft"):
        (folder / name).write_bytes(b"x")
    (folder / "my_only_copy.txt").write_text("x")
    with pytest.raises(TaskError, match=r"parts.* holds something else: my_only_copy\.txt.* --out"):
        clear_parts(folder)
    assert len(list(folder.iterdir())) == 4
    (folder / "my_only_copy.txt").unlink()
    clear_parts(folder)
    assert not folder.exists()
