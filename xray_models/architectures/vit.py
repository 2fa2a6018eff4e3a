"""Vision transformers, as the native `ViTForImageClassification`, and the split that all of their kind share."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from timm.layers import resample_abs_pos_embed
from torch import nn
from transformers import PreTrainedModel, ViTConfig, ViTForImageClassification
from transformers.models.vit.modeling_vit import ViTLayer

from xray_models.architectures.parts import Parts
from xray_models.tasks import Recipe, TaskError

_PATCH = 16  # pixels
_POSITIONS = "vit.embeddings.position_embeddings"
_RENAMES = (
    (r"^blocks\.(\d+)\.attn\.proj\.", r"vit.layers.\1.attention.o_proj."),
    (r"^blocks\.(\d+)\.norm1\.", r"vit.layers.\1.layernorm_before."),
    (r"^blocks\.(\d+)\.norm2\.", r"vit.layers.\1.layernorm_after."),
    (r"^blocks\.(\d+)\.mlp\.", r"vit.layers.\1.mlp."),
    (r"^norm\.", "vit.layernorm."),
    (r"^cls_token$", "vit.embeddings.cls_token"),
    (r"^pos_embed$", _POSITIONS),
    (r"^patch_embed\.proj\.", "vit.embeddings.patch_embeddings.projection."),
)


def builder(width: int, heads: int) -> Callable[[Sequence[str], Recipe, Path | None], PreTrainedModel]:
    """Returns a builder of a ViT with 12 blocks and patches of 16 pixels (Dosovitskiy et al., 2021).

    Args:
        width: channels of a token: 192 in ViT-Ti, 384 in ViT-S (Touvron et al., 2021), 768 in ViT-B.
        heads: of each attention.
    """

    def build(labels: Sequence[str], recipe: Recipe, weights: Path | None) -> PreTrainedModel:
        if recipe.width != 1.0 or recipe.image_size % _PATCH:
            raise TaskError(
                f"width is {recipe.width} and image_size {recipe.image_size}; a ViT has width 1 and an image_size that "
                f"is a multiple of {_PATCH}."
            )
        config = ViTConfig(
            hidden_size=width,
            num_attention_heads=heads,
            intermediate_size=4 * width,
            num_hidden_layers=12,
            image_size=recipe.image_size,
            layer_norm_eps=1e-6,
            id2label=dict(enumerate(labels)),
        )
        model = ViTForImageClassification(config)
        if weights is not None:
            _load_imagenet(model, weights, recipe.image_size // _PATCH)
        return model

    return build


def _load_imagenet(model: nn.Module, weights: Path, side: int) -> None:
    """Loads timm's ViT weights under their transformers names, without the classifier, for `side` rows of patches."""
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
    if _POSITIONS in state:
        state[_POSITIONS] = resample_abs_pos_embed(state[_POSITIONS], [side, side])
    try:
        report = model.load_state_dict(state, strict=False)
    except RuntimeError as error:  # a tensor of another shape
        raise TaskError(f"{weights.name} is a ViT of another size: {error}") from error
    wrong = [name for name in report.missing_keys if not name.startswith("classifier.")]
    wrong += report.unexpected_keys
    if wrong:
        raise TaskError(f"{weights.name} is not a ViT with patches of 16; the first key that differs is {wrong[0]}.")


def split(model: Any) -> Parts:
    """Splits a ViT before its last block: the last place where every patch token still reaches the class token."""
    return split_blocks(model.vit, model.vit.layers, model.classifier)


def split_blocks(
    network: Any, layers: nn.ModuleList, classifier: nn.Linear, prefix: int = 1, joined: bool = False
) -> Parts:
    """Splits a network of the ViT kind before its last block.

    Args:
        network: has `embeddings` and `layernorm`.
        layers: its blocks.
        classifier: its last linear layer.
        prefix: number of tokens without a place, the class token first.
        joined: whether the mean of the patches' tokens is put beside the class token, as in DINOv2's classifier.
    """
    body = _Blocks(network.embeddings, layers[:-1])
    pool = _LastBlock(layers[-1], network.layernorm, prefix if joined else 0)
    return Parts(body, pool, classifier, prefix)


class _Blocks(nn.Module):
    """(B, C, H, W) to the tokens (B, prefix + h*w, D) that enter the last block."""

    def __init__(self, embeddings: nn.Module, layers: nn.Module):
        super().__init__()
        self.embeddings, self.layers = embeddings, layers

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        tokens = self.embeddings(pixel_values)
        for layer in self.layers.children():
            tokens = layer(tokens)
        return tokens


class _LastBlock(nn.Module):
    """Tokens (B, prefix + h*w, D) through the last block to the class token's embedding (B, D).

    Where `joined` is not 0, the mean of the tokens from there on is put beside it: (B, 2 D).
    """

    def __init__(self, layer: nn.Module, norm: nn.Module, joined: int = 0):
        super().__init__()
        self.layer, self.norm, self.joined = layer, norm, joined

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        if not self.joined and isinstance(self.layer, ViTLayer) and not self.layer.training:
            return self.norm(_run_class_token(self.layer, tokens))
        tokens = self.norm(self.layer(tokens))
        if not self.joined:
            return tokens[:, 0]
        return torch.cat([tokens[:, 0], tokens[:, self.joined :].mean(dim=1)], dim=1)


def _run_class_token(layer: Any, tokens: torch.Tensor) -> torch.Tensor:
    """What a block makes of the class token, (B, D): that of `layer(tokens)[:, 0]`, without the other tokens' work.

    One query needs no key and no value of each token: q (K x) = (q K) x, and a mean of values is the value of a mean.
    The keys' bias moves all scores alike, which softmax does not see.
    """
    attention, known = layer.attention, layer.layernorm_before(tokens)
    split_heads = (-1, attention.head_dim)
    key, value = (part.weight.unflatten(0, split_heads) for part in (attention.k_proj, attention.v_proj))  # (h, d, D)
    query = attention.q_proj(known[:, 0]).unflatten(-1, split_heads)  # (B, h, d)
    scores = torch.einsum("bhd,hdc,bnc->bhn", query, key, known) * attention.scaling
    heard = torch.einsum("bhn,bnc,hdc->bhd", scores.softmax(dim=-1), known, value).flatten(1)
    if attention.v_proj.bias is not None:
        heard = heard + attention.v_proj.bias
    token = tokens[:, 0] + attention.o_proj(heard)
    return token + layer.mlp(layer.layernorm_after(token))
