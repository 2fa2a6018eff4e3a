"""What a file says of itself before its pixels: size, format, coding. Nothing is decoded.

Used to ask whether the file tells the label, and how large pictures are. Only the kinds of metadata are named, never
their content.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pydicom
from PIL import Image

from xray_models.dicom import DAMAGE as DICOM_DAMAGE
from xray_models.images import ImageError, TruncatedImage
from xray_models.pictures import DAMAGE

_FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "WEBP")
_KINDS = ("comment", "dpi", "exif", "icc_profile", "jfif", "progressive")  # of metadata; some say which program wrote


class Header(NamedTuple):
    """The header of an image file.

    Attributes:
        size: of the file, in bytes.
        height: of the picture as stored, in pixels.
        width: of the picture as stored, in pixels.
        format: "PNG", "JPEG", "TIFF", "BMP", "WEBP" or "DICOM".
        mode: Pillow's mode ("L", "RGB", …), or DICOM's photometric interpretation.
        coarseness: mean of the first JPEG quantisation table, at least 1; 0 where there is none.
        tables: name of all JPEG quantisation tables, or DICOM's transfer syntax; "" where there is neither.
        extras: kinds of metadata in the file, in order.
    """

    size: int
    height: int
    width: int
    format: str
    mode: str
    coarseness: float
    tables: str
    extras: str


def read_headers(paths: Iterable[str]) -> list[Header]:
    """Reads the headers of files, in their order.

    Raises:
        ImageError: when a file cannot be opened or has no valid header.
    """
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(read_header, paths))


def measure_side(paths: Iterable[str]) -> int | None:
    """The longer side of pictures in pixels, in the median; files without a valid header are left out.

    Returns:
        Whole pixels; None where no file has a header.
    """

    def measure(path: str) -> int | None:
        try:
            header = read_header(path)
        except ImageError:
            return None
        return max(header.height, header.width)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        sides = [side for side in pool.map(measure, paths) if side is not None]
    return round(float(np.median(sides))) if sides else None


def read_header(path: str | Path) -> Header:
    """Reads the header of a PNG, JPEG, TIFF, BMP, WebP or DICOM file.

    Raises:
        ImageError: when the file cannot be opened or has no valid header.
    """
    try:
        size = Path(path).stat().st_size
    except OSError as error:
        raise ImageError(
            f"The image file cannot be opened: {error.strerror}. Check the path and its permissions."
        ) from None
    try:
        image = Image.open(path, formats=_FORMATS)
    except DAMAGE:
        return _read_dicom(path, size)
    with image:
        tables: dict[int, list[int]] = getattr(image, "quantization", None) or {}
        return Header(
            size,
            image.height,
            image.width,
            str(image.format),
            image.mode,
            float(np.mean(tables[min(tables)])) if tables else 0.0,
            hashlib.sha256(repr(sorted(tables.items())).encode()).hexdigest()[:12] if tables else "",
            " ".join(kind for kind in _KINDS if kind in image.info),
        )


def _read_dicom(path: str | Path, size: int) -> Header:
    tags = ["Rows", "Columns", "PhotometricInterpretation"]
    try:
        data = pydicom.dcmread(path, stop_before_pixels=True, force=True, specific_tags=tags)
        syntax = getattr(data, "file_meta", {}).get("TransferSyntaxUID", "")
        return Header(size, int(data.Rows), int(data.Columns), "DICOM", data.PhotometricInterpretation, 0.0, syntax, "")
    except DICOM_DAMAGE:
        raise TruncatedImage(
            "The file has no header of a PNG, JPEG, TIFF, BMP, WebP or DICOM picture. Copy it again from its source."
        ) from None
