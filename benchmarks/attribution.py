"""How long a heatmap takes: `python -m benchmarks.attribution [--models M ...] [--rounds R]`.

Every method of `xray_models.attribution` on one drawn image, in turns, in one run; medians with spread:

    captum      plain Captum on the whole model, with its defaults: Grad-CAM and HiResCAM with a forward that keeps its
                graph, Integrated Gradients with the same steps and GradientShap and SmoothGrad with as many draws, each
                in one batch, Occlusion with the same squares one by one
    torch       this project's `explain` with bodies on torch
    auto        the same with bodies on OpenVINO, where a method needs no gradient of the body
    kept        the same from features that the reading has kept, where a method needs no more than those

Every way begins with the image in memory. For each also how far its map is from Captum's: the largest difference, as a
share of the largest value. The scores of an untrained network hardly move, so that an engine's rounding weighs more
here than with a trained one. Captum's draws are its own: those of GradientShap and SmoothGrad are not compared.
"""

from __future__ import annotations

import sys

if __name__ == "__main__":  # answers --help before what follows is imported
    from benchmarks.commands import attribution

    sys.exit(attribution())

import argparse
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from captum.attr import (
    GradientShap,
    IntegratedGradients,
    LayerGradCam,
    LayerGradientXActivation,
    NoiseTunnel,
    Occlusion,
    Saliency,
)
from torch import nn

from benchmarks.measuring import (
    clock,
    compare,
    describe_machine,
    format_spread,
    list_versions,
    summarise_all,
    take_turns,
    write_record,
)
from benchmarks.subjects import build_panel
from xray_models import phantom
from xray_models.architectures import Parts
from xray_models.attribution import DRAWS, METHODS, NOISE, STEPS, WINDOW, explain
from xray_models.checkpoints import Checkpoint, load_checkpoint
from xray_models.images import Radiograph, from_pixels, to_input
from xray_models.panel import Panel
from xray_models.recipes import Recipe

CAMS = ("grad_cam", "hires_cam")
DRAWN = ("gradient_shap", "smooth_grad")  # whose draws are not Captum's
FORWARD_ONLY = (*CAMS, "occlusion")  # what needs no gradient of the body, and so runs on any engine
SIZE = 512  # pixels of the image's side


class Whole(nn.Module):
    """A whole model, from pixels to logits; Captum hooks `entry`, where its last features lie as a map."""

    def __init__(self, parts: Parts):
        super().__init__()
        self.parts, self.entry = parts, nn.Identity()

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) to (B, K)."""
        grid, prefix = self.parts.to_map(self.parts.body(pixels))
        return self.parts.head(self.parts.from_map(self.entry(grid), prefix))


def ask_captum(model: Checkpoint, image: Radiograph, target: int, method: str) -> np.ndarray:
    """A map by Captum alone, as its documentation has it, (h', w').

    Args:
        model: freshly loaded: its weights ask for gradients.
        image: the image.
        target: number of the label.
        method: a key of `METHODS`.
    """
    inputs = to_input(image, model.spec)[None]
    mean, std = (torch.tensor(numbers).view(1, -1, 1, 1) for numbers in (model.spec.mean, model.spec.std))
    plain = ((torch.linspace(0, 1, DRAWS).view(-1, 1, 1, 1) - mean) / std).expand(-1, -1, *inputs.shape[2:])
    if method in CAMS:
        assert isinstance(model.parts, Parts)
        whole = Whole(model.parts)
        if method == "grad_cam":
            found = LayerGradCam(whole, whole.entry).attribute(inputs, target, relu_attributions=True)
        else:
            found = LayerGradientXActivation(whole, whole.entry).attribute(inputs, target).sum(dim=1, keepdim=True)
            found = found.relu()
    elif method == "integrated_gradients":
        found = IntegratedGradients(_logits_of(model)).attribute(inputs, plain[:1], target, n_steps=STEPS)
        found = found.sum(dim=1, keepdim=True)
    elif method == "gradient_shap":
        found = GradientShap(_logits_of(model)).attribute(inputs, plain, n_samples=DRAWS, target=target)
        found = found.sum(dim=1, keepdim=True)
    elif method == "smooth_grad":
        spread = NOISE * float(inputs.max() - inputs.min())
        tunnel = NoiseTunnel(Saliency(_logits_of(model)))
        found = tunnel.attribute(inputs, "smoothgrad", DRAWS, stdevs=spread, target=target, abs=False)
        found = found.sum(dim=1, keepdim=True).abs()
    else:
        _, channels, height, width = inputs.shape
        window = (channels, height // WINDOW, width // WINDOW)
        strides = (channels, window[1] // 2, window[2] // 2)
        grey = inputs.mean(dim=(2, 3), keepdim=True).expand_as(inputs)
        with torch.no_grad():
            found = Occlusion(_logits_of(model)).attribute(inputs, window, strides, grey, target)
    return found[0, 0].detach().numpy()


def _logits_of(model: Checkpoint) -> Callable[[torch.Tensor], torch.Tensor]:
    return lambda pixels: model.model(pixel_values=pixels).logits


def list_ways(name: str, panels: dict[str, Panel], image: Radiograph) -> dict[str, Callable[[], np.ndarray]]:
    """Every way to each of one model's maps, by "<method>, <way>"."""
    task = panels["torch"].task
    plain = load_checkpoint(task, task.model(name))
    kept: dict[str, Any] = {}
    opinions = {opinion.model: opinion for opinion in panels["auto"].ask(image, kept)}
    label = str(opinions[name].label)
    target = task.labels.index(label)
    ways: dict[str, Callable[[], np.ndarray]] = {}
    for method in METHODS:
        ways[f"{method}, captum"] = partial(ask_captum, plain, image, target, method)
        for engine, panel in panels.items():
            if engine == "torch" or method in FORWARD_ONLY:
                ways[f"{method}, {engine}"] = partial(_explain, panel.checkpoints[name], image, label, method)
        if method in CAMS:
            member = panels["auto"].checkpoints[name]
            ways[f"{method}, kept"] = partial(_explain, member, image, label, method, kept[name])
    return ways


def _explain(model: Checkpoint, image: Radiograph, label: str, method: str, features: Any = None) -> np.ndarray:
    return explain(model, image, label, method, features).plane


def differ(ours: np.ndarray, theirs: np.ndarray) -> float:
    """The largest difference of two maps of one shape, as a share of the second's largest value."""
    largest = float(np.abs(theirs).max())
    difference = float(np.abs(ours - theirs).max())
    return round(difference / largest, 5) if largest else difference


def run(options: argparse.Namespace) -> None:
    """Measures, prints a table and writes `attribution.json`."""
    machine = describe_machine()
    image = from_pixels(phantom.draw_phantom("Nodule", 1, size=SIZE).pixels)
    ways: dict[str, Callable[[], np.ndarray]] = {}
    with tempfile.TemporaryDirectory() as folder:
        task = build_panel(Path(folder), {name: name for name in options.models}, Recipe(image_size=options.image_size))
        panels = {engine: Panel.load(task, device="cpu", engine=engine) for engine in ("torch", "auto")}
        for name in options.models:
            ways |= {f"{name}, {way}": work for way, work in list_ways(name, panels, image).items()}
        maps = {way: work() for way, work in ways.items()}  # a first call each, which is not measured
        taken = take_turns({way: clock(work) for way, work in ways.items()}, options.rounds, warm=False)
    taken = {way: [1000 * seconds for seconds in each] for way, each in taken.items()}
    found, faster, difference = summarise_all(taken), {}, {}
    for way, spread in found.items():
        plain = f"{way.rpartition(', ')[0]}, captum"
        if way != plain:
            faster[way] = compare(taken[plain], taken[way])
            if way.split(", ")[1] not in DRAWN:
                difference[way] = differ(maps[way], maps[plain])
        said = f"{faster[way]['median']:7.1f} x" if way in faster else ""
        said += f"  map differs by {difference[way]:.4f}" if way in difference else ""
        print(f"{way:40} {format_spread(spread):32} ms {said}")
    settings = {"models": options.models, "rounds": options.rounds, "image_size": options.image_size, "size": SIZE}
    record = {"milliseconds": found, "times_as_fast_as_captum": faster, "difference": difference, "settings": settings}
    record |= {"engines": dict(panels["auto"].engines), "machine": machine}
    write_record("attribution", record | {"versions": list_versions("captum", "transformers", "openvino")}, options.out)
