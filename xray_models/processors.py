"""What an image processor of transformers does to an image, as the input that a model takes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from PIL.Image import Resampling

from xray_models.fields import TaskError
from xray_models.inputs import InputSpec


def read_processor(raw: Mapping[str, Any], whole: bool = False) -> InputSpec:
    """Reads the content of a `preprocessor_config.json`, or a processor's `to_dict()`.

    Args:
        raw: what it says.
        whole: whether the whole image is brought onto the input where the processor cuts off a margin, as a fine-tune
            may have it; else a margin is cut off as the processor does.

    Raises:
        TaskError: when it lacks something, or prepares images in a way that the panel cannot.
    """
    scale = raw.get("rescale_factor", 1 / 255) if raw.get("do_rescale", True) else 1.0
    if abs(scale * 255 - 1) > 1e-6:
        raise TaskError(f"the image processor scales pixels by {scale}; the panel scales them to [0, 1].")
    try:
        cut = raw["crop_size"] if raw.get("do_center_crop") else None
        size = _read_sides(raw["size"])
        plain = not raw.get("do_normalize", True)
        common: dict[str, Any] = {
            "mean": (0.0,) * 3 if plain else tuple(raw["image_mean"]),
            "std": (1.0,) * 3 if plain else tuple(raw["image_std"]),
            "resample": Resampling(raw["resample"]).name.lower(),
        }
    except KeyError as error:
        raise TaskError(f"the image processor's file lacks {error}, so the model's input is not known.") from error
    sides = _read_sides(cut) if cut is not None else size
    short = size.get("shortest_edge")
    if whole and "shortest_edge" in sides:
        sides = dict.fromkeys(("height", "width"), sides["shortest_edge"])
    if raw.get("do_resize", True) and {"height", "width"} <= set(sides):
        if whole or cut is None:
            return InputSpec(sides["height"], sides["width"], **common)
        if short and sides["height"] == sides["width"]:
            common |= {"fit": "crop", "crop": _divide(sides["height"], short), "corner": "down"}
            return InputSpec(sides["height"], sides["width"], **common)
    resized = size if raw.get("do_resize", True) else "nothing"
    raise TaskError(
        f"the image processor resizes to {resized}; the panel knows height and width, or a square centre crop."
    )


def _divide(cut: int, short: int) -> float:
    """The share `cut / short`, by which `cut` divides to no less than `short`."""
    share = cut / short
    return share if cut / share >= short else math.nextafter(share, 0)


def _read_sides(size: Any) -> dict[str, int]:
    """Sides by name; a single number is a square, as they were written once."""
    if not isinstance(size, Mapping):
        return {"height": size, "width": size}
    return {name: side for name, side in size.items() if side is not None}
