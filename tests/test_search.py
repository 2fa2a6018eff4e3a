import dataclasses

import numpy as np
import pytest
import torch

from tests.test_trainer import LABELS, RECIPE, noise
from xray_models import search
from xray_models import trainer as trainers
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


class Teacher:
    def __init__(self):
        self.asked = 0

    def __call__(self, pixels):
        self.asked += len(pixels)
        return torch.full((len(pixels), 2), 0.5)


def test_every_training_goes_on_to_its_end_and_has_its_teacher(tmp_path, monkeypatch):
    """A loss on the way, where Optuna would have cut a training short, would stand among those at the end."""
    monkeypatch.setitem(search.GRID, "per_device_train_batch_size", (4, 8))
    recipe, spec, teacher = dataclasses.replace(RECIPE, epochs=3, patience=9), InputSpec(48, 48), Teacher()
    ends = []
    evaluate = trainers.RecipeTrainer.evaluate

    def note(self, *args, **kwargs):
        ends.append(self.state.epoch)
        return evaluate(self, *args, **kwargs)

    monkeypatch.setattr(trainers.RecipeTrainer, "evaluate", note)
    kept = []
    sets = {"train": noise(spec), "validation": noise(spec, seed=1)}

    def build(changed):
        kept.append(len(list(tmp_path.glob("run-*"))))
        return build_model("simple_cnn", LABELS, changed)[0]

    table = search.search_recipes(build, sets, recipe, tmp_path, search.Plan(trials=8), teacher)
    assert not any(kept), "the checkpoints of a training go when the next begins"
    assert list(tmp_path.glob("run-*"))
    assert (len(table), ends.count(3.0)) == (8, 8)
    assert teacher.asked == 8 * 3 * 16


def test_trainings_are_ranked_by_the_epoch_that_would_be_kept(tmp_path, monkeypatch):
    monkeypatch.setitem(search.GRID, "learning_rate", (1e-3,))
    monkeypatch.setitem(search.GRID, "dropout", (0.0, 0.3))
    monkeypatch.setitem(search.GRID, "per_device_train_batch_size", (8,))
    losses = iter([0.9, 0.4, 0.6, 0.8, float("nan"), 0.5])  # three epochs of two trainings
    evaluate = trainers.RecipeTrainer.evaluate
    monkeypatch.setattr(
        trainers.RecipeTrainer,
        "evaluate",
        lambda self, *args, **kwargs: evaluate(self, *args, **kwargs) | {"eval_calibrated_log_loss": next(losses)},
    )
    recipe = dataclasses.replace(RECIPE, epochs=3, patience=9)
    sets = {"train": noise(InputSpec(48, 48)), "validation": noise(InputSpec(48, 48), seed=1)}
    build = lambda changed: build_model("simple_cnn", LABELS, changed)[0]  # noqa: E731
    table = search.search_recipes(build, sets, recipe, tmp_path, search.Plan(trials=2))
    assert list(table["log_loss"]) == [0.4, 0.5]


@pytest.mark.parametrize(("kind", "end"), [("grid", KeyboardInterrupt), ("optuna", SystemExit)])
def test_an_interrupted_search_goes_on_after_its_last_whole_training(kind, end, tmp_path, monkeypatch):
    monkeypatch.setitem(search.GRID, "learning_rate", (1e-5, 1e-2))
    monkeypatch.setitem(search.GRID, "per_device_train_batch_size", (8,))
    sets, begun = {"train": noise(InputSpec(48, 48)), "validation": noise(InputSpec(48, 48), seed=1)}, []
    evaluate = trainers.RecipeTrainer.evaluate

    def note(self, *args, **kwargs):
        begun.append(self.args.learning_rate)
        if len(begun) == 3:
            raise end
        return evaluate(self, *args, **kwargs)

    monkeypatch.setattr(trainers.RecipeTrainer, "evaluate", note)
    build = lambda changed: build_model("simple_cnn", LABELS, changed)[0]  # noqa: E731
    with pytest.raises(end):
        search.search_recipes(build, sets, QUICK, tmp_path, search.Plan(kind, trials=4))
    table = search.search_recipes(build, sets, QUICK, tmp_path, search.Plan(kind, trials=4), resume=True)
    assert len(begun) == 5
    assert len(table.drop_duplicates(["learning_rate", "dropout"])) == len(table) == 4
    assert np.isfinite(table["log_loss"]).all()
    most = 9 if kind == "grid" else 4  # where a grid of 4 ends as well
    again = search.search_recipes(build, sets, QUICK, tmp_path, search.Plan(kind, trials=most), resume=True)
    assert (len(begun), again.equals(table)) == (5, True)
    anew = search.search_recipes(build, sets, QUICK, tmp_path, search.Plan(kind, trials=1))
    assert (len(begun), len(anew)) == (6, 1)


def test_a_training_that_diverged_stands_last_in_the_table(tmp_path, monkeypatch):
    monkeypatch.setitem(search.GRID, "learning_rate", (1e-3, 1e30))
    monkeypatch.setitem(search.GRID, "dropout", (0.0,))
    monkeypatch.setitem(search.GRID, "per_device_train_batch_size", (8,))
    sets = {"train": noise(InputSpec(48, 48)), "validation": noise(InputSpec(48, 48), seed=1)}
    build = lambda changed: build_model("simple_cnn", LABELS, changed)[0]  # noqa: E731
    table = search.search_recipes(build, sets, QUICK, tmp_path, search.Plan(trials=2))
    assert list(table["learning_rate"]) == [1e-3, 1e30]
    assert list(np.isnan(table["log_loss"])) == [False, True]


def test_a_search_in_which_all_diverges_says_so(tmp_path, monkeypatch):
    monkeypatch.setitem(search.GRID, "learning_rate", (1e30,))
    sets = {"train": noise(InputSpec(48, 48)), "validation": noise(InputSpec(48, 48), seed=1)}
    build = lambda changed: build_model("simple_cnn", LABELS, changed)[0]  # noqa: E731
    with pytest.raises(TaskError, match="Every training of the search has diverged"):
        search.search_recipes(build, sets, QUICK, tmp_path, search.Plan(trials=1))


def test_an_unknown_search_is_refused():
    with pytest.raises(TaskError, match="Valid: grid, optuna"):
        search.Plan("random")


def test_a_search_without_trials_is_refused():
    with pytest.raises(TaskError, match="trials is 0; a search needs at least 1"):
        search.Plan("grid", trials=0)
