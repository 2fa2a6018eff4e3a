"""The reporting checklist: what is known is filled in, what is not is missing, and nothing is claimed."""

import re

import pandas as pd
import pytest

from evaluation.checklist import MISSING, fill_checklist
from evaluation.predictions import write_predictions
from evaluation.report import build_report
from tests.test_report import FAULTS, TASK, judge, make_table


@pytest.fixture(scope="module")
def judged():
    table = make_table()
    return table, judge(table)


def test_the_checklist_names_what_is_missing(judged):
    table, scores = judged
    items = {item.asked: item.known for item in fill_checklist(TASK, table, scores)}
    assert items["Ethics approval"] == ""
    assert "1 files left out" in items["Missing data and files left out"]
    assert "Normal 10" in items["Flow of images and counts by label"]
    assert items["Subgroups and fairness"] == ""
    page_items = build_report(TASK, table, scores, FAULTS).sections[-2]
    assert sum(row[1] == MISSING for row in page_items.blocks[1].rows) == sum(not known for known in items.values())


def test_the_checklist_says_that_names_of_files_enter_results(judged, tmp_path):
    table, scores = judged
    said = {item.asked: item.known for item in fill_checklist(TASK, table, scores)}["De-identification"]
    write_predictions(table, tmp_path / "predictions.csv")
    assert table.images[0] in set(pd.read_csv(tmp_path / "predictions.csv")["image"])
    for part in ("Names of files", "predictions.csv", "worklist.csv", "faults.csv", "report", "rename"):
        assert part in said


@pytest.mark.parametrize(
    ("made_with", "split", "says"),
    [
        ({"seen": 1200, "images": 1700}, "test", r"Internal: .* 1,200 of the data's 1,700 images; none .* judged"),
        ({"seen": 1200, "images": 1700}, "all", r"Internal: .*; some of them are judged"),
        ({"seen": 0, "images": 1700}, "test", r"The models were made with none of these images; .* authors"),
        ({"seen": 9, "by_name": 9, "images": 1700}, "test", r"with 9 of .* \(9 of them known by file names alone\);"),
        (None, "test", r"^$"),
    ],
)
def test_the_checklist_claims_the_tasks_collection_only_where_it_is_known(judged, made_with, split, says):
    """Another hospital's images, named by --data, are neither of the task's source nor of its licence."""
    table, scores = judged
    scores = scores | {"made_with": made_with, "split": split}
    items = {item.asked: item.known for item in fill_checklist(TASK, table, scores)}
    own = made_with == {"seen": 1200, "images": 1700}
    assert re.search(says, items["Internal or external testing"])
    assert (TASK.dataset.source in items["Data source"]) == own
    facts = dict(build_report(TASK, table, scores, FAULTS).sections[-1].blocks[0].pairs)
    assert (facts["Images"] == TASK.dataset.source) == ("Citation" in facts) == ("Licence" in facts) == own
