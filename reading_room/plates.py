"""The pixels' way to the browser: every bit of an image, fetched once, at an address that cannot be guessed."""

from __future__ import annotations

import gzip
import hashlib
import hmac
import secrets
import threading
from collections import OrderedDict

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from xray_models.images import Radiograph

CAPACITY = 512 * 2**20  # bytes of pixels that can be fetched; the image offered longest ago goes first
_SAMPLE = 2**16  # bytes from the middle that are packed first, to see whether it is worth it
_HEADERS = {"Cache-Control": "private, no-store", "X-Content-Type-Options": "nosniff"}


class Plates:
    """Images that a page was told of, by address. Nothing is written to the disk.

    The address is a keyed hash of the image: the same image keeps its address while the process lives, and only who
    was told it can fetch the pixels. Where there is a log-in, that is asked for as well.
    """

    def __init__(self, capacity: int = CAPACITY):
        self.capacity = capacity
        self._key = secrets.token_bytes(32)
        self._plates: OrderedDict[str, Radiograph] = OrderedDict()
        self._lock = threading.Lock()

    def offer(self, image: Radiograph) -> str:
        """Makes an image's pixels fetchable; returns the address, relative to the page."""
        name = self._name(image)
        with self._lock:
            self._plates[name] = image
            self._plates.move_to_end(name)
            while len(self._plates) > 1 and self._size() > self.capacity:
                self._plates.popitem(last=False)
        return f"pixels/{name}"

    def serve(self, request: Request) -> Response:
        """Answers with the values before the file's window where they are kept, else with the pixels.

        Row by row, low byte first where there are two; 401 or 404 where it must not.
        """
        if not _is_known(request):
            return PlainTextResponse("Log in first.", 401, _HEADERS)
        with self._lock:
            image = self._plates.get(request.path_params["name"])
        if image is None:
            return PlainTextResponse("This image is not at hand any more. Open it again.", 404, _HEADERS)
        values = image.pixels if image.stored is None else image.stored.values
        data = values.astype(values.dtype.newbyteorder("<"), copy=False).tobytes()
        headers = dict(_HEADERS)
        if "gzip" in request.headers.get("accept-encoding", "") and _shrinks(data):
            data = gzip.compress(data, compresslevel=1)
            headers["Content-Encoding"] = "gzip"
        return Response(data, media_type="application/octet-stream", headers=headers)

    def _name(self, image: Radiograph) -> str:
        """Files whose picture is the same may store other values beyond their windows, so these count as well."""
        told = hmac.new(self._key, image.sha256.encode(), hashlib.sha256)
        if image.stored is not None:
            told.update(image.stored.values.data)
        return told.hexdigest()

    def build_route(self) -> Route:
        """The route for the web server."""
        return Route("/pixels/{name}", self.serve, methods=["GET"])

    def _size(self) -> int:
        return sum(count_bytes(image) for image in self._plates.values())


def count_bytes(image: Radiograph) -> int:
    """What an image holds in memory."""
    return image.pixels.nbytes + (0 if image.stored is None else image.stored.values.nbytes)


def _shrinks(data: bytes) -> bool:
    """Whether packing makes much less of it: the noise of a real exposure does not pack, a border does."""
    middle = max(0, (len(data) - _SAMPLE) // 2)
    sample = data[middle : middle + _SAMPLE]
    return len(gzip.compress(sample, compresslevel=1)) < 0.7 * len(sample)


def _is_known(request: Request) -> bool:
    """Whether the request comes from someone who is logged in, where gradio's app asks for that."""
    app = request.app
    if getattr(app, "auth", None) is None:
        return True
    names = (f"access-token-{app.cookie_id}", f"access-token-unsecure-{app.cookie_id}")
    return any(app.tokens.get(request.cookies.get(name)) is not None for name in names)
