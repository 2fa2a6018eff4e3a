"""What an evaluation of these very models says that belongs beside a reading. No gradio here."""

from __future__ import annotations

import bisect
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from reading_room.models import read_metrics
from xray_models.map_words import MapNote, describe_maps
from xray_models.methods import TITLES
from xray_models.readings import Opinion
from xray_models.tasks import Task

_log = logging.getLogger(__name__)


class Standing(NamedTuple):
    """A task's evaluation, as far as a reading is shown beside it.

    Attributes:
        levels: the 0th to 100th percentile of the disagreement over the test images; empty where not known.
        maps: by model, what its heatmaps were found to be worth.
    """

    levels: Sequence[float] = ()
    maps: Mapping[str, MapNote] = {}

    def place(self, disagreement: float) -> int | None:
        """Per cent of the test images on which the panel is less split; None where not known."""
        return min(bisect.bisect_left(self.levels, disagreement), 100) if self.levels else None

    def note(self, model: str, method: str) -> MapNote | None:
        """What a model's maps by this method were found to be worth; None where nobody looked."""
        found = self.maps.get(model)
        return found if found and found.method == method else None


NOTHING = Standing()


def find_standing(task: Task, opinions: Sequence[Opinion], reports: Path) -> Standing:
    """Looks up what is known of the very models that gave these opinions.

    Args:
        task: the task.
        opinions: a panel's; figures of other weights, or of another panel, are not taken.
        reports: folder of evaluations of one's own, looked at before those that come with the models.
    """
    revisions = {opinion.model: opinion.revision for opinion in opinions if opinion.status == "ok"}
    for metrics in read_metrics(task, reports):
        if metrics.get("task") == task.name and metrics.get("split") == "test":
            try:
                found = _take(metrics, revisions)
            except (
                AttributeError,
                LookupError,
                TypeError,
                ValueError,
            ) as error:  # written by hand, or by another version
                _log.warning("metrics.json of task %s is passed over: %r", task.name, error)
                continue
            if found != NOTHING:
                return found
    return NOTHING


def _take(metrics: Mapping[str, Any], revisions: Mapping[str, str | None]) -> Standing:
    judged = {name: model.get("revision") for name, model in metrics["models"].items() if name != "consensus"}
    levels = metrics["worklist"].get("levels", ()) if judged == dict(revisions) else ()
    heatmaps = metrics.get("heatmaps")
    notes = describe_maps(heatmaps, TITLES[heatmaps["method"]]) if heatmaps and heatmaps["models"] else {}
    same = {name for name, revision in revisions.items() if judged.get(name) == revision}
    return Standing(levels, {name: note for name, note in notes.items() if name in same})
