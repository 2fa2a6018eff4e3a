"""What the pages' events have in common: how they are wired, and how a text becomes a file in the browser."""

from __future__ import annotations

from typing import Any, NamedTuple

import gradio as gr

from reading_room.room import Room

QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
"""How the page's own events are wired: no spinner over what fills step by step, and no place in the API."""

FROM_LINK = "(...sent) => [...sent.slice(0, -1), sent.at(-1) || /[?&]mode=blinded(&|$)/.test(location.search)]"
"""Script of an event whose last input is the switch "Read blinded": a link with `mode=blinded` switches it on."""

READERS = 4  # who may wait for a panel at once; the fifth waits for a place
READING: dict[str, Any] = {
    **QUIET,
    "concurrency_id": "reading",
    "concurrency_limit": READERS,
    "trigger_mode": "multiple",
}
"""How events are wired that ask a panel: side by side, where gradio's own limit would let one reader at a time see an
image, and a slow heatmap hold up everybody. A panel may be asked from several threads: models only compute in it, and
what Captum hooks is a layer made for each map (`attribution._Head`). What a page asks for while it still waits for
something else is not dropped: it overtakes it (`turns`)."""


class Steps(NamedTuple):
    """What of the worklist is on the first page, so that a reader can go from case to case.

    Attributes:
        place: says which case it is.
        previous: opens the case before.
        following: opens the case after.
        key: of the list, kept by the browser. It and the timer are here, since a page that nobody looked at yet is
            not alive in the browser: after a reload there would be no list.
        timer: at every tick, the list is looked at.
    """

    place: gr.HTML
    previous: gr.Button
    following: gr.Button
    key: gr.BrowserState
    timer: gr.Timer


class Shared(NamedTuple):
    """What of the first page the other pages go by.

    Attributes:
        task: name of the task.
        blinded: whether the reader answers before the models do.
        steps: for the worklist.
        cards: of the models; clicked with the `key` of one, its card is wanted.
    """

    task: gr.Dropdown
    blinded: gr.Checkbox
    steps: Steps
    cards: gr.HTML


class Reopened(NamedTuple):
    """A flagged image that its reader opens in the viewer.

    Attributes:
        task: the flag's task.
        sha256: of its image; `room.cases.get(task, sha256)` has it.
        times: how often one was opened, so that opening one twice is a change as well.
    """

    task: str
    sha256: str
    times: int


def build_tasks(room: Room, task: str, **options: Any) -> gr.Dropdown:
    """A list of the room's tasks, by their titles."""
    return gr.Dropdown(room.panels.offer(), value=task, label="Task", filterable=False, **options)


_DOWNLOAD = """(text) => {
  if (!text) return;
  const link = document.createElement('a');
  link.href = URL.createObjectURL(new Blob([text], {type: 'TYPE'}));
  link.download = 'NAME';
  link.click();
  URL.revokeObjectURL(link.href);
}"""


def download_as(name: str, kind: str) -> str:
    """The script that saves the text it is given as a file, of this name and media type."""
    return _DOWNLOAD.replace("NAME", name).replace("TYPE", kind)
