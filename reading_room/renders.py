"""Pictures for the page: the image for the screen, and a heatmap as a transparent layer over it."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

import numpy as np
from matplotlib import colormaps
from PIL import Image

from xray_models.images import Radiograph, to_display
from xray_models.overlays import color_map, encode, lay_over, to_uri

if TYPE_CHECKING:
    from xray_models.attribution import Heatmap

_THUMB = 240  # pixels of a card's picture
_MAP = 320  # pixels of a heatmap for the viewer: maps are smooth, the browser enlarges them
_CHOICE = ("inferno", "viridis", "cividis", "PuOr_r")  # perceptually uniform, but for the last, which is diverging


def draw_thumb(image: Radiograph, longest: int = _THUMB) -> bytes:
    """The image, small, as a JPEG's bytes."""
    return encode(Image.fromarray(to_display(image, longest)), "JPEG")


def color_tables() -> dict[str, str]:
    """The colour maps that the viewer offers: base64 of 256 RGB triples each, the last for signed maps."""
    steps = np.linspace(0, 1, 256)
    tables = {name: (colormaps[name](steps)[:, :3] * 255).round().astype(np.uint8) for name in _CHOICE}
    return {name: base64.b64encode(table.tobytes()).decode() for name, table in tables.items()}


def draw_layer(heatmap: Heatmap) -> bytes:
    """A heatmap as a transparent layer of the image's aspect for a card, as a PNG's bytes."""
    return encode(Image.fromarray(color_map(heatmap.lay(_fit(heatmap.shape, _THUMB)), heatmap.signed)))


def draw_map(heatmap: Heatmap) -> bytes:
    """A heatmap's own values for the viewer, made smaller, as a PNG's bytes in the grey levels of `show_heatmap`."""
    return encode(_grey(heatmap.lay(_fit(heatmap.shape, _MAP)), heatmap.signed))


def show_overlay(image: Radiograph, heatmap: Heatmap) -> str:
    """The image with a heatmap over it, as one opaque PNG data URI."""
    return to_uri(lay_over(image, heatmap))


def show_heatmap(heatmap: Heatmap) -> str:
    """A heatmap on the image's own grid as an opaque 8-bit PNG data URI: 0 to 255, or 128 ± 127 where signed."""
    return to_uri(_grey(heatmap.values, heatmap.signed))


def _grey(values: np.ndarray, signed: bool) -> Image.Image:
    levels = 128 + 127 * values if signed else 255 * values
    return Image.fromarray(np.clip(levels, 0, 255).round().astype(np.uint8))


def _fit(shape: tuple[int, int], longest: int) -> tuple[int, int]:
    """(H, W) of the same aspect, no side longer than this, and never larger than before."""
    scale = min(1.0, longest / max(shape))
    return max(1, round(shape[0] * scale)), max(1, round(shape[1] * scale))
