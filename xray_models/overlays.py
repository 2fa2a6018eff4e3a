"""Heatmaps in colour, over the image they belong to, as pictures that a page can hold."""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING

import numpy as np
from matplotlib import colormaps
from PIL import Image

from xray_models.images import Radiograph, to_display

if TYPE_CHECKING:
    from xray_models.attribution import Heatmap

LONGEST = 896  # pixels of an overlay, unless told otherwise
_UNSIGNED, _SIGNED = colormaps["inferno"], colormaps["PuOr_r"]  # both told apart by colour-blind readers
_UNSIGNED(0.0), _SIGNED(0.0)  # builds their tables now, before several threads ask at once


def encode(picture: Image.Image, kind: str = "PNG") -> bytes:
    """Encodes a picture as a file's bytes; nothing but pixels is in it."""
    file = io.BytesIO()
    picture.save(file, kind, **({"quality": 92} if kind == "JPEG" else {}))
    return file.getvalue()


def to_uri(picture: Image.Image, kind: str = "PNG") -> str:
    """Encodes a picture as a data URI; nothing but pixels is in it."""
    return f"data:image/{kind.lower()};base64,{base64.b64encode(encode(picture, kind)).decode()}"


def color_map(values: np.ndarray, signed: bool) -> np.ndarray:
    """Colours a heatmap.

    Args:
        values: (h, w) in [0, 1], or in [-1, 1] where signed.
        signed: orange for the label and purple against it, instead of dark to bright.

    Returns:
        (h, w, 4) uint8; the stronger the value, the more opaque.
    """
    colors = _SIGNED((values + 1) / 2) if signed else _UNSIGNED(np.clip(values, 0, 1))
    strength = np.abs(values)
    colors[..., 3] = np.clip(1.6 * strength, 0, 1) * (strength > 0.08)
    return (colors * 255).round().astype(np.uint8)


def lay_over(image: Radiograph, heatmap: Heatmap, longest: int = LONGEST, opacity: float = 0.55) -> Image.Image:
    """The image with a heatmap over it.

    Args:
        image: the image.
        heatmap: of that image.
        longest: pixels of the picture's longer side, where the image has as many.
        opacity: of the heatmap where it is strongest, in [0, 1].

    Returns:
        An opaque RGB picture of the image's aspect.
    """
    base = Image.fromarray(to_display(image, longest)).convert("RGBA")
    width, height = base.size
    layer = Image.fromarray(color_map(heatmap.lay((height, width)), heatmap.signed))
    layer.putalpha(layer.getchannel("A").point(lambda a: round(a * opacity)))
    return Image.alpha_composite(base, layer).convert("RGB")
