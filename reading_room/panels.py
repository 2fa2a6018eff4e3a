"""The panels of the app: loaded when first asked for, then kept while memory allows."""

from __future__ import annotations

import dataclasses
import logging
import os
import threading
from collections import OrderedDict
from pathlib import Path
from typing import TYPE_CHECKING

from xray_models.imports import HEAVY_IMPORTS
from xray_models.tasks import ModelRef, Task, TaskError, choose, load_tasks

if TYPE_CHECKING:
    from xray_models.panel import Panel

_log = logging.getLogger(__name__)


SHARE = 0.25  # of the machine's memory that loaded models may take

_importing = threading.Lock()


def import_panel() -> type[Panel]:
    """Imports `Panel`, by one thread at a time: `transformers` comes to several at once half made."""
    with _importing, HEAVY_IMPORTS:
        from xray_models.panel import Panel  # torch takes seconds to import
    return Panel


class Panels:
    """Every task's panel, one load each however many ask at once.

    Args:
        engine: what runs the models, one of `engine.ENGINES`. A panel answers by torch until its engine is ready.
        budget: bytes that the weights of all loaded panels may take; above it, those asked least recently are let go,
            never the last one. None for a share of this machine's memory.
    """

    def __init__(self, engine: str = "torch", budget: int | None = None) -> None:
        self.engine = engine
        self.budget = int(SHARE * _find_memory()) if budget is None else budget
        self.start: str | None = None  # the task that the pages open with, where one was asked for
        self.tasks: dict[str, Task] = load_tasks()
        self.added: set[tuple[str, str]] = set()  # task and model, of those that joined while the room is open
        self._panels: OrderedDict[str, Panel] = OrderedDict()  # the one asked last at the end
        self._page_is_up = threading.Event()
        self._choosing = threading.Lock()
        self._locks = {name: threading.Lock() for name in self.tasks}

    def get(self, task: str) -> Panel:
        """Returns a task's panel, loading it if need be; raises `TaskError` for an unknown task."""
        choose("task", task, self.tasks)
        with self._locks[task]:
            with self._choosing:
                panel = self._panels.get(task)
                if panel is not None:
                    self._panels.move_to_end(task)
                    return panel
            panel = import_panel().load(self.tasks[task])
            with self._choosing:
                self._panels[task] = panel
                self._make_room()
            threading.Thread(target=self._speed_up, args=(task, panel), daemon=True).start()
            return panel

    def _make_room(self) -> None:
        """Lets go of panels for which there is no memory; for who holds `_choosing`."""
        while len(self._panels) > 1 and sum(kept.memory for kept in self._panels.values()) > self.budget:
            name, _ = self._panels.popitem(last=False)
            _log.info("the models of task %s are let go; they are loaded again when asked for", name)

    def spare(self, task: str) -> int:
        """Bytes that a further model of a task may take beside the others, all of which are loaded for that."""
        return max(0, self.budget - self.get(task).memory)

    def add(self, task: str, ref: ModelRef) -> None:
        """Lets a model join a task's panel; raises `TaskError` where another has its name or its repository."""
        with self._locks[task]:
            for known in self.tasks[task].models:
                if ref.name == known.name or (ref.repo and ref.repo == known.repo):
                    where = known.repo or f"checkpoints/{known.checkpoint}"
                    raise TaskError(f"{ref.repo} cannot join: {known.name!r}, of {where}, is in the panel already.")
            self.added.add((task, ref.name))
            self._assemble(task, (*self.tasks[task].models, ref))
        self.warm(task)

    def remove(self, task: str, model: str) -> None:
        """Takes a model that has joined out of its panel; raises `TaskError` for any other."""
        own = [name for known, name in self.added if known == task]
        choose("model that has joined the panel", model, own)
        with self._locks[task]:
            self.added.discard((task, model))
            self._assemble(task, tuple(ref for ref in self.tasks[task].models if ref.name != model))
        self.warm(task)

    def _assemble(self, task: str, models: tuple[ModelRef, ...]) -> None:
        """From now on a task has these models; its panel is loaded anew."""
        with self._choosing:
            self.tasks[task] = dataclasses.replace(self.tasks[task], models=models)
            self._panels.pop(task, None)

    def _speed_up(self, task: str, panel: Panel) -> None:
        if self.engine == "torch":
            return
        panel.choose_engines(self.engine)
        engines = ", ".join(f"{name}: {engine}" for name, engine in panel.engines.items())
        _log.info("task %s runs on %s", panel.task.name, engines)
        with self._choosing:
            if self._panels.get(task) is panel:  # it may have been let go, or replaced, meanwhile
                self._make_room()  # an engine has weights of its own

    def warm(self, task: str) -> None:
        """Loads a panel in the background once the page is up, so that the first image does not wait for it."""

        def load() -> None:
            self._page_is_up.wait()
            self.get(task)

        threading.Thread(target=load, daemon=True).start()

    def begin(self) -> None:
        """Says that the page is up: what `warm` was asked for is loaded from now on."""
        self._page_is_up.set()

    def default(self) -> str:
        """The task that the pages open with: the one asked for, else the first of which a model is here."""
        if self.start is not None:
            return self.start
        ready = [name for name in self.tasks if self.available(name)]
        return ready[0] if ready else "phantom"

    def offer(self) -> list[tuple[str, str]]:
        """Title and name of every task, those of which no model is here after the others."""
        ready = sorted(self.tasks, key=lambda name: not self.available(name))
        return [(self.tasks[name].title, name) for name in ready]

    def available(self, task: str) -> list[str]:
        """Names of a task's models whose weights are on this machine; those of the Hub, once they are pulled."""
        return [ref.name for ref in self.tasks[task].models if _is_here(self.tasks[task], ref)]


def _is_here(task: Task, ref: ModelRef) -> bool:
    if ref.path is not None:
        return (ref.path / "model.safetensors").is_file()
    from xray_models.hub_cache import NotPulled, resolve  # the Hub's client, where a model needs it

    try:
        return bool(resolve(task, ref))
    except NotPulled:
        return False


def _find_memory() -> int:
    """Bytes of this machine's memory, or of the container's where that is less."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        limit = Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii").strip()
    except OSError:
        return total
    return min(total, int(limit)) if limit.isdigit() else total
