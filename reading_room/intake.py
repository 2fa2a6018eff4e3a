"""Files in: an upload becomes a `Radiograph`; of its name, which may be a patient's, only a keyed hash stays."""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from pathlib import Path
from typing import NamedTuple

from reading_room.plates import count_bytes
from xray_models.file_names import hash_name
from xray_models.images import ImageError, Radiograph, read_image
from xray_models.readings import Reading

_log = logging.getLogger(__name__)


class IntakeError(ValueError):
    """A file or an image that cannot be used; the message is for the reader."""


class Case(NamedTuple):
    """An image that was read, with what the panel said about it.

    Attributes:
        image: the picture.
        name_hash: keyed hash of the file's name.
        reading: the panel's reading; None while it is under way.
    """

    image: Radiograph
    name_hash: str
    reading: Reading | None = None


def take_in(path: str | None) -> tuple[Radiograph, str]:
    """Reads an uploaded file.

    The file itself is left to `uploads`, which removes it after minutes: two readers who send
    the same picture at once share one file, so the first must not remove it under the second.

    Args:
        path: where gradio put the upload; None when nothing was chosen.

    Returns:
        The image, and the keyed hash of the file's name.

    Raises:
        IntakeError: when there is no file, or it is not an image that can be read.
    """
    if not path:
        raise IntakeError("No file was given. Choose a PNG, JPEG, TIFF, BMP, WebP or DICOM file.")
    file = Path(path)
    try:
        image = read_image(file)
    except (ImageError, OSError) as error:
        _log.info("refused an upload: %s", type(error).__name__)
        raise IntakeError(
            str(error) if isinstance(error, ImageError) else "The upload did not arrive. Try again."
        ) from error
    return image, hash_name(file.name)


class Cases:
    """The images read last, by task and sha256, so that a flag can name its image. Bounded in memory.

    Args:
        capacity: bytes of pixels kept at most; the image used longest ago goes first.
        most: cases kept at most.
    """

    def __init__(self, capacity: int = 512 * 2**20, most: int = 256):
        self.capacity, self.most = capacity, most
        self._size = 0  # bytes of pixels
        self._cases: OrderedDict[tuple[str, str], Case] = OrderedDict()
        self._lock = threading.Lock()

    def put(self, task: str, case: Case) -> None:
        """Keeps a case."""
        with self._lock:
            self._put(task, case)

    def offer(self, task: str, case: Case) -> None:
        """Keeps a case unless it is kept already: a case without a reading must not displace one with it."""
        with self._lock:
            if (task, case.image.sha256) not in self._cases:
                self._put(task, case)

    def get(self, task: str, sha256: str) -> Case:
        """Returns a case; raises `IntakeError` when it is not kept (any more)."""
        with self._lock:
            case = self._cases.get((task, sha256))
            if case is None:
                raise IntakeError("This image is not at hand any more. Read it again, then flag it.")
            self._cases.move_to_end((task, sha256))
            return case

    def _put(self, task: str, case: Case) -> None:
        before = self._cases.pop((task, case.image.sha256), None)
        self._cases[task, case.image.sha256] = case
        self._size += count_bytes(case.image) - (count_bytes(before.image) if before else 0)
        while len(self._cases) > 1 and (self._size > self.capacity or len(self._cases) > self.most):
            _, oldest = self._cases.popitem(last=False)
            self._size -= count_bytes(oldest.image)
