import dataclasses

import numpy as np
import pytest

from tests.test_trainer import LABELS, RECIPE, noise
from xray_models import search
from xray_models.architectures import build_model
from xray_models.images import InputSpec
from xray_models.tasks import TaskError

QUICK = dataclasses.replace(RECIPE, epochs=1)


@pytest.mark.parametrize("kind", ["grid", "optuna"])
def test_a_search_ranks_what_it_tried(kind, tmp_path, monkeypatch):
    monkeypatch.setitem(search.GRID, "learning_rate", (1e-5, 1e-2))
    monkeypatch.setitem(search.GRID, "per_device_train_batch_size", (8,))
    built = []

    def build(recipe):
        built.append(recipe.dropout)
        return build_model("simple_cnn", LABELS, recipe)[0]

    sets = {"train": noise(InputSpec(48, 48)), "validation": noise(InputSpec(48, 48), seed=1)}
    table = search.search_recipes(build, sets, QUICK, tmp_path, search.Plan(kind, trials=4))
    assert list(table.columns) == ["learning_rate", "dropout", "batch_size", "log_loss"]
    assert len(table) == 4
    assert table["log_loss"].is_monotonic_increasing
    assert set(table["dropout"]) <= set(built)
    if kind == "grid":
        assert len(table.drop_duplicates(["learning_rate", "dropout"])) == 4
        assert set(table["dropout"]) == {0.0, 0.3}
    assert np.isfinite(table["log_loss"]).all()


def test_an_unknown_search_is_refused():
    with pytest.raises(TaskError, match="Valid: grid, optuna"):
        search.Plan("random")


def test_a_search_without_trials_is_refused():
    with pytest.raises(TaskError, match="trials is 0; a search needs at least 1"):
        search.Plan("grid", trials=0)
