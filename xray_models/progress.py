"""How far an interrupted training came: the Trainer's own checkpoints, below the model's folder until it is done."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

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
            shutil.rmtree(checkpoint)
            continue
        return str(checkpoint)
    return None
