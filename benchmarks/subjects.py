"""What is measured: panels of untrained networks, as fast as trained ones on the same engine, and drawn images."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from xray_models import phantom
from xray_models.architectures import build_model, split_model
from xray_models.calibration import fit_reference
from xray_models.checkpoints import save_checkpoint
from xray_models.recipes import Recipe
from xray_models.tasks import ModelRef, Task, load_task

CNNS = ("resnet18", "mobilenet_v2", "densenet121", "efficientnet_b0", "xception")
MODELS = (*CNNS, "vit_tiny")
SIX = {name: name for name in MODELS}


def build_panel(folder: Path, models: Mapping[str, str] = SIX, recipe: Recipe | None = None) -> Task:
    """Writes the networks' checkpoints and returns the task that names them.

    Args:
        folder: where to.
        models: name of each model to its architecture.
        recipe: its `image_size` and `width` shape the networks.
    """
    task = load_task("phantom")
    rng, refs = np.random.default_rng(0), []
    for seed, (name, architecture) in enumerate(models.items()):
        torch.manual_seed(seed)
        model, spec = build_model(architecture, task.labels, recipe or Recipe())
        parts = split_model(model.eval())
        with torch.inference_mode():
            width = parts.pool(parts.body(torch.zeros(1, 3, spec.height, spec.width))).shape[1]
        reference = fit_reference(rng.normal(size=(384, width)), rng.normal(size=(100, width)))
        save_checkpoint(model, spec, folder / name, {"conformal_threshold": 0.2}, reference)
        refs.append(ModelRef(name, checkpoint=str(folder / name)))
    return dataclasses.replace(task, models=tuple(refs))


def draw_images(folder: Path, count: int, size: int) -> pd.DataFrame:
    """Writes phantoms as PNG files.

    Args:
        folder: where to.
        count: how many.
        size: pixels of a side.

    Returns:
        What scoring wants to know of them, path, label and group, in the order in which they were drawn: any first
        part has every label about as often.
    """
    drawn = phantom.write_dataset(folder, count, size=size)
    paths = sorted((path for label in phantom.LABELS for path in (drawn / label).iterdir()), key=lambda path: path.name)
    labels = [path.parent.name for path in paths]
    return pd.DataFrame({"path": [str(path) for path in paths], "label": labels, "group": range(len(paths))})
