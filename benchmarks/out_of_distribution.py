"""How well a panel tells foreign images from its own: AUROC of its distance to the training images.

    python -m benchmarks.out_of_distribution --task covid

Foreign to a task: the other tasks' test images of another body part, photographs, noise and blank images. The score
of an image is the mean over the models of its distance, relative to each model's own threshold.
"""

from __future__ import annotations

import sys

if __name__ == "__main__":  # answers --help before what follows is imported
    from benchmarks.commands import out_of_distribution

    sys.exit(out_of_distribution())

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_sample_images
from sklearn.metrics import roc_auc_score

from xray_models import datasets
from xray_models.calibration import neighbour_distance
from xray_models.images import ImageError, Radiograph, from_pixels, read_image, to_input
from xray_models.panel import Panel
from xray_models.tasks import load_task

CHEST = ("covid", "pneumonia")
OTHERS = {"covid": ("brain", "fracture"), "pneumonia": ("brain", "fracture")}
COUNT = 150  # images of each kind


def collect_foreign(task: str, data: Path) -> dict[str, list[Radiograph]]:
    """Foreign images by kind, (H, W) each."""
    rng = np.random.default_rng(0)
    found: dict[str, list[Radiograph]] = {}
    for other in OTHERS.get(task, CHEST + tuple({"brain", "fracture"} - {task})):
        rows = datasets.open_dataset(load_task(other), data / other).part("test")
        found[other] = list(_read(rows["path"].sample(min(COUNT, len(rows)), random_state=0)))
    photographs = [np.asarray(photo).mean(axis=2).astype(np.uint8) for photo in load_sample_images().images]
    found["photographs (crops)"] = [from_pixels(_crop(photographs[i % 2], rng)) for i in range(60)]
    found["noise"] = [from_pixels(rng.integers(0, 256, (224, 224), dtype=np.uint8)) for _ in range(30)]
    found["blank"] = [from_pixels(np.full((224, 224), value, np.uint8)) for value in range(0, 256, 16)]
    return found


def _read(paths: list[str]) -> Iterator[Radiograph]:
    for path in paths:
        try:
            yield read_image(path)
        except ImageError as error:
            print(f"left out: {error}")


def _crop(photo: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    side = int(rng.integers(160, 400))
    row, column = (int(rng.integers(0, length - side + 1)) for length in photo.shape)
    return np.ascontiguousarray(photo[row : row + side, column : column + side])


@torch.inference_mode()
def measure_strangeness(panel: Panel, images: list[Radiograph]) -> np.ndarray:
    """Mean over the models of the distance relative to the model's threshold: (N,), above 1 is foreign."""
    scores = []
    for model in panel.checkpoints.values():
        if model.reference is None:
            continue
        distances = []
        for start in range(0, len(images), 32):
            inputs = torch.stack([to_input(image, model.spec) for image in images[start : start + 32]])
            embeddings = model.parts.pool(model.parts.body(inputs)).float().numpy()
            distances.append(neighbour_distance(embeddings, model.reference.embeddings))
        scores.append(np.concatenate(distances) / model.reference.threshold)
    return np.mean(scores, axis=0)


def run(options: argparse.Namespace) -> None:
    """Prints one line a kind, and writes the same as JSON with --out."""
    task = load_task(options.task)
    panel = Panel.load(task, device="cpu")
    rows = datasets.open_dataset(task, options.data / task.name).part("test")
    own = measure_strangeness(panel, list(_read(rows["path"].sample(min(400, len(rows)), random_state=0))))
    print(f"own test images: {np.mean(own > 1):.1%} refused (n = {len(own)})")
    result = {}
    for kind, images in collect_foreign(task.name, options.data).items():
        foreign = measure_strangeness(panel, images)
        area = roc_auc_score(np.r_[np.zeros(len(own)), np.ones(len(foreign))], np.r_[own, foreign])
        result[kind] = {"auroc": round(float(area), 4), "refused": float(np.mean(foreign > 1)), "n": len(foreign)}
        print(f"{kind:22s} AUROC {area:.4f}, refused {np.mean(foreign > 1):.1%} (n = {len(foreign)})")
    if options.out:
        options.out.write_text(json.dumps({"task": task.name, "kinds": result}, indent=1) + "\n", encoding="utf-8")
