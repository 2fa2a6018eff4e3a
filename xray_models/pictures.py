"""PNG, JPEG, TIFF, BMP and WebP files, read with Pillow into a grey picture of 8 or 16 bits."""

import logging
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO

import numpy as np
from PIL import Image, ImageCms, ImageOps, TiffImagePlugin

from xray_models.radiograph import (
    ImageError,
    OversizedImage,
    Radiograph,
    TruncatedImage,
    check_size,
    from_pixels,
)

# At the debug level Pillow logs the text tags of TIFF files, which may name a patient.
logging.getLogger("PIL").setLevel(logging.INFO)

# Pillow parses headers in plain Python without checks: a damaged one surfaces as any of these.
DAMAGE = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    LookupError,
    ArithmeticError,
    AttributeError,
    AssertionError,
    EOFError,
    RuntimeError,
    struct.error,
    zlib.error,
    ImageCms.PyCMSError,
)

BITS_PER_SAMPLE, PHOTOMETRIC, SAMPLE_FORMAT = 258, 262, 339  # TIFF 6.0, sections 8 and 19
WHITE_IS_ZERO, SIGNED = 0, 2


def read_picture(data: bytes, format: str, max_pixels: int) -> Radiograph:
    """Decode a file of a known format; of several frames, the first.

    Args:
        data: The whole file.
        format: "PNG", "JPEG", "TIFF", "BMP" or "WebP".
        max_pixels: The largest height times width that is decoded.

    Raises:
        OversizedImage: The header announces more than `max_pixels`.
        TruncatedImage: The file ends early, is damaged, or is a variant that Pillow does not read.
    """
    with _name_damage(format):
        if format == "PNG":
            Image.open(BytesIO(data), formats=["PNG"]).verify()  # the only reading that checks the CRCs
        image = Image.open(BytesIO(data), formats=[format])
        check_size(image.height, image.width, max_pixels)
        warnings = []
        if getattr(image, "is_animated", False):
            warnings.append("The file holds several pictures. The first is shown.")
        image.load()
        if _loses_depth(image, data):
            warnings.append("The 16-bit colours were reduced to 8 bits.")
        warnings += _turn_upright(image)
        pixels = _convert_to_grey(image, warnings)
        if pixels.dtype == np.uint16 and not _declares_depth(data, format):
            pixels = _stretch_depth(pixels, warnings)
        if pixels.dtype == np.uint16 and _is_negative(image):
            pixels = 65535 - pixels
    return from_pixels(pixels, format, warnings)


@contextmanager
def _name_damage(format: str) -> Iterator[None]:
    """Turn what Pillow raises into an `ImageError`."""
    try:
        yield
    except ImageError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise OversizedImage(
            "The image has more pixels than Pillow's limit against decompression bombs. "
            "Export it at a lower resolution."
        ) from None
    except DAMAGE:
        raise TruncatedImage(
            f"The {format} file ends early, is damaged, or is of a rare kind that cannot be read. "
            "Copy it again from its source, or export it as an 8 or 16 bit grey PNG."
        ) from None


def _loses_depth(image: Image.Image, data: bytes) -> bool:
    """Whether Pillow opened 16-bit samples in a mode of 8 bits."""
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        deep = max(image.tag_v2.get(BITS_PER_SAMPLE, (1,))) > 8
    else:
        deep = image.format == "PNG" and data[24] == 16  # bit depth in IHDR
    return deep and not image.mode.startswith(("I", "F"))


def _turn_upright(image: Image.Image) -> list[str]:
    """Apply the EXIF orientation in place; Pillow has already done so for TIFF."""
    try:
        ImageOps.exif_transpose(image, in_place=True)
    except DAMAGE:
        return ["The orientation in the EXIF data cannot be read. The picture may lie on its side."]
    return []


def _convert_to_grey(image: Image.Image, warnings: list[str]) -> np.ndarray:
    """(H, W) uint8, or uint16 for deep grey modes; transparent pixels become black."""
    if image.mode.startswith("I;16"):
        pixels = np.array(image, dtype=np.uint16)
        clear = image.info.get("transparency")
        if isinstance(clear, int):
            pixels[pixels == clear] = 0
        return pixels
    if image.mode == "L" and _read_tag(image, SAMPLE_FORMAT) == SIGNED:
        return _scale_to_range(np.asarray(image).view(np.int8).astype(np.float64), warnings)
    if image.mode in ("I", "F"):
        return _scale_to_range(np.asarray(image, dtype=np.float64), warnings)
    if image.mode == "LAB":
        lab, rgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        image = ImageCms.profileToProfile(image, lab, rgb, outputMode="RGB") or image
    if image.has_transparency_data:
        black = Image.new("RGBA", image.size, (0, 0, 0, 255))
        image = Image.alpha_composite(black, image.convert("RGBA"))
    if image.mode not in ("1", "L"):
        image = image.convert("RGB")
    return np.asarray(image.convert("L"))


def _is_negative(image: Image.Image) -> bool:
    """Whether a TIFF calls its lowest value white; Pillow inverts such pictures up to 8 bits, not above."""
    return _read_tag(image, PHOTOMETRIC) == WHITE_IS_ZERO


def _read_tag(image: Image.Image, tag: int) -> int | None:
    """A TIFF tag's value, the first of several; None where there is none."""
    value = image.tag_v2.get(tag) if isinstance(image, TiffImagePlugin.TiffImageFile) else None
    return value[0] if isinstance(value, tuple) else value


def _scale_to_range(values: np.ndarray, warnings: list[str]) -> np.ndarray:
    """Spread values without a known white over 16 bits, lowest to highest."""
    if not np.isfinite(values).all():
        raise TruncatedImage("The image holds pixels that are not finite numbers. Replace them and export it again.")
    warnings.append("The file does not say which value is white. The lowest was made black, the highest white.")
    low, high = values.min(), values.max()
    if low == high:
        return np.zeros(values.shape, np.uint16)
    return np.rint((values - low) * (65535 / (high - low))).astype(np.uint16)


def _declares_depth(data: bytes, format: str) -> bool:
    """Whether a PNG has an sBIT chunk: its samples then fill the depth (PNG, third edition, 11.3.2.6)."""
    return format == "PNG" and b"sBIT" in data[: data.find(b"IDAT")]


def _stretch_depth(pixels: np.ndarray, warnings: list[str]) -> np.ndarray:
    """Spread, say, 12-bit values in a 16-bit file so that 4095 becomes white."""
    bits = int(pixels.max()).bit_length()
    if bits in (0, 16):
        return pixels
    warnings.append(f"The 16-bit file uses {bits} bits. They were spread over the whole range.")
    white = 2**bits - 1
    return ((pixels.astype(np.uint32) * 65535 + white // 2) // white).astype(np.uint16)
