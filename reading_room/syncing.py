"""The ledger's copy on the Hub: a private data set that gets every few minutes what is new. No gradio here.

`huggingface_hub.CommitScheduler` would do half of this. It never looks at what the Hub has: it fetches nothing, and a
restarted process would put an old file over a newer one. It sends whatever lies in the folder, and a file up to where
it ended just then, which may be in the middle of a row. It does not tell which rows a commit holds. And it asks the
Hub when it is made, so that a Hub that is away would keep the page from opening. So here a thread of our own commits
whole rows with the images that they name, laid out as in the ledger's folder:

    <process>/metadata.csv, <process>/<sha256>.png

One writer per file holds here, too: a file goes up from the process that writes it, or from any once that is gone.
"""

from __future__ import annotations

import html
import logging
import os
import re
import secrets
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from huggingface_hub import CommitOperationAdd, HfApi
from huggingface_hub.hf_api import RepoFile
from huggingface_hub.utils import disable_progress_bars, validate_repo_id

from reading_room.ledger_parts import ForeignFile, Part, is_listed, is_written, parse_part, put_file, read_whole
from reading_room.scratch import PREFIX
from xray_models.flags import Ledger, read_flags
from xray_models.hub_client import HashDiffers, HubError, Place, ask, connect

_log = logging.getLogger(__name__)
PERIOD = 270.0  # seconds between two rounds; with the time of an upload less than the minutes that the page promises
MINUTES = 5
PATIENCE = 10.0  # seconds that the page waits for the first round before it opens
FAREWELL = 20.0  # seconds that the last round has when the page closes
_AT_ONCE = 100  # images in one commit
_PART = re.compile(r"([\w.-]*\w[\w.-]*)/metadata\.csv")
_WHERE = re.compile(r'<span class="sr-where" data-row="([^"]*)">.*?</span>', re.DOTALL)
_DATA_SET: dict[str, Any] = {"repo_type": "dataset"}


class HubCopy:
    """A ledger's copy in a data set of the Hub, kept up by a thread of its own.

    Args:
        ledger: this process's.
        repo: `owner/name` of the data set; made, and private, where it is not there.
        api: the client; None for the one of `HF_ENDPOINT`.

    Attributes:
        reason: why the last round failed, or "".

    Raises:
        HubError: when `repo` cannot be a data set's name. The Hub is not asked before `begin` or `update`.
    """

    def __init__(self, ledger: Ledger, repo: str, api: HfApi | None = None):
        try:
            validate_repo_id(repo)
        except ValueError as error:
            raise HubError(f"{repo!r} cannot be the name of a data set: {error}") from error
        if "/" not in repo:
            raise HubError(f"{repo!r} names no owner; valid: owner/name, such as me/second-read-flags.")
        self.ledger, self.repo, self.api = ledger, repo, api or connect()
        self.reason = ""
        self._place = Place(repo)
        self._round = threading.Lock()
        self._stop, self._first = threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None
        self._met = False
        self._tree: dict[str, RepoFile] = {}  # what the Hub had when it was asked
        self._up: dict[str, int] = {}  # bytes of each part that the Hub has
        self._images: set[str] = set()  # paths of images that the Hub has
        self._rows: frozenset[str] = frozenset()  # ids of this process's rows that the Hub has

    # --- the thread ---

    def begin(self, patience: float = PATIENCE) -> None:
        """Starts the rounds; returns after the first one, which fetches, or after `patience` seconds."""
        disable_progress_bars()
        self._stop.clear()
        self._thread = threading.Thread(target=self._run, name="hub-copy", daemon=True)
        self._thread.start()
        self._first.wait(patience)

    def close(self, wait: float = FAREWELL) -> None:
        """Ends the rounds with a last one; returns after `wait` seconds at the latest."""
        self._stop.set()
        if self._thread is None:
            return
        self._thread.join(wait)
        if self._thread.is_alive() or self.reason:
            _log.warning(
                "some flags may not be on the Hub; they stay in the ledger's folder and go up at the next start"
            )

    def _run(self) -> None:
        self._attempt()
        self._first.set()
        while not self._stop.wait(PERIOD):
            self._attempt()
        self._attempt()

    def _attempt(self) -> None:
        """A round that does not raise; why it failed is logged when that is new."""
        try:
            self.update()
            reason = ""
        except HubError as error:
            reason = str(error)
        except Exception as error:  # noqa: BLE001 - the edge: the thread must outlive whatever a round meets
            reason = f"The copy on the Hub could not be brought up to date ({type(error).__name__})."
        if reason and reason != self.reason:
            _log.warning("flags stay on this machine for now: %s", reason)
        self.reason = reason

    # --- what the page says ---

    def render(self, row: str) -> str:
        """Where a row that is on this machine's disk is besides, as HTML for the end of its notice."""
        if row in self._rows:
            said = "on the Hub"
        elif self.reason:
            said = f"here, not on the Hub yet <small>{html.escape(self.reason)}</small>"
        else:
            said = f"here, on the Hub in ≤ {MINUTES} min"
        return f'<span class="sr-where" data-row="{html.escape(row)}"> · {said}</span>'

    def renew(self, notice: str) -> str:
        """A notice with what `render` says by now."""
        return _WHERE.sub(lambda found: self.render(html.unescape(found[1])), notice)

    def awaits(self, notice: str) -> bool:
        """Whether a notice is about a row that is not on the Hub yet."""
        found = _WHERE.search(notice)
        return found is not None and html.unescape(found[1]) not in self._rows

    # --- a round ---

    def update(self) -> None:
        """One round: fetches what the Hub has and this machine lacks, the first time; then sends what the Hub lacks.

        Raises:
            HubError: when the Hub refuses, or cannot be reached; nothing is lost.
            OSError: when the ledger cannot be read, or the disk refuses.
        """
        with self._round:
            if not self._met:
                self._fetch()
                self._met = True
            self._send()

    def _fetch(self) -> None:
        """Brings both sides together; may be repeated after it failed half-way."""
        ask(self.api, self._place, lambda: self.api.create_repo(self.repo, private=True, exist_ok=True, **_DATA_SET))
        info = ask(self.api, self._place, lambda: self.api.repo_info(self.repo, **_DATA_SET))
        if not info.private:
            raise HubError(f"{self.repo!r} is public, and flags are not. Make it private in its settings on the Hub.")
        self._place = Place(self.repo, info.sha)
        listed = ask(self.api, self._place, self._list)
        self._tree = {entry.path: entry for entry in listed if isinstance(entry, RepoFile)}
        self._images = {path for path in self._tree if path.endswith(".png")}
        self._up = {}
        for path in sorted(self._tree):
            if found := _PART.fullmatch(path):
                try:
                    self._meet(found[1])
                except ForeignFile as error:  # somebody put it there; it keeps no flag from the Hub
                    _log.warning("%s", error)

    def _list(self) -> list[Any]:
        return list(self.api.list_repo_tree(self.repo, recursive=True, revision=self._place.revision, **_DATA_SET))

    def _meet(self, name: str) -> None:
        """Compares a part with this machine's: the longer one counts, and where both have rows of their own, both do.

        Rows that only the Hub has then get a folder of their own here, from which they go up again.
        """
        path = self.ledger.root / name / "metadata.csv"
        here = read_whole(path)
        if is_listed(self._tree[f"{name}/metadata.csv"], here):
            self._up[name] = len(here)
            return
        if here and is_written(path):
            return  # a part of this machine whose process goes on with it
        with tempfile.TemporaryDirectory(prefix=f"{PREFIX}hub-{os.getpid()}-") as folder:  # as `scratch.sweep` knows it
            part = self._download(name, Path(folder))
            if part.data.startswith(here):
                self._install(part, Path(folder, name), path.parent)
            if part.data.startswith(here) or here.startswith(part.data):
                self._up[name] = len(part.data)
            elif (extra := part.without(set(read_flags(self.ledger.root)["flag_id"]))).rows:
                self._install(extra, Path(folder, name), path.parent.with_name(f"{name}-{secrets.token_hex(4)}"))

    def _download(self, name: str, folder: Path) -> Part:
        """Fetches a part and its images into a folder, and compares every file with what the Hub lists."""
        options = {"local_dir": folder, "allow_patterns": [f"{name}/*"], "revision": self._place.revision, **_DATA_SET}
        ask(self.api, self._place, lambda: self.api.snapshot_download(self.repo, **options))
        part = parse_part(read_whole(folder / name / "metadata.csv"), f"{name}/metadata.csv of {self.repo}")
        for path in (f"{name}/{file}" for file in ("metadata.csv", *part.images)):
            there = self._tree.get(path)
            if there and not ((folder / path).is_file() and is_listed(there, (folder / path).read_bytes())):
                raise HashDiffers(f"{path} of {self.repo} did not arrive as the Hub lists it. It is fetched again.")
        return part

    def _install(self, part: Part, source: Path, target: Path) -> None:
        """Puts a part that was fetched into the ledger: images first, so that no row is ever without."""
        for file in part.images:
            if not (source / file).is_file():
                _log.warning("%s lacks an image that its ledger names; the rows are kept", self.repo)
            elif not (target / file).exists():
                put_file(target / file, (source / file).read_bytes())
        put_file(target / "metadata.csv", part.data)

    def _send(self) -> None:
        """Commits the parts that grew, with the images that they name; one that is broken keeps no other back."""
        broken: list[HubError] = []
        parts = dict(self._find_grown(broken))
        paths = [f"{name}/{file}" for name, part in parts.items() for file in part.images]
        images = [path for path in paths if path not in self._images and (self.ledger.root / path).is_file()]
        while len(images) > _AT_ONCE:
            self._commit(images[:_AT_ONCE], {})
            images = images[_AT_ONCE:]
        if parts:
            self._commit(images, parts)
            self._up |= {name: len(part.data) for name, part in parts.items()}
            if own := parts.get(self.ledger.folder.name):
                self._rows = frozenset(own.ids)
            _log.info("the flags are in the data set %s", self.repo)
        if broken:
            raise broken[0]

    def _find_grown(self, broken: list[HubError]) -> Iterator[tuple[str, Part]]:
        """This process's part and those whose writers are gone, where they have rows that the Hub lacks."""
        for path in sorted(self.ledger.root.glob("*/metadata.csv")):
            name, up = path.parent.name, self._up.get(path.parent.name, 0)
            if path.stat().st_size <= up or (path.parent != self.ledger.folder and is_written(path)):
                continue
            try:
                if len(data := read_whole(path)) > up:
                    yield name, parse_part(data, f"{name}/metadata.csv")
            except HubError as error:
                broken.append(error)

    def _commit(self, images: list[str], parts: dict[str, Part]) -> None:
        def commit() -> None:
            additions = [CommitOperationAdd(path, self.ledger.root / path) for path in images]
            additions += [CommitOperationAdd(f"{name}/metadata.csv", part.data) for name, part in parts.items()]
            self.api.create_commit(self.repo, additions, commit_message="Flags", **_DATA_SET)

        ask(self.api, Place(self.repo), commit)
        self._images |= set(images)
