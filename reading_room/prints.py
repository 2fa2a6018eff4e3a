"""The way to the browser of what pages show beside the image: its thumbnails, and the heatmaps."""

from __future__ import annotations

from collections.abc import Iterator

from starlette.requests import Request
from starlette.responses import Response

from reading_room.offers import HEADERS, Offers

CAPACITY = 64 * 2**20  # bytes of pictures that can be fetched: those of some hundred readings


class Prints(Offers[bytes]):
    """Pictures that a page was told of, by address, as PNG or JPEG."""

    folder = "prints"
    gone = "This heatmap is not at hand any more. Open the image again."

    def __init__(self, capacity: int = CAPACITY):
        super().__init__(capacity)

    def count(self, thing: bytes) -> int:
        """The length of a picture."""
        return len(thing)

    def identify(self, thing: bytes) -> Iterator[bytes]:
        """A picture is told by all of its bytes."""
        yield thing

    def answer(self, thing: bytes, request: Request) -> Response:
        """The picture as it is."""
        kind = "png" if thing.startswith(b"\x89PNG") else "jpeg"
        return Response(thing, media_type=f"image/{kind}", headers=HEADERS)
