"""Reading first: what a reader said of an image before the panel spoke, and the lock on it."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Collection
from typing import NamedTuple

from xray_models.tasks import choose

CAPACITY = 20_000  # commitments kept; the oldest goes first


class SealedError(ValueError):
    """Opinions that must not be shown yet, or a commitment that cannot be made; the message is for the reader."""


class Commitment(NamedTuple):
    """A reader's own reading of an image, given before any opinion was shown.

    Attributes:
        label: the reader's label.
        confidence: the reader's, in [0, 1].
    """

    label: str
    confidence: float


class Commitments:
    """Commitments by reader, task and image. A commitment is never changed, so nobody commits in hindsight.

    Nor does anybody who has seen the opinions: what a reader was shown openly is kept here, too.

    A reader is known as `readers.name_reader` says: by the log-in, else the browser, else the client's session.
    """

    def __init__(self, capacity: int = CAPACITY):
        self.capacity = capacity
        self._kept: OrderedDict[tuple[str, str, str], Commitment] = OrderedDict()
        self._seen: OrderedDict[tuple[str, str, str], None] = OrderedDict()
        self._lock = threading.Lock()

    def lock(self, who: str, task: str, sha256: str, commitment: Commitment, labels: Collection[str]) -> None:
        """Keeps a commitment.

        Args:
            who: the reader.
            task: name of the task.
            sha256: the image.
            commitment: the reader's label and confidence.
            labels: the task's labels.

        Raises:
            SealedError: without a label, with a confidence outside [0, 1], when one is locked already, or when the
                reader has seen the opinions.
            TaskError: for a label that is not the task's.
        """
        label, confidence = commitment
        if not label:
            raise SealedError("Choose your own label first; then it is locked and the panel is asked.")
        choose("label", label, labels)
        if not isinstance(confidence, int | float) or not 0 <= confidence <= 1:
            raise SealedError(f"The confidence is {confidence!r}; it must be in [0, 1].")
        with self._lock:
            key = (who, task, sha256)
            if key in self._seen and key not in self._kept:  # on another page
                raise SealedError(
                    "You have seen the models’ opinions of this image meanwhile, so no reading of it can be locked. "
                    "Open it again to read it openly."
                )
            locked = self._kept.setdefault(key, commitment)
            if locked != commitment:
                raise SealedError(f"Your reading of this image is locked as {locked.label}; it cannot be changed.")
            while len(self._kept) > self.capacity:
                self._kept.popitem(last=False)

    def note_seen(self, who: str, task: str, sha256: str) -> None:
        """Remembers that a reader was shown the opinions of an image without having committed to a label."""
        with self._lock:
            self._seen[who, task, sha256] = None
            while len(self._seen) > self.capacity:
                self._seen.popitem(last=False)

    def has_seen(self, who: str, task: str, sha256: str) -> bool:
        """Whether a reader was shown the opinions of an image before: then nothing of it can be read blinded."""
        with self._lock:
            return (who, task, sha256) in self._seen

    def knows(self, who: str, task: str, sha256: str) -> bool:
        """Whether a reader was shown the opinions of an image, openly or after committing to a label."""
        return self.has_seen(who, task, sha256) or self.get(who, task, sha256) is not None

    def get(self, who: str, task: str, sha256: str) -> Commitment | None:
        """The reader's commitment, or None."""
        with self._lock:
            return self._kept.get((who, task, sha256))

    def require(self, who: str, task: str, sha256: str) -> Commitment:
        """The reader's commitment; raises `SealedError` where there is none."""
        commitment = self.get(who, task, sha256)
        if commitment is None:
            raise SealedError("This image is read blinded: lock your own label and confidence first.")
        return commitment
