"""The picture that every other module works on, and the errors of reading one from a file."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image, PngImagePlugin

SMALLEST_SIDE = 32  # pixels; a shorter side holds too little to judge
SLENDEREST = 3  # times the shorter side that the longer one may be; hardly a radiograph has more


class ImageError(ValueError):
    """An image that cannot be used. The message says what is wrong, what is valid and what to do."""


class UnsupportedImage(ImageError):
    """The content is not an image, or is one in a format that is not read here."""


class TruncatedImage(ImageError):
    """The file ends early, or its content is damaged."""


class UnopenedImage(ImageError):
    """The file could not be read, for now: it is not there, its permissions or disk refuse, or memory is short."""


class OversizedImage(ImageError):
    """The image has more pixels, or the file more bytes, than the limit."""


@dataclass(frozen=True, eq=False)
class Stored:
    """Grey values as a file stores them, before its window clips them: what a reader may window anew.

    Attributes:
        values: (H, W) uint16, read-only; the file's own values, shifted so that the lowest is 0.
        bits: How many the file stores of each.
        centre: Of the file's window, or of that from the lowest value to the highest where it has none, in these
            values (PS3.3, C.11.2.1.2.1, function LINEAR).
        width: Of the same window, at least 1.
        inverted: Whether low values are shown white.
        slope: `values * slope + intercept` are the modality's values; above 0.
        intercept: See `slope`.
    """

    values: np.ndarray
    bits: int
    centre: float
    width: float
    inverted: bool
    slope: float
    intercept: float


@dataclass(frozen=True, eq=False)
class Radiograph:
    """One grey picture as it is meant to be seen: low values are dark.

    Attributes:
        pixels: (H, W) uint8 or uint16, read-only.
        bits: 8 or 16, the depth of `pixels`.
        format: What the picture was read from: "PNG", "JPEG", "TIFF", "BMP", "WebP" or "DICOM".
        sha256: Hex digest of shape, depth and pixels. The same picture has the same digest in every format.
        warnings: What a reader should know about how the file was read, one sentence each.
        metadata: At most `modality`, `body_part`, `view`, `photometric_interpretation` (short codes) and
            `spacing_mm` (row, column). Empty unless the picture came from DICOM.
        stored: The values before their window, where a linear one shows them; else None. No part of `sha256`.
    """

    pixels: np.ndarray
    bits: int
    format: str
    sha256: str
    warnings: tuple[str, ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)
    stored: Stored | None = None


def from_pixels(
    pixels: np.ndarray,
    format: str = "PNG",
    warnings: Iterable[str] = (),
    metadata: Mapping[str, Any] | None = None,
    stored: Stored | None = None,
) -> Radiograph:
    """Make a radiograph of an array of grey values.

    Args:
        pixels: (H, W) uint8 or uint16, low = dark. It is copied.
        format: What the pixels were read from.
        warnings: Sentences to keep with the picture. A blank or tiny picture gets one more.
        metadata: The few DICOM values that are kept.
        stored: The values before the file's window, of the same shape.

    Raises:
        ImageError: The array has another shape or type, or no pixels.
    """
    if pixels.ndim != 2 or pixels.dtype.kind != "u" or pixels.dtype.itemsize > 2 or pixels.size == 0:
        raise ImageError(
            f"An array of shape {pixels.shape} and type {pixels.dtype} is not a radiograph. "
            "Give a (height, width) array of uint8 or uint16 with at least one pixel."
        )
    bits = 8 * pixels.dtype.itemsize
    own = np.array(pixels, dtype=f"uint{bits}", order="C")
    own.setflags(write=False)
    height, width = own.shape
    digest = hashlib.sha256(f"{height}x{width}x{bits}:".encode())
    digest.update(own.astype(f"<u{bits // 8}", copy=False).data)
    notes = list(warnings)
    if own.min() == own.max():
        notes.append("The picture is blank: all pixels have the same value.")
    if min(height, width) < SMALLEST_SIDE:
        notes.append(f"The picture is tiny: {width} × {height} pixels.")
    if max(height, width) > SLENDEREST * min(height, width):
        notes.append(f"The picture is a strip of {width} × {height} pixels: models see it squeezed, or a part of it.")
    return Radiograph(own, bits, format, digest.hexdigest(), tuple(notes), dict(metadata or {}), stored)


def check_size(rows: int, columns: int, max_pixels: int) -> None:
    """Refuse a picture by the size in its header, before anything is decoded.

    Raises:
        OversizedImage: `rows` times `columns` is above `max_pixels`.
        TruncatedImage: A side is zero.
    """
    if rows < 1 or columns < 1:
        raise TruncatedImage(
            f"The image says that it is {columns} × {rows} pixels. Both must be at least 1. Export it again."
        )
    if rows * columns > max_pixels:
        raise OversizedImage(
            f"The image has {rows * columns:,} pixels. At most {max_pixels:,} are read. "
            "Export it at a lower resolution."
        )


def convert_to_luma(colour: np.ndarray) -> np.ndarray:
    """Weigh red, green and blue into grey (ITU-R BT.601-7, section 2.5.1), in Pillow's integer arithmetic.

    Args:
        colour: (H, W, 3) uint8 or uint16.

    Returns:
        (H, W) of the same type. A grey pixel keeps its value exactly.
    """
    red, green, blue = (colour[..., channel].astype(np.uint32) for channel in range(3))
    return ((red * 19595 + green * 38470 + blue * 7471 + 32768) >> 16).astype(colour.dtype)


def encode_png(radiograph: Radiograph) -> bytes:
    """Write the pixels, and nothing else, as a lossless grey PNG of 8 or 16 bits.

    Reading it gives the same `sha256`. A 16-bit PNG says in its sBIT chunk that all bits are in use, so
    that a dark picture is not taken for one of fewer bits.
    """
    chunks = PngImagePlugin.PngInfo()
    if radiograph.bits == 16:
        chunks.add(b"sBIT", b"\x10")
    file = BytesIO()
    Image.fromarray(radiograph.pixels).save(file, "PNG", pnginfo=chunks)
    return file.getvalue()


def to_display(radiograph: Radiograph, longest: int | None = None) -> np.ndarray:
    """Make the picture for the screen.

    Args:
        radiograph: The picture.
        longest: The most pixels that a side may have; a larger picture is made smaller, antialiased.

    Returns:
        (h, w) uint8. 16 bits are scaled to 8 by rounding value / 257.
    """
    pixels = radiograph.pixels
    if radiograph.bits == 16:
        pixels = ((np.arange(65536) + 128) // 257).astype(np.uint8)[pixels]
    if longest is None or max(pixels.shape) <= longest:
        return pixels
    height, width = (max(1, round(side * longest / max(pixels.shape))) for side in pixels.shape)
    return np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.LANCZOS))
