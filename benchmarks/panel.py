"""A reading with a heatmap of every model, against what a user would pick instead: `python -m benchmarks.panel`.

Six untrained networks (the time does not depend on the weights) read one large JPEG: by this project's panel, on torch
and on OpenVINO, and one by one, by the pipelines of transformers and pytorch-grad-cam. In turns, in one run; medians
with spread. Also what the bare forwards of the bodies take. Needs one package more: `pip install grad-cam`.
"""

from __future__ import annotations

import sys

if __name__ == "__main__":  # answers --help before what follows is imported
    from benchmarks.commands import panel

    sys.exit(panel())

import dataclasses
import json
import platform
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from PIL import Image
from pytorch_grad_cam import GradCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import nn
from transformers import pipeline

from xray_models import attribution, phantom
from xray_models.architectures import build_model, split_model
from xray_models.calibration import fit_reference
from xray_models.checkpoints import save_checkpoint
from xray_models.images import read_image, to_input
from xray_models.panel import Panel
from xray_models.tasks import ModelRef, Recipe, load_task

CNNS = ("resnet18", "mobilenet_v2", "densenet121", "efficientnet_b0", "xception")
MODELS = (*CNNS, "vit_tiny")
SIZE = (2304, 2880)  # rows, columns of the JPEG
MAP = 320  # pixels of a map's longer side, as the page shows it; more than the other way's, which is its input's
RESULTS = Path(__file__).parent / "results"


def build_panel(folder: Path) -> Any:
    """Writes the networks' checkpoints and returns the task that names them."""
    task = load_task("phantom")
    rng, refs = np.random.default_rng(0), []
    for name in MODELS:
        torch.manual_seed(0)
        model, spec = build_model(name, task.labels, Recipe())
        parts = split_model(model.eval())
        with torch.inference_mode():
            width = parts.pool(parts.body(torch.zeros(1, 3, spec.height, spec.width))).shape[1]
        reference = fit_reference(rng.normal(size=(384, width)), rng.normal(size=(100, width)))
        save_checkpoint(model, spec, folder / name, {"conformal_threshold": 0.2}, reference)
        refs.append(ModelRef(name, checkpoint=str(folder / name)))

    return dataclasses.replace(task, models=tuple(refs))


def draw_jpeg(path: Path) -> Path:
    """Writes a phantom, enlarged, as a JPEG."""
    pixels = phantom.draw_phantom("Nodule", 1, size=1024).pixels
    small = (pixels >> 8 if pixels.dtype == np.uint16 else pixels).astype(np.uint8)
    Image.fromarray(small).resize(SIZE[::-1], Image.Resampling.BICUBIC).save(path, quality=92)
    return path


def read_ours(panel: Panel, path: Path) -> None:
    """Decode, opinions, consensus, and every model's Grad-CAM from the same features."""
    image, features = read_image(path), {}
    for opinion in list(panel.ask(image, features)):
        member = panel.checkpoints[opinion.model]
        heatmap = attribution.explain(member, image, str(opinion.label), "grad_cam", features[opinion.model])
        heatmap.lay((SIZE[0] * MAP // max(SIZE), SIZE[1] * MAP // max(SIZE)))


class Separate:
    """Each model on its own, as a user would have it: transformers' pipeline, and pytorch-grad-cam on the same file."""

    def __init__(self, folder: Path):
        self.members = []
        for name in MODELS:
            asked = pipeline("image-classification", str(folder / name), device="cpu")
            layers = dict(asked.model.named_modules())
            if name in CNNS:
                target, turn = [layer for layer in layers.values() if isinstance(layer, nn.BatchNorm2d)][-1], None
            else:  # as pytorch-grad-cam's documentation has it for a ViT
                target, turn = [layer for key, layer in layers.items() if key.endswith("layernorm_before")][-1], _to_map
            cam = GradCAM(_Logits(asked.model), [target], reshape_transform=turn)
            self.members.append((asked, cam))

    def read(self, path: Path) -> None:
        """One pipeline call and one Grad-CAM for each model."""
        for asked, cam in self.members:
            label = asked(str(path), top_k=1)[0]["label"]
            picture = Image.open(path).convert("RGB")
            inputs = asked.image_processor(picture, return_tensors="pt")["pixel_values"]
            cam(inputs, [ClassifierOutputTarget(asked.model.config.label2id[label])])


def _to_map(tokens: torch.Tensor) -> torch.Tensor:
    """(1, 1 + s * s, C) tokens as a (1, C, s, s) map, without the class token."""
    side = round((tokens.shape[1] - 1) ** 0.5)
    return tokens[:, 1:].unflatten(1, (side, side)).permute(0, 3, 1, 2)


class _Logits(nn.Module):
    """A transformers model whose output is its logits, as pytorch-grad-cam wants it."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.model(pixel_values=inputs).logits


def run_bare(panel: Panel, inputs: dict[str, torch.Tensor]) -> None:
    """The bodies' forwards and nothing else."""
    with torch.inference_mode():
        for name, member in panel.checkpoints.items():
            member.forward.body(inputs[name])


def measure(ways: dict[str, Callable[[], None]], rounds: int = 7) -> dict[str, dict[str, float]]:
    """Milliseconds of each way, in turns: median, fastest, slowest."""
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for work in ways.values():
        work()
    for _ in range(rounds):
        for name, work in ways.items():
            start = time.perf_counter()
            work()
            taken[name].append(1000 * (time.perf_counter() - start))
    return {
        name: {"median": round(float(np.median(t)), 1), "low": round(min(t), 1), "high": round(max(t), 1)}
        for name, t in taken.items()
    }


def run() -> None:
    """Measures, prints a table and writes `results/panel.json`."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        task, path = build_panel(root), draw_jpeg(root / "large.jpg")
        panels = {engine: Panel.load(task, device="cpu", engine=engine) for engine in ("torch", "auto")}
        image = read_image(path)
        separate = Separate(root)
        ways: dict[str, Callable[[], None]] = {"separate": lambda: separate.read(path)}
        for engine, panel in panels.items():
            inputs = {name: to_input(image, member.spec)[None] for name, member in panel.checkpoints.items()}
            ways[f"panel, {engine}"] = lambda panel=panel: read_ours(panel, path)
            ways[f"bare forwards, {engine}"] = lambda panel=panel, inputs=inputs: run_bare(panel, inputs)
        ways["decode"] = lambda: None if read_image(path) else None
        found = measure(ways)
        engines = panels["auto"].engines
    other = found["separate"]["median"]
    for name, times in found.items():
        ratio = f"{other / times['median']:6.1f} x" if name.startswith("panel") else ""
        print(f"{name:24} {times['median']:8.1f} ms  ({times['low']:.1f} to {times['high']:.1f})  {ratio}")
    for engine in panels:
        rest = found[f"panel, {engine}"]["median"] - found["decode"]["median"]
        print(
            f"{engine}: without decoding {rest / found[f'bare forwards, {engine}']['median']:.2f} x the bare forwards"
        )
    machine = {"processor": platform.processor() or platform.machine(), "threads": torch.get_num_threads()}
    versions = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }
    record = {"milliseconds": found, "engines": engines, "machine": machine, "versions": versions}
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "panel.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
