"""From an image file to a model's input, and from a model's heatmap back to the image.

Everything that opens an image file or prepares pixels for a model goes through this module, so that
training, evaluation and the browser see the same numbers.
"""

import os
from pathlib import Path
from typing import BinaryIO

from xray_models.dicom import is_dicom, read_dicom
from xray_models.inputs import InputSpec, from_input, normalise, to_input, to_uint8
from xray_models.pictures import read_picture
from xray_models.radiograph import (
    ImageError,
    OversizedImage,
    Radiograph,
    Stored,
    TruncatedImage,
    UnopenedImage,
    UnsupportedImage,
    encode_png,
    from_pixels,
    to_display,
)

__all__ = [
    "ImageError",
    "InputSpec",
    "OversizedImage",
    "Radiograph",
    "Stored",
    "TruncatedImage",
    "UnopenedImage",
    "UnsupportedImage",
    "encode_png",
    "from_input",
    "from_pixels",
    "normalise",
    "read_image",
    "to_display",
    "to_input",
    "to_uint8",
]

MAX_BYTES = 512 * 2**20

SIGNATURES = {
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"\xff\xd8\xff": "JPEG",
    b"II*\x00": "TIFF",
    b"MM\x00*": "TIFF",
    b"II+\x00": "TIFF",
    b"MM\x00+": "TIFF",
    b"BM": "BMP",
}
REFUSED = {
    b"GIF8": "a GIF",
    b"%PDF": "a PDF",
    b"PK": "an archive",
    b"\x1f\x8b": "an archive",
    b"<": "an SVG, XML or HTML text",
    b"\x00\x00\x00\x0cjP": "a bare JPEG 2000 file",
    b"\xff\x4f\xff\x51": "a bare JPEG 2000 file",
}


def read_image(source: str | os.PathLike | bytes | BinaryIO, max_pixels: int = 40_000_000) -> Radiograph:
    """Read a PNG, JPEG, TIFF, BMP, WebP or DICOM file; its content decides which, not its name.

    Args:
        source: A path, the file's bytes, or an open binary file.
        max_pixels: The largest picture that is decoded, height times width.

    Raises:
        UnsupportedImage: The content is not an image in one of these formats.
        TruncatedImage: The file ends early or is damaged.
        OversizedImage: More than `max_pixels`, or a file above 512 MiB.
        UnopenedImage: The file cannot be opened, or there is not enough memory to decode it.
        ImageError: `source` is something else.
    """
    data = _read_bytes(source)
    format = _find_format(data)
    try:
        return read_dicom(data, max_pixels) if format == "DICOM" else read_picture(data, format, max_pixels)
    except MemoryError:
        raise UnopenedImage(
            "There is not enough free memory to decode the image. Close what else takes memory, and open it again."
        ) from None


def _read_bytes(source: str | os.PathLike | bytes | BinaryIO) -> bytes:
    if isinstance(source, bytes | bytearray | memoryview):
        data = bytes(source)
    elif isinstance(source, str | os.PathLike):
        try:
            with Path(source).open("rb") as file:
                data = file.read(MAX_BYTES + 1)
        except OSError as error:
            raise UnopenedImage(
                f"The image file cannot be opened: {error.strerror}. Check the path and its permissions."
            ) from None
    elif not hasattr(source, "read"):
        raise ImageError(
            f"A {type(source).__name__} is no image file. Give a path, bytes or an open binary file; "
            "`from_pixels` takes arrays."
        )
    else:
        data = source.read(MAX_BYTES + 1)
        if not isinstance(data, bytes):
            raise ImageError("The image file was opened as text. Open it in binary mode ('rb').")
    if len(data) > MAX_BYTES:
        raise OversizedImage(
            f"The file has more than {MAX_BYTES // 2**20} MiB. Export one picture at a lower resolution."
        )
    return data


def _find_format(data: bytes) -> str:
    """The format by the first bytes. DICOM comes first: its preamble may hold a TIFF header."""
    if is_dicom(data):
        return "DICOM"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WebP"
    for signature, format in SIGNATURES.items():
        if data.startswith(signature):
            return format
    names = (name for signature, name in REFUSED.items() if data.startswith(signature))
    name = next(names, "not an image of a known format") if data else "empty"
    raise UnsupportedImage(
        f"The file is {name}. PNG, JPEG, TIFF, BMP, WebP and DICOM are read. Export it as one of them."
    )
