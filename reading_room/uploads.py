"""Uploads go after minutes, and with the app.

Gradio has a task for that (`delete_cache`), which ends for good when an upload comes while it looks through them.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import gradio as gr

from reading_room.scratch import is_own

_log = logging.getLogger(__name__)
PAUSE, KEPT = 60.0, 300.0  # seconds: how often uploads are looked through, and the age at which they go


@contextlib.asynccontextmanager
async def forgetting(app: gr.Blocks) -> AsyncIterator[None]:
    """Removes old uploads while the app is served, and all of them at its end."""
    task = asyncio.create_task(_forget_now_and_then(app))
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        forget(app, 0.0)


def forget(app: gr.Blocks, age: float) -> None:
    """Removes the files that were sent to an app, or made for its page.

    Gradio keeps no account of some, such as an image that an assistant sent as a `data:` address: whatever lies in the
    folder for uploads goes, where that is this process's own.

    Args:
        app: the app, which knows its files.
        age: seconds since a file came; a younger one stays.
    """
    kept = {file for part in app.blocks.values() for file in getattr(part, "keep_in_cache", ())}
    for files in app.temp_file_sets:
        for file in files.copy() - kept:  # a copy is made at once; more may come meanwhile
            if _remove(Path(file), age):
                files.discard(file)
    for path in _walk_uploads():
        if str(path) not in kept:
            _remove(path, age)


def _remove(path: Path, age: float) -> bool:
    """Removes a file of that age; whether it is gone."""
    try:
        if time.time() - path.lstat().st_ctime < age:
            return False
        path.unlink(missing_ok=True)
    except FileNotFoundError:
        pass
    except OSError as error:
        _log.warning("an upload cannot be removed: %s", error.strerror)
        return False
    return True


def _walk_uploads() -> Iterator[Path]:
    folder = os.environ.get("GRADIO_TEMP_DIR")
    if folder and is_own(Path(folder)):
        for place, _, names in os.walk(folder):
            yield from (Path(place, name) for name in names)


async def _forget_now_and_then(app: gr.Blocks) -> None:
    while True:
        await asyncio.sleep(PAUSE)
        await asyncio.to_thread(forget, app, KEPT)
