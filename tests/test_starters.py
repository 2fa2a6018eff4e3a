import dataclasses
import json

import pytest

from evaluation.starters import list_starters, render_starters
from tests.conftest import has_starters
from xray_models.tasks import load_task


@pytest.mark.skipif(not has_starters("phantom"), reason="no starter models of phantom")
def test_each_row_is_what_the_models_config_says():
    task = load_task("phantom")
    rows = render_starters([task]).splitlines()[2:]
    assert len(rows) == len(task.models) == 3
    for ref, row in zip(task.models, rows, strict=True):
        test = json.loads((ref.path / "config.json").read_text())["second_read"]["test"]
        cells = [cell.strip() for cell in row.strip("|").split("|")]
        assert cells[:2] == ["`phantom`", f"`{ref.name}`"]
        assert float(cells[3]) == pytest.approx(test["accuracy"], abs=5e-4)
        mean = sum(value for label, value in test["sensitivity"].items() if label != "Normal") / 3
        assert float(cells[5]) == pytest.approx(mean, abs=5e-4)


def test_a_model_without_weights_is_left_out():
    task = dataclasses.replace(load_task("bone"))
    assert list(list_starters([task])) == []
