"""Opinions that were formed before, kept on this machine: the same picture and the same model are not asked again.

One SQLite file below `arrays.cache_folder()`. It names pictures by the hash of their pixels and models by the hash of
all that their answers depend on; it holds no file name. Several processes may use it at a time.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.metadata
import json
import logging
import sqlite3
from collections.abc import Callable, Iterable
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, TypeVar

import numpy as np
import timm
import torch
import transformers

from xray_models import __version__
from xray_models.arrays import cache_folder
from xray_models.checkpoints import Checkpoint, list_labels
from xray_models.readings import Opinion
from xray_models.tasks import TaskError

_log = logging.getLogger(__name__)
_T = TypeVar("_T")
_SCHEMA = 2  # of the file; raise it when the table, or what a row means, changes
_DAMAGE = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_PATIENCE = 60.0  # seconds to wait while another process writes
_CHUNK = 500  # pictures asked for at once; SQLite takes 999 arguments everywhere
_ELSEWHERE = ("_name_or_path", "sources", "second_read", "transformers_version")  # of a config; no answer needs them
_CREATE = "CREATE TABLE opinions (model TEXT, image TEXT, answer TEXT, PRIMARY KEY (model, image))"


class CacheError(TaskError):
    """The cache of opinions cannot be used; the message says what to do."""


class Voice(NamedTuple):
    """A model as the cache knows it.

    Attributes:
        model: its name in the panel.
        revision: which weights speak.
        key: from `model_key`.
        labels: in the order of its probabilities.
    """

    model: str
    revision: str
    key: str
    labels: tuple[str, ...]


def know_voice(checkpoint: Checkpoint, engine: str = "torch") -> Voice:
    """Hashes a loaded model and the name of what runs it; takes about a second for 500 MB of weights."""
    labels = tuple(list_labels(checkpoint.model))
    return Voice(checkpoint.name, checkpoint.revision, model_key(checkpoint, engine), labels)


def model_key(checkpoint: Checkpoint, engine: str = "torch") -> str:
    """A hash of all that a model's answers depend on.

    These are its labels, architecture and weights (of a fusion, its members' too), its preprocessing, conformal
    threshold and out-of-distribution reference, what runs it on which kind of device, and the versions of the programs
    that compute. Its name, folder and revision do not count: the same model under another name has the same key.

    Args:
        checkpoint: the model, loaded.
        engine: what runs it, as in `Panel.engines`.

    Returns:
        64 hexadecimal digits.
    """
    config = {key: value for key, value in checkpoint.model.config.to_dict().items() if key not in _ELSEWHERE}
    reference = checkpoint.reference
    versions = [__version__, torch.__version__, timm.__version__, transformers.__version__]
    if engine != "torch":
        versions.append(importlib.metadata.version(engine.split()[0]))
    facts = {
        "engine": engine,
        "versions": versions,
        "device": checkpoint.model.device.type,
        "labels": list_labels(checkpoint.model),
        "config": config,
        "input": dataclasses.asdict(checkpoint.spec),
        "conformal": checkpoint.conformal,
        "distance": None if reference is None else reference.threshold,
    }
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode())
    for name, tensor in sorted(checkpoint.model.state_dict().items()):
        _add_array(digest, name, tensor.detach().cpu().numpy())
    if reference is not None:
        _add_array(digest, "reference", reference.embeddings)
    return digest.hexdigest()


def _add_array(digest: Any, name: str, array: np.ndarray) -> None:
    digest.update(f"{name} {array.dtype.str} {array.shape}".encode())
    digest.update(np.ascontiguousarray(array))


class OpinionCache:
    """The file, open within a `with` block; a damaged one is set aside, with a warning, and a new one begun.

    Args:
        folder: where the file lies; None for the cache folder of this package.

    Raises:
        CacheError: on entry and in every method, when the file cannot be opened, read or written.
    """

    def __init__(self, folder: Path | None = None):
        self.path = (folder or cache_folder()) / "opinions.sqlite"
        self._connection: sqlite3.Connection | None = None

    def __enter__(self) -> OpinionCache:
        self._run(lambda connection: None)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def find(self, voice: Voice, images: Iterable[str]) -> dict[str, Opinion]:
        """What a model said before.

        Args:
            voice: the model.
            images: hashes of pixels, `Radiograph.sha256`.

        Returns:
            Image to opinion, without milliseconds, for those images on which the model answered.
        """
        remaining = iter(set(images))
        found: dict[str, Opinion] = {}
        while chunk := list(islice(remaining, _CHUNK)):
            marks = ", ".join("?" * len(chunk))
            query = f"SELECT image, answer FROM opinions WHERE model = ? AND image IN ({marks})"  # only question marks
            rows = self._run(lambda c, q=query, a=(voice.key, *chunk): c.execute(q, a).fetchall())  # type: ignore[misc]
            found |= {image: _unpack(voice, answer) for image, answer in rows}
        return found

    def store(self, answers: Iterable[tuple[Voice, str, Opinion]]) -> None:
        """Keeps opinions, all or none; one without probabilities is left out, so that its model is asked again.

        Args:
            answers: the model, the image's hash, and what the model said.
        """
        rows = [(voice.key, image, _pack(said)) for voice, image, said in answers if said.probs is not None]
        self._run(lambda c: c.executemany("INSERT OR REPLACE INTO opinions VALUES (?, ?, ?)", rows))

    def _run(self, work: Callable[[sqlite3.Connection], _T]) -> _T:
        """Does one transaction, on a new file where the old one is damaged."""
        try:
            try:
                return self._commit(work)
            except sqlite3.DatabaseError as error:
                if error.sqlite_errorcode & 0xFF not in _DAMAGE:
                    raise
                self._set_aside(str(error))
                return self._commit(work)
        except (sqlite3.Error, OSError) as error:
            raise CacheError(
                f"The cache of opinions in {self.path.parent} cannot be used: {error}. Make room there, point "
                "XDG_CACHE_HOME to a folder that can be written, or go without the cache."
            ) from error

    def _commit(self, work: Callable[[sqlite3.Connection], _T]) -> _T:
        if self._connection is None:
            self._connection = self._open()
        with self._connection:
            return work(self._connection)

    def _open(self) -> sqlite3.Connection:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(self.path, timeout=_PATIENCE)
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = NORMAL")
            with connection:
                connection.execute("BEGIN IMMEDIATE")
                version = connection.execute("PRAGMA user_version").fetchone()[0]
                if version != _SCHEMA:
                    connection.execute("DROP TABLE IF EXISTS opinions")
                    connection.execute(_CREATE)
                    connection.execute(f"PRAGMA user_version = {_SCHEMA}")
        except sqlite3.Error:
            connection.close()
            raise
        return connection

    def _set_aside(self, reason: str) -> None:
        self._close()
        aside = self.path.with_name("opinions.damaged.sqlite")
        self.path.replace(aside)
        for ending in ("-wal", "-shm"):
            self.path.with_name(self.path.name + ending).unlink(missing_ok=True)
        _log.warning("%s is damaged (%s); it was set aside as %s, a new one is begun", self.path, reason, aside.name)

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _pack(said: Opinion) -> str:
    """Probabilities, prediction set and novelty; JSON keeps every digit of a float."""
    return json.dumps([list((said.probs or {}).values()), said.prediction_set, said.novelty])


def _unpack(voice: Voice, answer: str) -> Opinion:
    probs, chosen, novelty = json.loads(answer)
    return Opinion(
        model=voice.model,
        revision=voice.revision,
        label=voice.labels[int(np.argmax(probs))],
        probs=dict(zip(voice.labels, probs, strict=True)),
        prediction_set=None if chosen is None else tuple(chosen),
        novelty=novelty,
    )
