"""The pixels' way to the browser: every bit of an image, fetched once, at an address that cannot be guessed."""

from __future__ import annotations

import gzip
from collections.abc import Iterator

from starlette.requests import Request
from starlette.responses import Response

from reading_room.offers import HEADERS, Offers
from xray_models.images import Radiograph

CAPACITY = 512 * 2**20  # bytes of pixels that can be fetched; the image offered longest ago goes first
_SAMPLE = 2**16  # bytes from the middle that are packed first, to see whether it is worth it


class Plates(Offers[Radiograph]):
    """Images that a page was told of, by address."""

    folder = "pixels"
    gone = "This image is not at hand any more. Open it again."

    def __init__(self, capacity: int = CAPACITY):
        super().__init__(capacity)

    def count(self, thing: Radiograph) -> int:
        """What an image holds in memory."""
        return count_bytes(thing)

    def identify(self, thing: Radiograph) -> Iterator[bytes | memoryview]:
        """Files whose picture is the same may store other values beyond their windows, so these count as well."""
        yield thing.sha256.encode()
        if thing.stored is not None:
            yield thing.stored.values.data

    def answer(self, thing: Radiograph, request: Request) -> Response:
        """The values before the file's window where they are kept, else the pixels.

        Row by row, low byte first where there are two.
        """
        values = thing.pixels if thing.stored is None else thing.stored.values
        data = values.astype(values.dtype.newbyteorder("<"), copy=False).tobytes()
        headers = dict(HEADERS)
        if "gzip" in request.headers.get("accept-encoding", "") and _shrinks(data):
            data = gzip.compress(data, compresslevel=1)
            headers["Content-Encoding"] = "gzip"
        return Response(data, media_type="application/octet-stream", headers=headers)


def count_bytes(image: Radiograph) -> int:
    """What an image holds in memory."""
    return image.pixels.nbytes + (0 if image.stored is None else image.stored.values.nbytes)


def _shrinks(data: bytes) -> bool:
    """Whether packing makes much less of it: the noise of a real exposure does not pack, a border does."""
    middle = max(0, (len(data) - _SAMPLE) // 2)
    sample = data[middle : middle + _SAMPLE]
    return len(gzip.compress(sample, compresslevel=1)) < 0.7 * len(sample)
