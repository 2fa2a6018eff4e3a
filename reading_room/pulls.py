"""Models of the Hub that readers bring into a panel while the room is open. No gradio here."""

from __future__ import annotations

import dataclasses
from html import escape
from typing import TYPE_CHECKING, NamedTuple

from reading_room.panels import Panels, import_panel
from xray_models.tasks import CONSENSUS, ModelRef, Task, TaskError, choose

if TYPE_CHECKING:
    from xray_models.checkpoints import Checkpoint

_COPIES = 2  # of a model's weights: OpenVINO has its own
_GROWTH = 2 * _COPIES  # times what its file takes: weights in half precision become single


class Pulled(NamedTuple):
    """A model that joined a panel: where it lies on the Hub, and whether it says that it was calibrated."""

    ref: ModelRef
    calibrated: bool


def pull_into(panels: Panels, task: str, wanted: str) -> Pulled:
    """Pulls a model of the Hub into a task's panel, for as long as the room is open.

    It joins under its repository's name, once its files are whole, its labels are the task's, and it could be loaded.

    Args:
        panels: the room's.
        task: name of the task.
        wanted: `owner/name`, at the newest commit; or `owner/name@` and 40 hexadecimal digits.

    Raises:
        HubError: when the Hub does not give it, or is larger than the memory that the room has left for models.
        TaskError: when it is there already, is for other labels, or cannot answer.
    """
    from xray_models.hub_cache import pin_model, pull_model  # the Hub's client, which is imported where it is asked for
    from xray_models.hub_client import connect

    known = panels.tasks[choose("task", task, panels.tasks)]
    api = connect()
    ref = pin_model(api, wanted, {CONSENSUS, *(own.name for own in known.models)})
    same = next((own.name for own in known.models if own.repo == ref.repo), None)
    if same is not None:
        raise TaskError(f"{ref.repo} is in the panel already, as {same!r}. Take it out first, or leave it.")
    spare = panels.spare(task)
    pull_model(api, known, ref, spare // _GROWTH)
    _weigh(known, ref, spare // _COPIES)
    checkpoint = _try(panels, task, ref)
    panels.add(task, ref)
    info = getattr(checkpoint.model.config, "second_read", None) or {}
    return Pulled(ref, "temperature" in info)


def _weigh(task: Task, ref: ModelRef, limit: int) -> None:
    """Refuses, before it is loaded, a model that takes too much memory, or whose file does not hold all of it."""
    from xray_models.checkpoints import weigh_checkpoint  # torch, which takes seconds to import, is there by now
    from xray_models.hub_client import HubError

    try:
        size = weigh_checkpoint(task, ref)
    except (TaskError, ImportError) as error:  # the latter for a kind of model that needs a further package
        raise TaskError(f"{ref.repo} cannot answer here: {error}") from error
    if size > limit:
        raise HubError(
            f"{ref.repo} takes {size / 1e6:.0f} MB of memory; a further model here may take {limit / 1e6:.0f} MB. "
            "Take a smaller one."
        )


def _try(panels: Panels, task: str, ref: ModelRef) -> Checkpoint:
    alone = import_panel().load(dataclasses.replace(panels.tasks[task], models=(ref,)))
    (member,) = alone.members
    if ref.name not in alone.checkpoints:
        raise TaskError(f"{ref.repo} cannot answer here: {getattr(member, 'reason', '')}")
    return alone.checkpoints[ref.name]


NOT_HERE = (
    '<p class="sr-quiet">Started with --pull, the reading room lets readers pull models of the Hub into a panel here.'
    "</p>"
)
_UNCALIBRATED = "It does not say that it was calibrated: take its probabilities with care."


def render_pulling(wanted: str) -> str:
    """That a model is on its way."""
    return f'<p class="sr-quiet" role="status">Pulling {escape(wanted.strip())} …</p>'


def render_left(model: str) -> str:
    """That a model is in its panel no more."""
    return f'<p class="sr-quiet" role="status">{escape(model)} has left the panel.</p>'


def render_pulled(task: str, pulled: Pulled) -> str:
    """What the page says of a model that has joined: which commit, until when, and how to keep it."""
    ref = pulled.ref
    doubt = "" if pulled.calibrated else f"<p>{_UNCALIBRATED}</p>"
    line = f"{ref.name}: {{repo: {ref.repo}, revision: {ref.revision}}}"
    return (
        f'<div class="sr-saved" role="status"><p>{escape(str(ref.repo))} is in the panel, at commit '
        f"{escape(str(ref.revision)[:12])}, until the reading room is closed.</p>{doubt}"
        f"<p>To keep it, write under models: in hub_configs/{escape(task)}.yaml:</p><code>{escape(line)}</code></div>"
    )
