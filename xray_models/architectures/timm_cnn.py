"""Networks from timm, as `TimmWrapperForImageClassification`: the CNNs of the registry, and any other by its name."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors.torch import load_file
from timm.models.vision_transformer import Block, VisionTransformer
from torch import nn
from transformers import PreTrainedModel, TimmWrapperConfig, TimmWrapperForImageClassification

from xray_models.architectures.parts import Parts
from xray_models.recipes import Recipe
from xray_models.tasks import TaskError

_PREPROCESSING = {
    "interpolation": "bicubic",
    "crop_pct": 1.0,
    "crop_mode": "squash",
    "mean": [0.5, 0.5, 0.5],
    "std": [0.5, 0.5, 0.5],
}
_RESNET_CHANNELS = (64, 128, 256, 512)
_TRAINING_ONLY = ("AuxLogits.",)  # weights of Inception's second classifier, which only its own training used


def builder(architecture: str, **model_args: Any) -> Callable[[Sequence[str], Recipe, Path | None], PreTrainedModel]:
    """Returns a builder of a timm architecture; `model_args` go to `timm.create_model`."""

    def build(labels: Sequence[str], recipe: Recipe, weights: Path | None) -> PreTrainedModel:
        args = dict(model_args)
        if recipe.width != 1.0:
            if not architecture.startswith("resnet"):
                raise TaskError(
                    f"width is {recipe.width}; of timm's networks only a ResNet can be narrowed. Leave it at 1."
                )
            args["channels"] = [round(recipe.width * channels) for channels in _RESNET_CHANNELS]
        known = timm.get_pretrained_cfg(architecture)
        if known is not None and known.fixed_input_size:
            args["img_size"] = recipe.image_size
        settings: dict[str, Any] = {
            "architecture": architecture,
            "id2label": dict(enumerate(labels)),
            "model_args": args or None,
            "pretrained_cfg": {**_PREPROCESSING, "input_size": [3, recipe.image_size, recipe.image_size]},
        }
        try:
            model = TimmWrapperForImageClassification(TimmWrapperConfig(**settings))
        except (AssertionError, TypeError, ValueError) as error:
            raise TaskError(f"timm cannot build {architecture} for {recipe.image_size} pixels: {error}") from error
        _check_patches(architecture, model.timm_model, recipe.image_size)
        if weights is not None:
            _load_imagenet(model.timm_model, weights)
        return model

    return build


def _check_patches(name: str, network: Any, side: int) -> None:
    """Refuses an input that patches do not fill: the network would not see its edge, and heatmaps would be shifted."""
    patch = getattr(getattr(network, "patch_embed", None), "patch_size", 1)
    across = max(patch) if isinstance(patch, tuple) else patch
    if isinstance(across, int) and across > 0 and side % across:
        raise TaskError(f"image_size is {side}; {name} takes a multiple of its patches' {across} pixels.")


def check_name(name: str) -> str:
    """Returns a name that timm knows; raises `TaskError` with the nearest ones."""
    if timm.is_model(name):
        return name
    near = difflib.get_close_matches(name, timm.list_models(), n=5, cutoff=0.5)
    hint = f" Near: {', '.join(near)}." if near else ""
    raise TaskError(f"Unknown timm architecture: {name!r}.{hint} `timm.list_models()` lists all.")


def input_side(name: str) -> int:
    """Side of the square input that timm's default weights of this name were trained for, in pixels."""
    known = timm.get_pretrained_cfg(name)
    return 224 if known is None else known.input_size[-1]


def _load_imagenet(network: Any, weights: Path) -> None:
    """Loads ImageNet weights without their classifier; anything else that is missing is an error."""
    classifier = f"{network.default_cfg['classifier']}."
    state = {
        name: tensor.float()
        for name, tensor in load_file(weights).items()
        if not name.startswith((classifier, *_TRAINING_ONLY))
    }
    try:
        report = network.load_state_dict(state, strict=False)
    except RuntimeError as error:  # a tensor of another shape
        raise TaskError(f"{weights.name} does not fit this architecture or image size: {error}") from error
    missing = [
        name
        for name in report.missing_keys
        if not name.startswith(classifier) and not name.endswith("num_batches_tracked")
    ]
    if missing or report.unexpected_keys:
        wrong = (missing + list(report.unexpected_keys))[0]
        raise TaskError(f"{weights.name} does not fit this architecture; the first key that differs is {wrong}.")


def split(model: Any) -> Parts:
    """Splits a timm network at its last features that have a place.

    CNNs and Swin split at their last map; vision transformers at their last block, behind its first norm where only the
    class token goes on (`vit.split_blocks` says why); of other networks of tokens, those that pool their tokens by the
    mean split after it.
    """
    network = model.timm_model
    classifier = network.get_classifier()
    if isinstance(network, VisionTransformer) and network.global_pool == "token" and type(network.blocks[-1]) is Block:
        return Parts(_NormedBlocks(network), _ClassToken(network), classifier, prefix=2 * network.num_prefix_tokens)
    if isinstance(network, VisionTransformer):
        return Parts(_Blocks(network), _LastBlock(network), classifier, prefix=network.num_prefix_tokens)
    if getattr(network, "output_fmt", "NCHW") == "NHWC":
        return Parts(_LastFeatures(network), _PoolLast(network), classifier)
    return Parts(_Features(network), _Pool(network), classifier, prefix=getattr(network, "num_prefix_tokens", None))


class _Part(nn.Module):
    network: Any

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network


class _Features(_Part):
    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        return self.network.forward_features(pixel_values)


class _Pool(_Part):
    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return self.network.forward_head(features, pre_logits=True)


class _LastFeatures(_Part):
    """For networks whose maps have their channels last, (B, h, w, D)."""

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        return self.network.forward_features(pixel_values).permute(0, 3, 1, 2)


class _PoolLast(_Part):
    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return self.network.forward_head(features.permute(0, 2, 3, 1), pre_logits=True)


class _Blocks(_Part):
    """(B, C, H, W) to the tokens (B, prefix + h*w, D) that enter the last block."""

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        network = self.network
        tokens = network.norm_pre(network.patch_drop(network._pos_embed(network.patch_embed(pixel_values))))
        return network.blocks[:-1](tokens)


class _LastBlock(_Part):
    """Tokens (B, prefix + h*w, D) through the last block to the embedding (B, D)."""

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        tokens = self.network.norm(self.network.blocks[-1](tokens))
        return self.network.forward_head(tokens, pre_logits=True)


class _NormedBlocks(_Blocks):
    """(B, C, H, W) to the tokens without a place and, behind them, all tokens as the last block norms them."""

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        tokens = super().forward(pixel_values)
        first = tokens[:, : self.network.num_prefix_tokens]
        return torch.cat([first, self.network.blocks[-1].norm1(tokens)], dim=1)


class _ClassToken(_Part):
    """What `_NormedBlocks` gives through the rest of the last block to the class token's embedding (B, D)."""

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        block, count = self.network.blocks[-1], self.network.num_prefix_tokens
        tokens = features[:, :count] + block.ls1(block.attn(features[:, count:])[:, :count])
        tokens = tokens + block.ls2(block.mlp(block.norm2(tokens)))
        return self.network.forward_head(self.network.norm(tokens), pre_logits=True)
