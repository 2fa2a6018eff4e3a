"""Does a panel need the margins? The same images with and without them, and how often each model is right."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from evaluation.cases import read_ahead
from evaluation.predictions import CONSENSUS
from evaluation.samples import draw_rows, measure_means, with_pixels
from evaluation.traits import MARGIN
from xray_models.datasets import THUMBNAIL
from xray_models.images import Radiograph
from xray_models.panel import Panel
from xray_models.readings import Reading

SHARE = MARGIN / THUMBNAIL.height  # of height and width that is hidden on each side: what `traits` calls margin


def mask_margins(radiograph: Radiograph, share: float = SHARE) -> Radiograph:
    """Hides the margins: every pixel there takes the value of the nearest pixel that is still seen.

    A black frame would be a mark of its own, which no model was trained on: on phantoms, whose margins tell nothing,
    it cost a model 21 points of accuracy, and this way 2.

    Args:
        radiograph: the picture.
        share: of height and width that is hidden on each side, in [0, 0.5).

    Returns:
        A picture of the same size and depth.

    Raises:
        ValueError: for a share out of range.
    """
    if not 0 <= share < 0.5:
        raise ValueError(f"A share of {share!r} cannot be hidden on each side. Give 0 or more, below 0.5.")
    height, width = radiograph.pixels.shape
    top, left = (min(round(side * share), (side - 1) // 2) for side in (height, width))
    seen = radiograph.pixels[top : height - top, left : width - left]
    return with_pixels(radiograph, np.pad(seen, ((top, top), (left, left)), mode="edge"))


def judge_margins(panel: Panel, rows: pd.DataFrame, folder: Path, limit: int = 100, seed: int = 0) -> dict[str, Any]:
    """Asks a panel about images as they are and with hidden margins.

    Args:
        panel: the models.
        rows: of a manifest: path, label, group.
        folder: of the data; a relative path is one below it.
        limit: the most images that are asked about, as many of every label as there are.
        seed: of the draw and the bootstrap.

    Returns:
        `n` images that could be read, the hidden `share`, and `models`: for the consensus and each model `whole` and
        `hidden`, the accuracy in [0, 1] with the margins and without them, `difference`, hidden - whole, and
        `changed`, the share of images that it calls differently: {value, low, high, n}, None where undefined.

    Raises:
        DataError: when there is no image, or `limit` is below 1.
    """
    drawn = draw_rows(rows, limit, seed)
    labels, groups = [], []

    def pairs() -> Iterator[Radiograph]:
        found = read_ahead([str(folder / path) for path in drawn["path"]])
        for radiograph, label, group in zip(found, drawn["label"], drawn["group"], strict=True):
            if isinstance(radiograph, Radiograph):  # what cannot be read is listed as a fault elsewhere
                labels.append(label)
                groups.append(str(group))
                yield radiograph
                yield mask_margins(radiograph)

    voices = [_name_labels(reading) for reading in panel.read_many(pairs())]
    values: dict[tuple[str, str], np.ndarray] = {}
    for name in (CONSENSUS, *panel.checkpoints):
        called = np.array([voice.get(name, "") for voice in voices], dtype=object).reshape(-1, 2)
        values |= {(name, key): column for key, column in _compare(called, np.array(labels, dtype=object)).items()}
    means = measure_means(values, np.array(groups), seed) if labels else {}
    models: dict[str, dict[str, Any]] = {}
    for (name, key), found in means.items():
        models.setdefault(name, {})[key] = found
    return {"n": len(labels), "share": SHARE, "models": models}


def _name_labels(reading: Reading) -> dict[str, str]:
    """What each model and the consensus call the image."""
    said = {opinion.model: opinion.label for opinion in reading.opinions if opinion.label is not None}
    return said | ({CONSENSUS: reading.consensus.label} if reading.consensus else {})


def _compare(called: np.ndarray, labels: np.ndarray) -> dict[str, np.ndarray]:
    """(N,) values for each image; `called` is (N, 2), with margins and without, "" and then NaN for no answer."""
    right = np.where(called == "", np.nan, called == labels[:, None]).astype(float)
    changed = np.where((called == "").any(axis=1), np.nan, called[:, 0] != called[:, 1]).astype(float)
    return {"whole": right[:, 0], "hidden": right[:, 1], "difference": right[:, 1] - right[:, 0], "changed": changed}
