"""A folder that is watched: what lies in it, and what is put there later, is read into one worklist. No gradio here."""

from __future__ import annotations

import logging
import os
import shutil
import stat
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from reading_room.intake import IntakeError
from reading_room.sources import BYTE_LIMIT, FILE_LIMIT, NoRoomError, Source, Taken, is_aside, take_files
from reading_room.worklist import Worklist
from xray_models.file_names import hash_name

if TYPE_CHECKING:
    from xray_models.panel import Panel

_log = logging.getLogger(__name__)
PAUSE = 2.0  # seconds between two looks at the folder; a file is taken when it has not changed between them


class _State(NamedTuple):
    """What tells that a file is still being written."""

    size: int
    changed: int


class Watch:
    """Looks at a folder and its subfolders again and again, and hands what is new to a worklist.

    A file that changes after it was taken is taken again, as another case. Files stay where they are and as they are.
    One that cannot be copied now is tried again at each look; one that is refused is a case that says why.

    Args:
        folder: the folder.
        made: the list that its files go to.

    Raises:
        IntakeError: when it is not a folder that can be read.
    """

    def __init__(self, folder: Path, made: Worklist):
        if not folder.is_dir():
            raise IntakeError(f"{folder} is not a folder. Make it, or watch another one.")
        self.folder, self.made = folder, made
        self._before: dict[Path, _State] = {}
        self._taken: dict[Path, _State] = {}
        self._waiting: set[Path] = set()  # what could not be copied yet
        self._count = self._size = 0
        self._full = self._hidden = False

    def run(self, find_panel: Callable[[], Panel], stop: threading.Event, pause: float = PAUSE) -> None:
        """Takes and reads what comes, until `stop` is set.

        Args:
            find_panel: gives what reads; it is asked for each time, since models join and leave.
            stop: ends this.
            pause: seconds between two looks.
        """
        while not stop.is_set():
            if self.look():
                self.made.fill(find_panel())
            self.made.state = "full" if self._full or len(self.made.sources) >= FILE_LIMIT else "watching"
            stop.wait(pause)

    def look(self) -> int:
        """Hands the files that are new and did not change since the last look to the list; returns how many cases."""
        now = dict(self._scan())
        settled = [path for path, state in now.items() if self._before.get(path) == state != self._taken.get(path)]
        self._before = now
        return sum(self._take(path, now[path]) for path in settled)

    def _take(self, path: Path, state: _State) -> int:
        """Hands a file, or what a zip holds, to the list; returns how many cases. One refused stops no other."""
        if not self._has_room(1, 0):
            return self._close()
        self._count += 1
        own = self.made.folder / str(self._count)
        try:
            own.mkdir()
            taken = take_files([path], own, link=False)
            if not self._has_room(len(taken.sources), taken.size):
                if taken.sources[0].archive is None:
                    shutil.rmtree(own, ignore_errors=True)
                    return self._close()
                raise IntakeError("The list has too little room left for this zip. Send it as a list of its own.")
        except (NoRoomError, OSError) as error:
            shutil.rmtree(own, ignore_errors=True)
            self._put_off(path, error)
            return 0
        except IntakeError as error:
            shutil.rmtree(own, ignore_errors=True)
            taken = Taken([Source(own, hash_name(path.name), problem=str(error))], 0)
        self._taken[path] = state
        self._waiting.discard(path)
        self._size += taken.size
        self.made.extend(taken)
        return len(taken.sources)

    def _has_room(self, count: int, size: int) -> bool:
        """Whether the list may have so many files and bytes more."""
        return not self._full and len(self.made.sources) + count <= FILE_LIMIT and self._size + size <= BYTE_LIMIT

    def _close(self) -> int:
        """Takes no more files, and says so once; returns how many cases that gives."""
        if not self._full:
            _log.warning("the watched list is full: %d files; start again for the others", len(self.made.sources))
        self._full = True
        return 0

    def _put_off(self, path: Path, error: NoRoomError | OSError) -> None:
        """Says once of a file that it is tried again; not its name, which an error of the system's may hold."""
        if path not in self._waiting:
            reason = error if isinstance(error, NoRoomError) else error.strerror or type(error).__name__
            _log.warning("a file of the watched folder cannot be taken yet, and is tried again: %s", reason)
        self._waiting.add(path)

    def _scan(self) -> Iterator[tuple[Path, _State]]:
        """Every file that is neither hidden nor a link, with its size and time, by name.

        What vanishes meanwhile, or is not for this program to read, is not there.
        """
        faults: list[OSError] = []
        looked = os.walk(self.folder, onerror=faults.append)
        for path in sorted(Path(folder, name) for folder, _, names in looked for name in names):
            if is_aside(str(path.relative_to(self.folder))):
                continue
            try:
                facts = path.lstat()
            except OSError:
                continue
            if stat.S_ISREG(facts.st_mode) and facts.st_size:
                yield path, _State(facts.st_size, facts.st_mtime_ns)
        if faults and not self._hidden:
            _log.warning("the watched folder, or one in it, cannot be looked into: %s", faults[0].strerror)
        self._hidden = bool(faults)
