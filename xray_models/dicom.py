"""DICOM files, read with pydicom into the picture that a workstation would show first."""

import logging
import math
import re
import struct
import warnings as python_warnings
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from typing import Any

import imagecodecs
import numpy as np
import pydicom
from pydicom import uid
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import get_frame
from pydicom.filereader import data_element_generator, read_dataset, read_preamble
from pydicom.multival import MultiValue
from pydicom.pixels import apply_color_lut, get_decoder

from xray_models.presentation import keep_stored, render_colour, render_grey
from xray_models.radiograph import (
    ImageError,
    OversizedImage,
    Radiograph,
    TruncatedImage,
    UnsupportedImage,
    check_size,
    from_pixels,
)

# pydicom quotes the values of faulty elements in its warnings and logs, and those may name a patient.
pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE
python_warnings.filterwarnings("ignore", module=r"(pydicom|pylibjpeg|openjpeg)\b")
for _name in ("pydicom", "pylibjpeg", "openjpeg"):
    logging.getLogger(_name).setLevel(logging.CRITICAL + 1)

# pydicom converts values on access and decodes with plain Python and plugins: a damaged file surfaces as
# any of these (LookupError: missing keys; ArithmeticError: absurd lengths; RuntimeError: a plugin failed).
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
    pydicom.errors.InvalidDicomError,
    pydicom.errors.BytesLengthException,
)

# Transfer syntax -> the pydicom plugin that decodes it. No deflated files: bytes may inflate to gigabytes.
PLUGINS: dict[str, str] = {
    uid.ImplicitVRLittleEndian: "",
    uid.ExplicitVRLittleEndian: "",
    uid.ExplicitVRBigEndian: "",
    uid.RLELossless: "pydicom",
    uid.JPEGBaseline8Bit: "pillow",
    uid.JPEG2000Lossless: "pylibjpeg",
    uid.JPEG2000: "pylibjpeg",
    uid.HTJ2KLossless: "pylibjpeg",
    uid.HTJ2KLosslessRPCL: "pylibjpeg",
    uid.HTJ2K: "pylibjpeg",
}
# Those that pydicom decodes with nothing, or only with GDCM, which ends the process on damaged data.
CODECS = {
    uid.JPEGExtended12Bit: imagecodecs.jpeg8_decode,
    uid.JPEGLossless: imagecodecs.jpeg8_decode,
    uid.JPEGLosslessSV1: imagecodecs.jpeg8_decode,
    uid.JPEGLSLossless: imagecodecs.jpegls_decode,
    uid.JPEGLSNearLossless: imagecodecs.jpegls_decode,
}

# Without any of these the pixels have no meaning: type 1 in the Image Pixel module, PS3.3, C.7.6.3.
NEEDED = (
    "Rows",
    "Columns",
    "BitsAllocated",
    "BitsStored",
    "PixelRepresentation",
    "SamplesPerPixel",
    "PhotometricInterpretation",
)
CODE = re.compile(r"[A-Z0-9 _]{1,16}")  # a code string (CS), PS3.5, 6.2
META_GROUP, IDENTIFYING_GROUP = 0x0002, 0x0008
UNDEFINED_LENGTH = 0xFFFFFFFF
FRAMES = 10_000  # more than any device takes at once; a header that says so is damaged, or made to keep a reader busy


def is_dicom(data: bytes) -> bool:
    """Whether the content starts as DICOM does, with the preamble or, in old files, without it."""
    if data[128:132] == b"DICM":
        return True
    if len(data) < 8:
        return False
    group, _, length = struct.unpack_from("<HHI", data)
    return group in (META_GROUP, IDENTIFYING_GROUP) and (_has_explicit_vr(data) or length <= 256)


def read_dicom(data: bytes, max_pixels: int) -> Radiograph:
    """Decode the first frame as its window or LUT shows it.

    Args:
        data: The whole file.
        max_pixels: The largest rows times columns that is decoded.

    Raises:
        UnsupportedImage: No picture inside, or a compression or a kind of pixels that is not read.
        OversizedImage: The header announces more than `max_pixels`.
        TruncatedImage: The file ends early or is damaged.
    """
    with _name_damage():
        ds = _parse(data)
        frames = _check_header(ds, max_pixels)
        pixels = _decode_frame(ds, frames)
        warnings = _describe_oddities(ds, frames)
        shown = render_colour(pixels, ds) if pixels.ndim == 3 else render_grey(pixels, ds, warnings)
        stored = keep_stored(pixels, ds) if pixels.ndim == 2 else None
        metadata = _read_metadata(ds)
    return from_pixels(shown, "DICOM", warnings, metadata, stored)


@contextmanager
def _name_damage() -> Iterator[None]:
    """Turn what pydicom and its plugins raise into an `ImageError` that quotes nothing from the file."""
    try:
        yield
    except ImageError:
        raise
    except DAMAGE:
        raise TruncatedImage(
            "The DICOM file ends early or is damaged. Copy or export it again from its source."
        ) from None


def _has_explicit_vr(data: bytes) -> bool:
    return data[4:6].isalpha() and data[4:6].isupper()


def _parse(data: bytes) -> Dataset:
    """Read all elements, after the transfer syntax was found to be one that is decoded here."""
    stream = BytesIO(data)
    read_preamble(stream, force=True)
    meta = read_dataset(stream, False, True, stop_when=lambda tag, vr, length: tag.group != META_GROUP)
    # Some files have other value representations than their syntax says, so the first element decides.
    explicit = _has_explicit_vr(data[stream.tell() : stream.tell() + 8])
    native = uid.ExplicitVRLittleEndian if explicit else uid.ImplicitVRLittleEndian
    syntax = meta.get("TransferSyntaxUID", native)
    if syntax not in PLUGINS and syntax not in CODECS:
        raise _refuse_syntax(syntax)
    elements = list(data_element_generator(stream, not explicit, syntax.is_little_endian))
    last = elements[-1]
    if isinstance(last, RawDataElement) and last.value and len(last.value) < last.length < UNDEFINED_LENGTH:
        raise EOFError  # pydicom itself takes what is there
    ds = Dataset({element.tag: element for element in elements})
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = syntax
    return ds


def _refuse_syntax(syntax: uid.UID) -> UnsupportedImage:
    name = f"{syntax.name} ({syntax})" if syntax in uid.UID_dictionary else "unknown"
    return UnsupportedImage(
        f"The DICOM file's transfer syntax is {name}, which is not decoded. "
        "Export it uncompressed (Explicit VR Little Endian), or as lossless JPEG or JPEG 2000."
    )


def _check_header(ds: Dataset, max_pixels: int) -> int:
    """Refuse what cannot or must not be decoded; the number of frames otherwise."""
    if "PixelData" not in ds:
        raise UnsupportedImage(
            "The DICOM file holds no picture of whole numbers (it may be a report, a document, a map of "
            "fractions, or end before the picture). Choose the file of the image itself."
        )
    absent = [keyword for keyword in NEEDED if ds.get(keyword) is None]
    if absent:
        raise TruncatedImage(
            f"The DICOM file does not say its {', '.join(absent)}, without which its pixels have no meaning. "
            "Export it again."
        )
    if ds.BitsAllocated not in (1, 8, 16):
        raise UnsupportedImage(
            "The DICOM file has pixels of an unusual depth. 1, 8 and 16 allocated bits are read. "
            "Export it with 16 bits."
        )
    if not 1 <= ds.BitsStored <= ds.BitsAllocated:
        raise TruncatedImage(
            "The DICOM file says that it stores more bits than it allocates, or none. Export it again."
        )
    if ds.get("HighBit") not in (None, ds.BitsStored - 1):
        raise UnsupportedImage(
            f"The DICOM file's values end at bit {int(ds.HighBit)}, not at bit {ds.BitsStored - 1}, the highest of the "
            f"{ds.BitsStored} that it stores. Export it with its values in the lowest bits."
        )
    check_size(ds.Rows, ds.Columns, max_pixels)
    frames = int(ds.get("NumberOfFrames") or 1)
    if not 1 <= frames <= FRAMES:
        raise OversizedImage(
            f"The DICOM file says that it holds {frames:,} frames. From 1 to {FRAMES:,} are valid. Only the first is "
            "shown: export that one as a file of its own."
        )
    return frames


def _decode_frame(ds: Dataset, frames: int) -> np.ndarray:
    """The first frame: (H, W) stored values, or (H, W, 3) colours."""
    syntax = ds.file_meta.TransferSyntaxUID
    frame = b""
    if syntax.is_encapsulated and syntax != uid.RLELossless:
        frame = get_frame(ds.PixelData, 0, number_of_frames=frames)
        if _read_coded_size(frame) != (ds.Rows, ds.Columns):
            raise TruncatedImage("The compressed picture has another size than the DICOM header says. Export it again.")
    if syntax in CODECS:
        pixels, kind = _restore_sign(CODECS[syntax](frame), ds), ds.PhotometricInterpretation
    else:
        pixels, decoded = get_decoder(syntax).as_array(ds, index=0, decoding_plugin=PLUGINS[syntax])
        kind = decoded["photometric_interpretation"]
    if kind == "PALETTE COLOR":
        return apply_color_lut(pixels, ds)
    if pixels.ndim != (3 if kind == "RGB" else 2) or kind not in ("MONOCHROME1", "MONOCHROME2", "RGB"):
        raise UnsupportedImage(
            "The DICOM file's photometric interpretation is not one that is read: MONOCHROME1, MONOCHROME2, "
            "PALETTE COLOR, RGB and, in some compressions, YBR. Export it as MONOCHROME2."
        )
    return pixels


def _restore_sign(pixels: np.ndarray, ds: Dataset) -> np.ndarray:
    """Spread the sign bit of what a codec takes for unsigned numbers (PS3.5, 8.1.1)."""
    if not ds.PixelRepresentation:
        return pixels
    unused = 8 * pixels.dtype.itemsize - ds.BitsStored
    return (pixels << unused).view(f"i{pixels.dtype.itemsize}") >> unused


def _read_coded_size(frame: bytes) -> tuple[int, ...] | None:
    """Rows and columns from a JPEG, JPEG-LS (SOF, T.81 B.2.2) or JPEG 2000 (SIZ, T.800 A.5.1) stream."""
    if not frame.startswith(b"\xff\xd8"):
        start = frame.index(b"\xff\x4f\xff\x51")
        width, height, left, top = struct.unpack_from(">4I", frame, start + 8)
        return height - top, width - left
    at = 2
    while at < len(frame):
        marker, length = struct.unpack_from(">xBH", frame, at)
        if marker == 0xF7 or (0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC)):
            return struct.unpack_from(">HH", frame, at + 5)
        at += 2 + length
    return None


def _describe_oddities(ds: Dataset, frames: int) -> list[str]:
    warnings = []
    if frames > 1:
        warnings.append("The file holds several frames. The first is shown.")
    rows, columns = _read_spacing(ds) or (1.0, 1.0)
    aspect = ds.get("PixelAspectRatio")
    if isinstance(aspect, MultiValue) and len(aspect) == 2:
        rows, columns = float(aspect[0]), float(aspect[1])
    if not math.isclose(rows, columns, rel_tol=0.01):
        warnings.append("The pixels are not square. The picture is shown as if they were.")
    return warnings


def _read_spacing(ds: Dataset) -> tuple[float, float] | None:
    """(row, column) distance in mm; None if it is absent or not two positive numbers."""
    value = ds.get("PixelSpacing") or ds.get("ImagerPixelSpacing")
    if not isinstance(value, MultiValue) or len(value) != 2:
        return None
    row, column = float(value[0]), float(value[1])
    return (row, column) if 0 < row < math.inf and 0 < column < math.inf else None


def _read_metadata(ds: Dataset) -> dict[str, Any]:
    """The few values that leave the file; text that is not a short code is dropped."""
    codes = {
        "modality": ds.get("Modality"),
        "body_part": ds.get("BodyPartExamined"),
        "view": ds.get("ViewPosition"),
        "photometric_interpretation": ds.get("PhotometricInterpretation"),
    }
    kept: dict[str, Any] = {
        name: code for name, code in codes.items() if isinstance(code, str) and CODE.fullmatch(code)
    }
    if spacing := _read_spacing(ds):
        kept["spacing_mm"] = spacing
        own = ds.get("PixelSpacing")
        if not own or (own == ds.get("ImagerPixelSpacing") and not ds.get("PixelSpacingCalibrationType")):
            kept["spacing_at_detector"] = True  # PS3.3, 10.7.1.1
    return kept
