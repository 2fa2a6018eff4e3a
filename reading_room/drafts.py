"""What a page had in front of it when its tab was reloaded, to be opened again. `drafts.js` keeps it meanwhile."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import NamedTuple

from reading_room.room import Room
from xray_models.flag_record import read_regions
from xray_models.tasks import Task

TAKE = "() => globalThis.secondReadDraft()"
"""Script that gives what the tab has kept; "" for nothing."""


class Draft(NamedTuple):
    """An image that was shown, and what the reader had said of it, but not saved.

    Attributes:
        task: name of its task.
        sha256: the image's.
        label: of the flag form; None where none was chosen.
        comment: as it was typed.
        boxes: drawn on the image, as a flag takes them.
    """

    task: str
    sha256: str
    label: str | None
    comment: str
    boxes: list[dict[str, float]]


def read_draft(text: str, tasks: Mapping[str, Task]) -> Draft | None:
    """Reads what a tab has kept; None for nothing, or for what this program did not write."""
    try:
        kept = json.loads(text)
        task, sha256, label, comment = (kept[name] for name in ("task", "sha256", "label", "comment"))
        labels = tasks[task].labels
    except (ValueError, LookupError, TypeError):
        return None
    if not isinstance(sha256, str) or not isinstance(comment, str) or not isinstance(label, int):
        return None
    boxes = read_regions(json.dumps(kept.get("boxes")))
    return Draft(task, sha256, labels[label] if 0 <= label < len(labels) else None, comment, boxes)


def find_draft(room: Room, text: str, who: str) -> Draft | None:
    """What a tab has kept, if `who` was shown that image: somebody else may have logged in meanwhile."""
    draft = read_draft(text, room.panels.tasks)
    return draft if draft and room.commitments.knows(who, draft.task, draft.sha256) else None
