import json

import pytest

from tests.conftest import has_starters
from xray_models.cards import render_card
from xray_models.tasks import CHECKPOINTS, load_task


@pytest.mark.parametrize("name", ["brain", "covid", "fracture", "phantom", "pneumonia"])
def test_the_starter_models_cards_are_what_their_configs_give(name):
    if not has_starters(name):
        pytest.skip(f"no starter models of {name}")
    task = load_task(name)
    folders = sorted((CHECKPOINTS / name).iterdir())
    assert {folder.name for folder in folders} == {ref.name for ref in task.models}
    for folder in folders:
        info = json.loads((folder / "config.json").read_text())["second_read"]
        card = (folder / "README.md").read_text()
        assert card == render_card(task, info), folder.name
        assert f"| accuracy | {info['test']['accuracy']:.4f} (" in card
        assert task.dataset.licence in card
        assert "Not a medical device" in card
