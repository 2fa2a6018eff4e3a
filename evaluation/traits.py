"""Traits of an image that are no finding: its file, size, border, exposure and margins.

Measured from the file's header and from the 64x64 thumbnail that a data set keeps anyway; nothing is decoded. A new
family of traits is one entry of `FAMILIES`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from xray_models.headers import Header

MARGIN = 4  # cells of 64 that count as margin on each side: 6 % of the picture
BAR, CONTENT_BAR = 0.65, 0.8
_STEP = 8  # cells along the margin that are taken together
_DARK, _BRIGHT = 24, 231  # grey values of a dark and a bright border
_SHARE = 0.9  # of a line that must be dark or bright for it to belong to the border
_SIDES = ("top", "bottom", "left", "right")


class Family(NamedTuple):
    """Traits that are judged together.

    Attributes:
        title: what they are called.
        bar: AUROC from which they matter. It is higher where the finding itself changes the traits.
        behind: what may lie behind them.
        measure: from N headers and (N, 64, 64) uint8 thumbnails to a table of N rows, one trait a column.
    """

    title: str
    bar: float
    behind: str
    measure: Callable[[Sequence[Header], np.ndarray], pd.DataFrame]


def measure_file_size(headers: Sequence[Header], thumbnails: np.ndarray) -> pd.DataFrame:
    """Bytes, and bytes a pixel."""
    size = np.array([header.size for header in headers], dtype=np.float64)
    area = np.array([header.height * header.width for header in headers])
    return pd.DataFrame({"bytes": size, "bytes per pixel": size / np.maximum(area, 1)})


def measure_image_size(headers: Sequence[Header], thumbnails: np.ndarray) -> pd.DataFrame:
    """Height and width in pixels, and width by height."""
    sides = np.array([(header.height, header.width) for header in headers], dtype=np.float64).reshape(-1, 2)
    ratio = sides[:, 1] / np.maximum(sides[:, 0], 1)
    return pd.DataFrame({"height": sides[:, 0], "width": sides[:, 1], "width by height": ratio})


def measure_coding(headers: Sequence[Header], thumbnails: np.ndarray) -> pd.DataFrame:
    """Format, mode, JPEG tables and kinds of metadata, each numbered from the most frequent on; JPEG coarseness."""
    named = {"format": "format", "colour mode": "mode", "JPEG tables": "tables", "kinds of metadata": "extras"}
    columns = {title: _number([getattr(header, key) for header in headers]) for title, key in named.items()}
    return pd.DataFrame(columns | {"JPEG coarseness": [header.coarseness for header in headers]})


def _number(names: Sequence[str]) -> np.ndarray:
    frequent = pd.Series(names, dtype=object).value_counts(sort=True)
    rank = {name: place for place, name in enumerate(frequent.index)}
    return np.array([rank[name] for name in names])


def measure_border(headers: Sequence[Header], thumbnails: np.ndarray) -> pd.DataFrame:
    """Width of the dark and of the bright border on each side, in 64ths of the picture."""
    columns = {}
    for name, part in (("dark", thumbnails <= _DARK), ("bright", thumbnails >= _BRIGHT)):
        rows, lines = part.mean(axis=2) >= _SHARE, part.mean(axis=1) >= _SHARE
        for side, full in zip(_SIDES, (rows, rows[:, ::-1], lines, lines[:, ::-1]), strict=True):
            columns[f"{name} border, {side}"] = np.cumprod(full, axis=1).sum(axis=1)
    return pd.DataFrame(columns)


def measure_exposure(headers: Sequence[Header], thumbnails: np.ndarray) -> pd.DataFrame:
    """Mean, standard deviation and quantiles of grey, 0 to 255."""
    grey = thumbnails.reshape(len(thumbnails), -1).astype(np.float32)
    shares = (5, 25, 50, 75, 95)
    quantiles = dict(zip(shares, np.percentile(grey, shares, axis=1), strict=True))
    columns = {f"{share}th percentile of grey": values for share, values in quantiles.items()}
    table = pd.DataFrame({"mean grey": grey.mean(axis=1), "spread of grey": grey.std(axis=1), **columns})
    return table.rename(columns={"50th percentile of grey": "median grey"})


def measure_margins(headers: Sequence[Header], thumbnails: np.ndarray) -> pd.DataFrame:
    """Mean, spread and brightest grey of 30 pieces of the outer 6 %, corners included; the rest is not looked at."""
    columns = {}
    for name, picture in _frame(thumbnails.astype(np.float32)).items():  # (N, MARGIN, length)
        starts = range(0, picture.shape[2], _STEP)
        for number, start in enumerate(starts, 1):
            piece = picture[:, :, start : start + _STEP].reshape(len(picture), -1)
            where = f"at the {name}, piece {number} of {len(starts)}"
            columns[f"mean grey {where}"] = piece.mean(axis=1)
            columns[f"spread of grey {where}"] = piece.std(axis=1)
            columns[f"brightest grey {where}"] = piece.max(axis=1)
    return pd.DataFrame(columns)


def _frame(pictures: np.ndarray) -> dict[str, np.ndarray]:
    """(N, S, S) -> the four strips of the margin, lying: (N, MARGIN, S) top and bottom, shorter left and right."""
    inner = pictures[:, MARGIN:-MARGIN].transpose(0, 2, 1)
    strips = (pictures[:, :MARGIN], pictures[:, -MARGIN:], inner[:, :MARGIN], inner[:, -MARGIN:])
    return dict(zip(_SIDES, strips, strict=True))


def measure_all(headers: Sequence[Header], thumbnails: np.ndarray) -> pd.DataFrame:
    """Everything but the margins."""
    parts = (measure_file_size, measure_image_size, measure_coding, measure_border, measure_exposure)
    return pd.concat([measure(headers, thumbnails) for measure in parts], axis=1)


FAMILIES: dict[str, Family] = {
    "file_size": Family(
        "File size",
        CONTENT_BAR,
        "the finding itself, since a picture with more in it takes more bytes; or other programs and sources",
        measure_file_size,
    ),
    "image_size": Family("Image size and aspect", BAR, "other machines or sources of a label", measure_image_size),
    "coding": Family("File format and JPEG tables", BAR, "other programs or sources of a label", measure_coding),
    "border": Family(
        "Dark or bright border", BAR, "other framing, other sources, or another part of the body", measure_border
    ),
    "exposure": Family(
        "Exposure",
        CONTENT_BAR,
        "the finding itself, where it makes an image brighter or darker; or other machines, views and patients",
        measure_exposure,
    ),
    "all": Family("All of these together", CONTENT_BAR, "any of them, the finding itself included", measure_all),
    "margins": Family(
        "Margins and corners alone",
        BAR,
        "side letters, framing, build or the part of the body; findings hardly ever lie there",
        measure_margins,
    ),
}
