"""CNNs from timm, as `TimmWrapperForImageClassification`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import nn
from transformers import PreTrainedModel, TimmWrapperConfig, TimmWrapperForImageClassification

from xray_models.architectures.parts import Parts
from xray_models.tasks import Recipe, TaskError

_PREPROCESSING = {
    "interpolation": "bicubic",
    "crop_pct": 1.0,
    "crop_mode": "squash",
    "mean": [0.5, 0.5, 0.5],
    "std": [0.5, 0.5, 0.5],
}
_RESNET_CHANNELS = (64, 128, 256, 512)


def builder(architecture: str, **model_args: Any) -> Callable[[Sequence[str], Recipe, Path | None], PreTrainedModel]:
    """Returns a builder of a timm architecture; `model_args` go to `timm.create_model`."""

    def build(labels: Sequence[str], recipe: Recipe, weights: Path | None) -> PreTrainedModel:
        args = dict(model_args)
        if recipe.width != 1.0:
            if not architecture.startswith("resnet"):
                raise TaskError(
                    f"width is {recipe.width}; of timm's CNNs only a ResNet can be narrowed. Leave it at 1."
                )
            args["channels"] = [round(recipe.width * channels) for channels in _RESNET_CHANNELS]
        settings: dict[str, Any] = {
            "architecture": architecture,
            "id2label": dict(enumerate(labels)),
            "model_args": args or None,
            "pretrained_cfg": {**_PREPROCESSING, "input_size": [3, recipe.image_size, recipe.image_size]},
        }
        model = TimmWrapperForImageClassification(TimmWrapperConfig(**settings))
        if weights is not None:
            _load_imagenet(model.timm_model, weights)
        return model

    return build


def _load_imagenet(network: Any, weights: Path) -> None:
    """Loads ImageNet weights without their classifier; anything else that is missing is an error."""
    state = {name: tensor.float() for name, tensor in load_file(weights).items()}
    classifier = network.default_cfg["classifier"]
    state = {name: tensor for name, tensor in state.items() if not name.startswith(f"{classifier}.")}
    report = network.load_state_dict(state, strict=False)
    missing = [
        name
        for name in report.missing_keys
        if not name.startswith(f"{classifier}.") and not name.endswith("num_batches_tracked")
    ]
    if missing or report.unexpected_keys:
        wrong = (missing + list(report.unexpected_keys))[0]
        raise TaskError(f"{weights.name} does not fit this architecture; the first key that differs is {wrong}.")


def split(model: Any) -> Parts:
    """Splits a timm CNN at its last feature map."""
    network = model.timm_model
    return Parts(_Features(network), _Pool(network), network.get_classifier())


class _Features(nn.Module):
    network: Any

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        return self.network.forward_features(pixel_values)


class _Pool(nn.Module):
    network: Any

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return self.network.forward_head(features, pre_logits=True)
