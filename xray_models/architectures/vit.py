"""Vision transformers, as the native `ViTForImageClassification`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import nn
from transformers import PreTrainedModel, ViTConfig, ViTForImageClassification

from xray_models.architectures.parts import Parts
from xray_models.tasks import Recipe, TaskError

_RENAMES = (
    (r"^blocks\.(\d+)\.attn\.proj\.", r"vit.layers.\1.attention.o_proj."),
    (r"^blocks\.(\d+)\.norm1\.", r"vit.layers.\1.layernorm_before."),
    (r"^blocks\.(\d+)\.norm2\.", r"vit.layers.\1.layernorm_after."),
    (r"^blocks\.(\d+)\.mlp\.", r"vit.layers.\1.mlp."),
    (r"^norm\.", "vit.layernorm."),
    (r"^cls_token$", "vit.embeddings.cls_token"),
    (r"^pos_embed$", "vit.embeddings.position_embeddings"),
    (r"^patch_embed\.proj\.", "vit.embeddings.patch_embeddings.projection."),
)


def build_tiny(labels: Sequence[str], recipe: Recipe, weights: Path | None) -> PreTrainedModel:
    """Builds ViT-Ti/16 (Touvron et al., 2021): 12 blocks, 3 heads, 192 channels, 224 pixels."""
    if recipe.width != 1.0 or recipe.image_size != 224:
        raise TaskError(
            f"width is {recipe.width} and image_size {recipe.image_size}; ViT-Ti/16 has width 1 and 224 pixels."
        )
    config = ViTConfig(
        hidden_size=192,
        num_attention_heads=3,
        intermediate_size=768,
        num_hidden_layers=12,
        layer_norm_eps=1e-6,
        id2label=dict(enumerate(labels)),
    )
    model = ViTForImageClassification(config)
    if weights is not None:
        _load_imagenet(model, weights)
    return model


def _load_imagenet(model: nn.Module, weights: Path) -> None:
    """Loads timm's ViT weights under their transformers names, without the classifier."""
    state: dict[str, torch.Tensor] = {}
    for name, tensor in load_file(weights).items():
        if name.startswith("head."):
            continue
        fused = re.match(r"^blocks\.(\d+)\.attn\.qkv\.(\w+)$", name)
        if fused:
            for part, chunk in zip("qkv", tensor.float().chunk(3), strict=True):
                state[f"vit.layers.{fused[1]}.attention.{part}_proj.{fused[2]}"] = chunk
            continue
        for pattern, replacement in _RENAMES:
            name = re.sub(pattern, replacement, name)
        state[name] = tensor.float()
    report = model.load_state_dict(state, strict=False)
    wrong = [name for name in report.missing_keys if not name.startswith("classifier.")]
    wrong += report.unexpected_keys
    if wrong:
        raise TaskError(f"{weights.name} is not a ViT-Ti/16; the first key that differs is {wrong[0]}.")


def split(model: Any) -> Parts:
    """Splits a ViT before its last block: the last place where every patch token still reaches the class token."""
    return Parts(_Blocks(model), _LastBlock(model), model.classifier, prefix=1)


class _Blocks(nn.Module):
    """(B, C, H, W) to the tokens (B, 1 + h*w, D) that enter the last block."""

    model: Any

    def __init__(self, model: PreTrainedModel):
        super().__init__()
        self.model = model

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        tokens = self.model.vit.embeddings(pixel_values)
        for layer in self.model.vit.layers[:-1]:
            tokens = layer(tokens)
        return tokens


class _LastBlock(nn.Module):
    """Tokens (B, 1 + h*w, D) through the last block to the class token's embedding (B, D)."""

    model: Any

    def __init__(self, model: PreTrainedModel):
        super().__init__()
        self.model = model

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.model.vit.layernorm(self.model.vit.layers[-1](tokens))[:, 0]
