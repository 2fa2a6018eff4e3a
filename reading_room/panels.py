"""The panels of the app: loaded when first asked for, then kept."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

from xray_models.tasks import Task, choose, load_tasks

if TYPE_CHECKING:
    from xray_models.panel import Panel

_log = logging.getLogger(__name__)


_importing = threading.Lock()


def import_panel() -> type[Panel]:
    """Imports `Panel`, by one thread at a time: `transformers` comes to several at once half made."""
    with _importing:
        from xray_models.panel import Panel  # torch takes seconds to import
    return Panel


class Panels:
    """Every task's panel, one load each however many ask at once.

    Args:
        engine: what runs the models, one of `engine.ENGINES`. A panel answers by torch until its engine is ready.
    """

    def __init__(self, engine: str = "torch") -> None:
        self.engine = engine
        self.start: str | None = None  # the task that the pages open with, where one was asked for
        self.tasks: dict[str, Task] = load_tasks()
        self._panels: dict[str, Panel] = {}
        self._page_is_up = threading.Event()
        self._locks = {name: threading.Lock() for name in self.tasks}

    def get(self, task: str) -> Panel:
        """Returns a task's panel, loading it if need be; raises `TaskError` for an unknown task."""
        choose("task", task, self.tasks)
        with self._locks[task]:
            if task not in self._panels:
                panel = self._panels[task] = import_panel().load(self.tasks[task])
                threading.Thread(target=self._speed_up, args=(panel,), daemon=True).start()
            return self._panels[task]

    def _speed_up(self, panel: Panel) -> None:
        if self.engine == "torch":
            return
        panel.choose_engines(self.engine)
        engines = ", ".join(f"{name}: {engine}" for name, engine in panel.engines.items())
        _log.info("task %s runs on %s", panel.task.name, engines)

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

    def available(self, task: str) -> list[str]:
        """Names of a task's models whose weights are on this machine (or are pinned on the Hub)."""
        refs = self.tasks[task].models
        return [ref.name for ref in refs if ref.path is None or (ref.path / "model.safetensors").is_file()]
