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

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from PIL import Image
from pytorch_grad_cam import GradCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import nn
from transformers import pipeline

from benchmarks.measuring import clock, describe_machine, list_versions, summarise_all, take_turns, write_record
from benchmarks.subjects import CNNS, MODELS, build_panel
from xray_models import attribution, phantom
from xray_models.images import read_image, to_input
from xray_models.panel import Panel

SIZE = (2304, 2880)  # rows, columns of the JPEG
MAP = 320  # pixels of a map's longer side, as the page shows it; more than the other way's, which is its input's


def draw_jpeg(path: Path) -> Path:
    """Writes a phantom, enlarged, as a JPEG."""
    small = phantom.draw_phantom("Nodule", 1, size=1024).pixels  # uint8
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


def run(options: argparse.Namespace) -> None:
    """Measures, prints a table and writes `panel.json`."""
    machine = describe_machine()
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
        taken = take_turns({name: clock(work) for name, work in ways.items()}, options.rounds)
        found = summarise_all({name: [1000 * seconds for seconds in each] for name, each in taken.items()})
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
    settings = {"rounds": options.rounds, "size": SIZE, "map": MAP}
    record = {"milliseconds": found, "engines": engines, "settings": settings, "machine": machine}
    write_record("panel", record | {"versions": list_versions("transformers", "openvino")}, options.out)
