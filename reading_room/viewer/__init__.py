"""The viewer: the image at its full depth on a canvas, with windows, maps, boxes and keys.

Its parts are the files beside this one: `viewer.html` is its skeleton, the scripts below do the work in the browser,
and `viewer.css` is its look. What it shows is one value, built here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr

from reading_room.renders import color_tables
from xray_models.images import Radiograph, Stored

_FOLDER = Path(__file__).parent
SCRIPTS = (
    "window.js",
    "plate.js",
    "geometry.js",
    "panes.js",
    "stage.js",
    "heat.js",
    "marks.js",
    "view.js",
    "overlay.js",
    "viewer.js",
    "pointer.js",
    "keys.js",
    "start.js",
)
NOTHING: dict[str, Any] = {"state": "empty"}


def build_viewer() -> gr.HTML:
    """Adds the viewer to the current `gr.Blocks`; its value is one of `NOTHING`, `show_case` and `show_error`."""
    return gr.HTML(
        NOTHING,
        html_template=read_part("viewer.html"),
        js_on_load=read_script(),
        apply_default_css=False,
        elem_id="viewer",
        tables=color_tables(),
    )


def read_part(name: str) -> str:
    """The text of one of the viewer's files."""
    return (_FOLDER / name).read_text(encoding="utf-8")


def read_script() -> str:
    """The scripts, in their order, as the body of one function of `element, props, watch`."""
    return '"use strict";\n' + "\n".join(read_part(name) for name in SCRIPTS)


def show_case(image: Radiograph, address: str, opened: float) -> dict[str, Any]:
    """What the viewer needs to show an image.

    Args:
        image: the image.
        address: where its pixels are fetched, from `plates.Plates.offer`.
        opened: when it was opened, in seconds; another time means that boxes and rulers start anew.

    Returns:
        Plain data: `pixels` (address), `height`, `width`, `bits`, `window` (the one that shows stored values, or
        None where the pixels are as they are to be shown), `spacing` (mm a row and a column, or None), `detector`
        (whether that is measured at the detector), `sha256`, `facts` and `warnings`. Nothing of the patient.
    """
    height, width = image.pixels.shape
    depth = image.bits if image.stored is None else image.stored.bits
    known = [str(image.metadata[key]) for key in ("modality", "body_part", "view") if image.metadata.get(key)]
    spacing = image.metadata.get("spacing_mm")
    return {
        "state": "case",
        "pixels": address,
        "height": height,
        "width": width,
        "bits": image.bits if image.stored is None else 16,
        "window": _show_window(image.stored),
        "spacing": None if spacing is None else [float(step) for step in spacing],
        "detector": bool(image.metadata.get("spacing_at_detector")),
        "sha256": image.sha256,
        "opened": opened,
        "facts": " · ".join([image.format, f"{width} × {height}", f"{depth} bit", *known]),
        "warnings": list(image.warnings),
    }


def _show_window(stored: Stored | None) -> dict[str, Any] | None:
    if stored is None:
        return None
    return {name: getattr(stored, name) for name in ("centre", "width", "inverted", "slope", "intercept")}


def show_error(message: str) -> dict[str, Any]:
    """Why an image could not be read, in the reader's words."""
    return {"state": "error", "message": message}
