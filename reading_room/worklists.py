"""All worklists of the app: begun, found again by their key after a reload, and removed. No gradio here.

A list lives on this machine until it is cleared, replaced or left alone; its files lie in a folder of its own.
"""

from __future__ import annotations

import logging
import secrets
import shutil
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from reading_room.intake import Case, IntakeError
from reading_room.room import Room
from reading_room.scratch import make_folder, sweep
from reading_room.sources import Taken, take_files
from reading_room.watching import Watch
from reading_room.worklist import Worklist
from xray_models.images import ImageError, read_image
from xray_models.tasks import choose

_log = logging.getLogger(__name__)
KEEP = 3600.0  # seconds for which a list that nobody looks at is kept
_LISTS = 8  # lists kept at once; the one looked at longest ago goes first


class Worklists:
    """All lists of the app, by key; one is read at a time, the others wait.

    Args:
        room: whose panels read, and whose cases get what is opened.

    Attributes:
        watched: key of the list of the watched folder, or None. It is for everybody, and stays.
    """

    def __init__(self, room: Room):
        self._room = room
        self._lists: dict[str, Worklist] = {}
        self._lock, self._turn = threading.Lock(), threading.Lock()
        self.watched: str | None = None
        sweep()

    def start(self, paths: Sequence[str] | None, task: str, replaces: str | None = None) -> str:
        """Takes files over and begins to read them.

        Args:
            paths: the uploads.
            task: whose panel reads them.
            replaces: key of a list that goes when this one is taken over.

        Returns:
            The new list's key, which cannot be guessed.

        Raises:
            IntakeError: when the files cannot be taken; then nothing changes.
            TaskError: for an unknown task.
        """
        choose("task", task, self._room.panels.tasks)
        folder = make_folder("list")
        try:
            taken = take_files(paths or (), folder)
        except BaseException:
            shutil.rmtree(folder)
            raise
        self.drop(replaces)
        made, key = Worklist(task, taken, folder), secrets.token_urlsafe(16)
        with self._lock:
            self._lists[key] = made
            own = self._lists.keys() - {self.watched}
            old = sorted(own, key=lambda k: self._lists[k].seen)[:-_LISTS]
        for name in old:
            self.drop(name)
        for work in (self._read, self._expire):
            threading.Thread(target=work, args=(key, made), daemon=True).start()
        return key

    def watch(self, folder: Path, task: str) -> threading.Event:
        """Begins a list of what lies in a folder and of what is put there; it replaces none and is not dropped.

        Args:
            folder: the folder.
            task: whose panel reads it.

        Returns:
            What ends the watch when it is set.

        Raises:
            IntakeError: when it is not a folder.
            TaskError: for an unknown task.
        """
        choose("task", task, self._room.panels.tasks)
        made = Worklist(task, Taken([], 0), make_folder("list"))
        try:
            watch = Watch(folder, made)
        except IntakeError:
            shutil.rmtree(made.folder)
            raise
        stop, self.watched = threading.Event(), secrets.token_urlsafe(16)
        self._lists[self.watched] = made
        threading.Thread(target=self._watch, args=(watch, stop), daemon=True).start()
        return stop

    def get(self, key: str | None) -> Worklist | None:
        """The list of a key, or None where there is none (any more)."""
        with self._lock:
            found = self._lists.get(key or "")
            if found:
                found.seen = time.monotonic()
            return found

    def cancel(self, key: str | None) -> None:
        """Stops the reading of a list, but for the watched one."""
        found = self.get(key)
        if found and found.active and key != self.watched:
            found.cancel()

    def drop(self, key: str | None) -> None:
        """Stops a list and removes its files; the watched one stays, since others look at it."""
        with self._lock:
            found = self._lists.pop(key or "", None) if key != self.watched else None
        if found:
            found.cancel()
            shutil.rmtree(found.folder, ignore_errors=True)

    def open_case(self, key: str | None, number: int) -> tuple[str, str]:
        """Puts a file of a list into the room's cases, with its reading.

        Returns:
            Task and sha256 of the case.

        Raises:
            IntakeError: when the list or the file is gone.
        """
        found = self.get(key)
        row = next((row for row in found.rows if row.number == number), None) if found else None
        if found is None or row is None or not row.sha256:
            raise IntakeError("This list is not at hand any more. Send its files again.")
        source = found.sources[number - 1]
        try:
            image = read_image(source.path)
        except ImageError as error:
            raise IntakeError("The file is not at hand any more. Send it again.") from error
        self._room.cases.put(found.task, Case(image, source.name_hash, row.reading))
        return found.task, row.sha256

    def _read(self, _: str, made: Worklist) -> None:
        with self._turn:
            made.fill(self._room.panels.get(made.task))
        _log.info("a list of %d files: %s", len(made.sources), made.state)

    def _watch(self, watch: Watch, stop: threading.Event) -> None:
        try:
            watch.run(lambda: self._room.panels.get(watch.made.task), stop)
        except Exception as error:  # noqa: BLE001 - the edge: the page must not say that it watches for ever
            kind = getattr(error, "strerror", None) or type(error).__name__  # its text may name a patient's file
            _log.error("the folder is watched no more (%s); start again to watch it", kind)
            watch.made.state = "stopped"

    def _expire(self, key: str, made: Worklist) -> None:
        while made.folder.exists() and (left := made.seen + KEEP - time.monotonic()) > 0:
            time.sleep(min(60.0, left))
        self.drop(key)
