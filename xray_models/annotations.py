"""Where the finding is: boxes and outlines that a publisher ships beside the images.

Read are FracAtlas' folders `COCO JSON` (boxes and outlines), `PASCAL VOC` and `YOLO` (boxes). Coordinates are
returned in pixels of the picture as `read_image` gives it, whatever size the annotators saw.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

import numpy as np
from PIL import Image, ImageDraw

from xray_models.images import ImageError, read_image
from xray_models.layouts import DataError
from xray_models.tasks import choose

_log = logging.getLogger(__name__)
_SAME_ASPECT = 0.02  # relative; sides of reduced pictures are rounded to whole pixels


class Box(NamedTuple):
    """A rectangle in image pixels; (x, y) is its top left corner, and a pixel is 1 wide."""

    x: float
    y: float
    width: float
    height: float


class _Drawing(NamedTuple):
    """What is drawn on one image: (K, 2) corner points each, and the (width, height) that the annotators saw.

    The size is None where coordinates are relative.
    """

    shapes: list[np.ndarray]
    size: tuple[float, float] | None


def read_boxes(folder: str | Path, source: str = "") -> dict[str, list[Box]]:
    """Reads the boxes around findings.

    Args:
        folder: the data folder, or `FracAtlas` itself: it holds `Annotations` and `images`.
        source: `coco`, `voc` or `yolo`; "" for the first of them that is there.

    Returns:
        Boxes by file name. Images without a box, and boxes without an image, are left out.

    Raises:
        DataError: when there are no annotations, they are damaged, or belong to a picture of another shape.
    """
    start = _find_annotations(Path(folder))
    source = choose("source of boxes", source, _READERS) if source else _first_there(start)
    boxes = {}
    for name, shapes, _ in _fit_all(_check(_READERS[source], start), start):
        corners = [(*shape.min(axis=0), *np.ptp(shape, axis=0)) for shape in shapes]
        boxes[name] = [Box(*(float(value) for value in corner)) for corner in corners]
    return boxes


def read_masks(folder: str | Path) -> Iterator[tuple[str, np.ndarray]]:
    """Reads the outlines of findings, one image at a time.

    Args:
        folder: as for `read_boxes`.

    Yields:
        File name and (H, W) bool, True inside an outline and on it.

    Raises:
        DataError: as for `read_boxes`.
    """
    start = _find_annotations(Path(folder))
    for name, shapes, (width, height) in _fit_all(_check(partial(_read_coco, outlines=True), start), start):
        mask = Image.new("1", (width, height))
        draw = ImageDraw.Draw(mask)
        for shape in shapes:
            draw.polygon([(x - 0.5, y - 0.5) for x, y in shape], fill=1, outline=1)
        yield name, np.array(mask)


def _check(read: Callable[[Path], Iterable[tuple[str, _Drawing]]], start: Path) -> list[tuple[str, _Drawing]]:
    """All that is drawn, every corner a number and every picture of some size; else raises `DataError`."""
    folder = start / "Annotations"
    try:
        drawings = list(read(folder))
        if not all(np.isfinite(shape).all() for _, drawing in drawings for shape in drawing.shapes):
            raise ValueError("a corner is not a number")
        for name, drawing in drawings:
            if drawing.size and not min(drawing.size) > 0 and drawing.shapes:
                raise ValueError(f"{name} has the size {drawing.size[0]:g} x {drawing.size[1]:g}")
    except DataError:
        raise
    except (OSError, LookupError, TypeError, ValueError, ElementTree.ParseError) as error:
        raise DataError(
            f"The annotations in {folder} cannot be read ({type(error).__name__}: {error}). Copy them again from their "
            "publisher."
        ) from error
    return drawings


def _find_annotations(folder: Path) -> Path:
    for start in (folder, folder / "FracAtlas", folder.parent):
        if (start / "Annotations").is_dir() and (start / "images").is_dir():
            return start
    found = sorted(path.name for path in folder.iterdir())[:8] if folder.is_dir() else []
    raise DataError(
        f"{folder} holds no annotations: expected the folders Annotations and images, as FracAtlas ships them; "
        f"found {', '.join(found) or 'nothing'}."
    )


def _first_there(start: Path) -> str:
    for source, name in (("coco", "COCO JSON"), ("voc", "PASCAL VOC"), ("yolo", "YOLO")):
        if (start / "Annotations" / name).is_dir():
            return source
    raise DataError(f"{start / 'Annotations'} has none of the folders COCO JSON, PASCAL VOC and YOLO.")


def _read_coco(folder: Path, outlines: bool = False) -> Iterable[tuple[str, _Drawing]]:
    """COCO: boxes as x, y, width, height; outlines as lists x1, y1, x2, y2, …; both in pixels."""
    drawings: dict[str, _Drawing] = {}
    for file in sorted((folder / "COCO JSON").glob("*.json")):
        content = json.loads(file.read_text(encoding="utf-8"))
        images = {image["id"]: image for image in content["images"]}
        for entry in content["annotations"]:
            image = images[entry["image_id"]]
            drawing = drawings.setdefault(image["file_name"], _Drawing([], (image["width"], image["height"])))
            if outlines:
                if not isinstance(entry["segmentation"], list):
                    raise DataError(f"{file}: {image['file_name']} has a run-length mask; only outlines are read.")
                shapes = [np.reshape(outline, (-1, 2)) for outline in entry["segmentation"]]
                if any(len(shape) < 3 for shape in shapes):
                    raise ValueError(f"an outline of {image['file_name']} has fewer than 3 corners")
                drawing.shapes.extend(shapes)
            else:
                x, y, width, height = entry["bbox"]
                drawing.shapes.append(np.array([[x, y], [x + width, y + height]]))
    return drawings.items()


def _read_voc(folder: Path) -> Iterable[tuple[str, _Drawing]]:
    """Pascal VOC: an XML a picture, corners in pixels."""
    for file in sorted((folder / "PASCAL VOC").glob("*.xml")):
        root = ElementTree.parse(file).getroot()
        sides = [float(root.findtext(f"size/{side}", "nan")) for side in ("width", "height")]
        corners = [
            [float(box.findtext(name, "nan")) for name in ("xmin", "ymin", "xmax", "ymax")]
            for box in root.iterfind("object/bndbox")
        ]
        shapes = [np.reshape(corner, (2, 2)) for corner in corners]
        yield root.findtext("filename", file.stem), _Drawing(shapes, (sides[0], sides[1]))


def _read_yolo(folder: Path) -> Iterable[tuple[str, _Drawing]]:
    """YOLO: a text a picture, one `class centre_x centre_y width height` a line, relative to the picture."""
    for file in sorted((folder / "YOLO").glob("*.txt")):
        if file.name != "labels.txt":
            lines = [line.split() for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
            if any(len(line) != 5 for line in lines):
                raise ValueError(f"{file.name} has a line that is not a class and the 4 numbers of a box")
            numbers = [np.array(line[1:], dtype=float).reshape(2, 2) for line in lines]
            yield file.stem, _Drawing([np.stack([c - s / 2, c + s / 2]) for c, s in numbers], None)


_READERS = {"coco": _read_coco, "voc": _read_voc, "yolo": _read_yolo}


def _fit_all(
    drawings: Iterable[tuple[str, _Drawing]], start: Path
) -> Iterator[tuple[str, list[np.ndarray], tuple[int, int]]]:
    """Yields file name, shapes in pixels of the picture, and its (width, height)."""
    files = {path.name: path for path in sorted((start / "images").glob("*/*"))}
    files |= {path.stem: path for path in files.values()}  # YOLO's texts do not say the ending
    missing = 0
    for name, drawing in drawings:
        if not drawing.shapes:
            continue
        if name not in files:
            missing += 1
            continue
        try:
            height, width = read_image(files[name]).pixels.shape
        except ImageError as error:
            _log.warning("%s is left out: %s", name, error)
            continue
        shapes = [_fit(shape, drawing.size, (width, height), name) for shape in drawing.shapes]
        yield files[name].name, shapes, (width, height)
    if missing:
        _log.warning("%s: %d annotated images are not there", start, missing)


def _fit(shape: np.ndarray, seen: tuple[float, float] | None, size: tuple[int, int], name: str) -> np.ndarray:
    """Brings points from the picture that the annotators saw to the file's, which may be smaller or turned.

    A picture annotated lying on its side is taken to have been turned a quarter counter-clockwise, as FracAtlas'
    IMG0002628 was: only so does its box lie on the broken bone.
    """
    width, height = size
    if seen is None:
        return shape * (width, height)
    if _same_aspect(seen, (width, height)):
        return shape * (width / seen[0], height / seen[1])
    if _same_aspect(seen, (height, width)):
        _log.warning("%s was annotated turned by a quarter; its annotation is turned back", name)
        along, down = (shape * (height / seen[0], width / seen[1])).T
        return np.stack([width - down, along], axis=1)
    raise DataError(
        f"The annotation of {name} is for a picture of {seen[0]:g} x {seen[1]:g} pixels, but the file has "
        f"{width} x {height}: it is another picture, or was cropped. Use the publisher's own images."
    )


def _same_aspect(first: tuple[float, float], second: tuple[float, float]) -> bool:
    return abs(first[0] * second[1] / (first[1] * second[0]) - 1) <= _SAME_ASPECT
