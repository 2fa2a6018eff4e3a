import dataclasses
from pathlib import Path

import pytest

from reading_room import panels as panels_module
from reading_room.panels import Panels
from xray_models import hub_cache
from xray_models.panel import Panel
from xray_models.tasks import ModelRef, TaskError


@pytest.fixture
def loads(untrained, monkeypatch):
    """Three tasks with the same models; the list names each load as it happens."""
    tasks = {name: dataclasses.replace(untrained, name=name) for name in ("one", "two", "three")}
    monkeypatch.setattr(panels_module, "load_tasks", lambda: tasks)
    made, load = [], Panel.load
    monkeypatch.setattr(Panel, "load", lambda task, *rest: made.append(task.name) or load(task, *rest, device="cpu"))
    return made


def test_panels_within_the_budget_are_kept(loads):
    panels = Panels()
    for _ in range(2):
        assert [panels.get(name).task.name for name in ("one", "two", "three")] == ["one", "two", "three"]
    assert loads == ["one", "two", "three"]
    with pytest.raises(TaskError, match="four"):
        panels.get("four")


def test_the_panel_asked_least_recently_is_let_go(loads):
    size = Panels().get("one").memory
    loads.clear()
    panels = Panels(budget=int(2.5 * size))
    for name in ("one", "two", "one", "three"):
        panels.get(name)
    panels.get("one")
    assert loads == ["one", "two", "three"]  # `one` was asked again before there was no room, so `two` went
    panels.get("two")
    assert loads == ["one", "two", "three", "two"]


def test_a_panel_that_was_replaced_while_it_got_its_engines_does_not_come_back(loads, monkeypatch):
    panels = Panels()
    panel = panels.get("one")
    panels.engine, lock = "openvino", panels._choosing
    monkeypatch.setattr(panel, "choose_engines", lambda _: None)

    class Late:
        """The lock, had by a model that leaves the panel just before."""

        def __enter__(self):
            panels._choosing = lock
            panels._assemble("one", panels.tasks["one"].models[:1])
            lock.acquire()

        def __exit__(self, *_):
            lock.release()

    panels._choosing = Late()
    panels._speed_up("one", panel)
    panels.engine = "torch"
    assert list(panels.get("one").checkpoints) == ["simple_cnn"]


def test_a_panel_larger_than_the_budget_still_answers(loads):
    panels = Panels(budget=1)
    assert panels.get("one") is panels.get("one")
    assert loads == ["one"]


def test_memory_counts_the_weights(loads):
    panel = Panels().get("one")
    weights = [p for member in panel.checkpoints.values() for p in member.model.parameters()]
    least = 4 * sum(p.numel() for p in weights)
    assert least <= panel.memory < 1.1 * least  # batch norms' statistics on top
    panel.engines = dict.fromkeys(panel.engines, "openvino f32")
    assert panel.memory >= 2 * least


def test_the_default_budget_is_a_share_of_this_machines_memory():
    assert 2**28 < Panels().budget < 2**45


def test_a_model_of_the_hub_is_here_once_it_is_pulled(loads, monkeypatch):
    panels = Panels()
    ref = ModelRef("resnet18", repo="me/resnet", revision="a" * 40)
    panels.tasks["one"] = dataclasses.replace(panels.tasks["one"], models=(ref,))
    assert panels.available("one") == [] and panels.default() == "two"
    monkeypatch.setattr(hub_cache, "resolve", lambda task, ref: Path("somewhere"))
    assert panels.available("one") == ["resnet18"] and panels.default() == "one"


def test_tasks_of_which_no_model_is_here_are_offered_last(loads):
    panels = Panels()
    panels.tasks["one"] = dataclasses.replace(panels.tasks["one"], models=())
    assert [name for _, name in panels.offer()] == ["two", "three", "one"]
