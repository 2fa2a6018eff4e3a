"""How far an interrupted training came: the Trainer's own checkpoints, below the model's folder until it is done."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from xray_models.tasks import TaskError

PROGRESS = ".training"  # folder of the Trainer's checkpoints, below the model's; removed at the end
HEAD, WHOLE = "head", "all"  # folders in it, of a training's stages
TRIALS = "trials.db"  # file in it: what came of each training of a search
_RECIPE = "recipe.json"


def last_progress(folder: Path) -> str | None:
    """Returns the newest whole checkpoint of an interrupted training, or None.

    The Trainer writes `trainer_state.json` last; a folder in which it cannot be read was cut off.
    """
    found = sorted(folder.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    for checkpoint in reversed(found):
        try:
            json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            shutil.rmtree(checkpoint, ignore_errors=True)  # of several processes, each comes here
            continue
        return str(checkpoint)
    return None


def check_kind(folder: Path, search: bool) -> None:
    """Refuses to go on with a training as a search, or with a search as a training: its end would remove the other.

    What lies there is told by its files, since not every version of the program noted it in the recipe.

    Args:
        folder: of the progress, below the model's.
        search: whether a search is to go on; else a training.

    Raises:
        TaskError: when the other kind was interrupted there.
    """
    kind, other = ("training", "search") if search else ("search", "training")
    stages = [folder / stage for stage in (HEAD, WHOLE) if any(folder.glob(f"{stage}/checkpoint-*"))]
    found = stages if search else [path for path in [folder / TRIALS] if path.is_file()]
    if found:
        tried = _read_recipe(folder).get("search", "grid or --search optuna, whichever it was")
        raise TaskError(
            f"What was interrupted in {folder.parent} is a {kind}, kept as {found[-1].relative_to(folder.parent)}, "
            f"and no {other}. To go on with it, {'leave --search out' if search else f'add --search {tried}'}. For a "
            f"{other}, name another --out; or leave --resume out, which removes the {kind}."
        )


def _read_recipe(folder: Path) -> dict[str, Any]:
    """What an interrupted training or search was made by; empty where that is not known."""
    try:
        known = json.loads((folder / _RECIPE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}


def open_progress(folder: Path, recipe: Mapping[str, Any], resume: bool) -> None:
    """Makes the folder ready: empty for a new training, and as it is for one that goes on by the same recipe.

    Args:
        folder: of the Trainer's checkpoints; the recipe is kept in it.
        recipe: what makes this training another one than the last, as JSON holds it.
        resume: whether to go on.

    Raises:
        TaskError: when the interrupted training had another recipe.
    """
    if resume:
        known = _read_recipe(folder)
        differing = [
            f"{key} {known[key]!r} then, {value!r} now"
            for key, value in recipe.items()
            if key in known and known[key] != value
        ]
        if differing:
            raise TaskError(
                f"The interrupted training in {folder.parent} had another recipe: {'; '.join(differing)}. Give the "
                "options that it had, or leave --resume out, which starts anew and removes what it had learned."
            )
    if int(os.environ.get("RANK", 0)) != 0:
        return  # of several processes, the first one writes
    if not resume:
        shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / _RECIPE).write_text(json.dumps(recipe), encoding="utf-8")


def close_progress(folder: Path) -> None:
    """Removes a training's progress, now that it is done; what it wrote for TensorBoard goes to `runs`, beside it.

    Args:
        folder: of the progress, below the model's.
    """
    for logs in sorted(folder.rglob("runs")):
        stage = logs.parent.relative_to(folder)
        kept = folder.parent / "runs" / stage
        shutil.copytree(logs, kept, dirs_exist_ok=True)
    shutil.rmtree(folder, ignore_errors=True)
