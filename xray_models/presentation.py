"""DICOM's way from stored values to grey values, as a workstation shows them first.

The order is that of PS3.4, N.2: modality LUT, VOI LUT or window, polarity. All three act on single values,
so they are computed once per stored value instead of once per pixel.
"""

import math
from typing import Any, NamedTuple

import numpy as np
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from scipy.special import expit

from xray_models.radiograph import Stored, convert_to_luma

STEEPEST = 1e30  # a rescale slope from here on is damaged: its values may be none that can be counted with


class _Window(NamedTuple):
    centre: float
    width: float
    function: str


def render_colour(colour: np.ndarray, ds: Dataset) -> np.ndarray:
    """(H, W, 3) RGB -> (H, W) luma over the whole 8 or 16 bits."""
    if colour.dtype == np.uint16 and ds.PhotometricInterpretation != "PALETTE COLOR":
        spread = np.arange(65536) * (65535 / (2**ds.BitsStored - 1))
        colour = np.rint(np.minimum(spread, 65535)).astype(np.uint16)[colour]
    return convert_to_luma(colour)


def render_grey(pixels: np.ndarray, ds: Dataset, warnings: list[str]) -> np.ndarray:
    """(H, W) stored values -> (H, W) uint8, or uint16 if more than 8 bits are stored.

    Without a window or LUT, values of up to 8 bits keep their full range, as in any 8-bit picture; deeper
    ones are spread from the lowest to the highest, with a warning.
    """
    depth = ds.BitsStored
    first, last = int(pixels.min()), int(pixels.max())
    if depth <= 8:
        lowest = -(2 ** (depth - 1)) if ds.PixelRepresentation else 0
        first, last = min(first, lowest), max(last, lowest + 2**depth - 1)
    stored = np.arange(first, last + 1)
    index = pixels.astype(np.int32) - first
    padding = _find_padding(stored, ds)
    present = np.zeros(stored.shape, bool)
    present[index] = True
    values = _apply_modality(stored.astype(np.float64), ds, warnings)
    shown = _apply_voi(values, ds, warnings)
    if shown is None:
        shown = _scale_to_range(values, np.ones_like(present) if depth <= 8 else present & ~padding)
        if depth > 8:
            warnings.append("The file has no window. Its darkest pixel was made black, its brightest white.")
    if _is_inverted(ds):
        shown = 1 - shown
    shown[padding] = 0
    white, dtype = (255, np.uint8) if depth <= 8 else (65535, np.uint16)
    return np.rint(shown * white).astype(dtype)[index]


def keep_stored(pixels: np.ndarray, ds: Dataset) -> Stored | None:
    """(H, W) stored values -> the same with the window that shows them; None where no linear window does.

    A table, another window function or padding makes the way from value to grey something else than a window. Deep
    values without a window are shown from the lowest to the highest, and that is a window, too.
    """
    if ds.get("ModalityLUTSequence") or ds.get("VOILUTSequence") or "PixelPaddingValue" in ds:
        return None
    slope, intercept = _find_rescale(ds) or (1.0, 0.0)
    if slope < 0:
        return None
    lowest, span = int(pixels.min()), int(np.ptp(pixels))
    intercept += slope * lowest
    window = _find_window(ds)
    if window is None and ds.BitsStored > 8:
        centre, width = (span + 1) / 2, span + 1.0
    elif window is not None and window.function == "LINEAR":
        centre, width = (window.centre - 0.5 - intercept) / slope + 0.5, (window.width - 1) / slope + 1
    else:
        return None
    values = (pixels.astype(np.int32) - lowest).astype(np.uint16)
    values.setflags(write=False)
    return Stored(values, ds.BitsStored, centre, width, _is_inverted(ds), slope, intercept)


def _is_inverted(ds: Dataset) -> bool:
    return ds.PhotometricInterpretation == "MONOCHROME1" or ds.get("PresentationLUTShape") == "INVERSE"


def _find_padding(stored: np.ndarray, ds: Dataset) -> np.ndarray:
    """Which stored values mean "outside the picture" (PS3.3, C.7.5.1.1.2)."""
    value = ds.get("PixelPaddingValue")
    if not isinstance(value, int):
        return np.zeros(stored.shape, bool)
    limit = ds.get("PixelPaddingRangeLimit")
    # Some devices write -2000 as 63536: 16 bits, of which the pixels say whether one is a sign.
    least = -(2**15) if ds.PixelRepresentation else 0
    ends = ((end - least) % 2**16 + least for end in (value, limit if isinstance(limit, int) else value))
    low, high = sorted(ends)
    return (stored >= low) & (stored <= high)


def _apply_modality(stored: np.ndarray, ds: Dataset, warnings: list[str]) -> np.ndarray:
    """Stored values -> the modality's values, by LUT or by slope and intercept (PS3.3, C.11.1)."""
    if ds.get("ModalityLUTSequence"):
        return _look_up(stored, ds, "ModalityLUTSequence")[0]
    rescale = _find_rescale(ds)
    if rescale is None:
        warnings.append("The file's rescale slope is not valid and was ignored.")
        return stored
    slope, intercept = rescale
    return stored * slope + intercept


def _find_rescale(ds: Dataset) -> tuple[float, float] | None:
    """Slope and intercept, 1 and 0 where absent; None where a slope would make all values one, or none."""
    slope, intercept = _read_number(ds, "RescaleSlope"), _read_number(ds, "RescaleIntercept") or 0.0
    slope = 1.0 if slope is None else slope
    return (slope, intercept) if 0 < abs(slope) < STEEPEST else None


def _apply_voi(values: np.ndarray, ds: Dataset, warnings: list[str]) -> np.ndarray | None:
    """The modality's values -> [0, 1], by LUT or window (PS3.3, C.11.2); None where the file has neither."""
    if ds.get("VOILUTSequence"):
        entries, white = _look_up(values, ds, "VOILUTSequence")
        return np.clip(entries / white, 0, 1)
    window = _find_window(ds)
    if window is None:
        if ds.get("WindowCenter") or ds.get("WindowWidth"):  # an empty one is none
            warnings.append("The file's window is not valid and was ignored.")
        return None
    centre, width, function = window
    if function == "SIGMOID":
        return expit(4 * (values - centre) / width)
    if function == "LINEAR":
        centre, width = centre - 0.5, max(width - 1, 1e-9)
    return np.clip((values - centre) / width + 0.5, 0, 1)


def _find_window(ds: Dataset) -> _Window | None:
    """The file's first window, in the modality's values (PS3.3, C.11.2.1.2); None without a valid one."""
    centre, width = _read_number(ds, "WindowCenter"), _read_number(ds, "WindowWidth")
    function = ds.get("VOILUTFunction") or "LINEAR"
    least = {"LINEAR": 1, "LINEAR_EXACT": 1e-9, "SIGMOID": 1e-9}.get(function, math.inf)
    if centre is None or width is None or width < least:
        return None
    return _Window(centre, width, function)


def _look_up(values: np.ndarray, ds: Dataset, keyword: str) -> tuple[np.ndarray, int]:
    """Values -> entries of the sequence's first table, and the entry that means white (PS3.3, C.11.1.1).

    Entries of 8 bits may lie in a byte each, of which an odd number gets one more. pydicom's own functions take
    the index in the type of the entries, which wraps for 8-bit tables.
    """
    item = ds[keyword].value[0]
    count, first, depth = (int(number) for number in item.LUTDescriptor)
    count = count or 2**16
    table: Any = item.LUTData
    if isinstance(table, bytes) and len(table) == count + count % 2:
        table = np.frombuffer(table[:count], np.uint8)
    elif isinstance(table, bytes):
        order = "<" if ds.file_meta.TransferSyntaxUID.is_little_endian else ">"
        table = np.frombuffer(table, f"{order}u2")
    table = np.asarray(table, dtype=np.float64)
    if first >= 2**15 and first > values.max():  # above all values, unless its highest bit is a sign
        first -= 2**16
    elif first < 0 and first + len(table) <= values.min():
        first += 2**16
    return table[np.clip(np.rint(values) - first, 0, len(table) - 1).astype(int)], 2**depth - 1


def _scale_to_range(values: np.ndarray, counted: np.ndarray) -> np.ndarray:
    """Values -> [0, 1], from the lowest to the highest of those that count."""
    if not counted.any():
        return np.zeros_like(values)
    low, high = values[counted].min(), values[counted].max()
    return np.clip((values - low) / ((high - low) or 1), 0, 1)


def _read_number(ds: Dataset, keyword: str) -> float | None:
    """An element's first value; None if it is absent, empty or not a finite number."""
    value = ds.get(keyword)
    if isinstance(value, MultiValue):
        value = value[0] if value else None
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None
