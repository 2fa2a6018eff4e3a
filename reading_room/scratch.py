"""Folders for images that must not outlive the process that was given them: uploads, and the files of worklists."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from pathlib import Path

PREFIX = "second-read-"
_made: set[Path] = set()


def make_folder(purpose: str, within: str | None = None) -> Path:
    """Makes an empty folder that this user alone may open and that goes when the process ends.

    Args:
        purpose: a word for the folder's name, such as "list".
        within: where to make it; None for the system's folder for temporary files. What a killed process leaves there
            is removed by the `sweep` of a later one.
    """
    if within:
        Path(within).mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{purpose}-{os.getpid()}-", dir=within or None))
    _made.add(folder)
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def is_own(folder: Path) -> bool:
    """Whether this process made a folder, so that nobody else's files lie in it."""
    return folder in _made


def sweep() -> None:
    """Removes the folders of processes that are no more."""
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*-*-*"):
        pid = folder.name.removeprefix(PREFIX).split("-")[1]
        if pid.isdigit() and not _is_alive(int(pid)):
            shutil.rmtree(folder, ignore_errors=True)


def _is_alive(pid: int) -> bool:
    if os.name != "posix":  # elsewhere the question itself would end it
        return True
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # another user's
        return True
    return True
