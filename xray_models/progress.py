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


def open_progress(folder: Path, recipe: Mapping[str, Any], resume: bool) -> None:
    """Makes the folder ready: empty for a new training, and as it is for one that goes on by the same recipe.

    Args:
        folder: of the Trainer's checkpoints; the recipe is kept in it.
        recipe: what makes this training another one than the last, as JSON holds it.
        resume: whether to go on.

    Raises:
        TaskError: when the interrupted training had another recipe.
    """
    kept = folder / "recipe.json"
    if resume:
        try:
            known = json.loads(kept.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            known = {}
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
    kept.write_text(json.dumps(recipe), encoding="utf-8")


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
