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
from transformers.models.vit.modeling_vit import ViTAttention

from xray_models.architectures.parts import Parts
from xray_models.recipes import Recipe
from xray_models.tasks import TaskError

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
    """Splits a ViT in its last block, behind its first norm: where the class token gathers from every patch token."""
    return split_blocks(model.vit, model.vit.layers, model.classifier)


def split_blocks(
    network: Any, layers: nn.ModuleList, classifier: nn.Linear, prefix: int = 1, joined: bool = False
) -> Parts:
    """Splits a network of the ViT kind at its last block.

    Behind that block's first norm, if the class token is all that goes on from there; its own token before the norm,
    which goes around it, comes first among the features. Before the norm, gradient times activation says nothing of a
    patch: the block sees it through the norm alone, which no factor moves, so that the sum over a token's channels is 0
    but for rounding and the norm's epsilon (Euler's theorem). If the patches' tokens go on, too, the split is before
    the block.

    Args:
        network: has `embeddings` and `layernorm`.
        layers: its blocks.
        classifier: its last linear layer.
        prefix: number of tokens without a place, the class token first.
        joined: whether the mean of the patches' tokens is put beside the class token, as in DINOv2's classifier.
    """
    last: Any = layers[-1]
    if joined:
        body = _Blocks(network.embeddings, layers[:-1])
        return Parts(body, _LastBlock(last, network.layernorm, prefix), classifier, prefix)
    body = _Blocks(network.embeddings, layers[:-1], last.layernorm_before)
    return Parts(body, _ClassToken(last, network.layernorm), classifier, 1 + prefix)


class _Blocks(nn.Module):
    """(B, C, H, W) to the tokens (B, prefix + h*w, D) that enter the last block.

    With that block's first norm, to the class token and behind it all normed tokens: (B, 1 + prefix + h*w, D).
    """

    def __init__(self, embeddings: nn.Module, layers: nn.Module, norm: nn.Module | None = None):
        super().__init__()
        self.embeddings, self.layers, self.norm = embeddings, layers, norm

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        tokens = self.embeddings(pixel_values)
        for layer in self.layers.children():
            tokens = layer(tokens)
        return tokens if self.norm is None else torch.cat([tokens[:, :1], self.norm(tokens)], dim=1)


class _LastBlock(nn.Module):
    """Tokens (B, prefix + h*w, D) through the last block to the class token and the patches' mean, (B, 2 D)."""

    def __init__(self, layer: nn.Module, norm: nn.Module, prefix: int):
        super().__init__()
        self.layer, self.norm, self.prefix = layer, norm, prefix

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        tokens = self.norm(self.layer(tokens))
        return torch.cat([tokens[:, 0], tokens[:, self.prefix :].mean(dim=1)], dim=1)


class _ClassToken(nn.Module):
    """The class token and all normed tokens, (B, 1 + prefix + h*w, D), to the class token's embedding (B, D)."""

    def __init__(self, layer: Any, norm: nn.Module):
        super().__init__()
        self.layer, self.norm = layer, norm

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        token, known = features[:, 0], features[:, 1:]
        token = token + _attend(self.layer.attention, known)
        return self.norm(token + self.layer.mlp(self.layer.layernorm_after(token)))


def _attend(attention: Any, known: torch.Tensor) -> torch.Tensor:
    """What the first of the normed tokens (B, N, D) gathers from all of them, (B, D).

    Of ViT's own attention without the other tokens' work: one query needs no key and no value of each token, since
    q (K x) = (q K) x, and a mean of values is the value of a mean. The keys' bias moves all scores alike, which softmax
    does not see.
    """
    if not isinstance(attention, ViTAttention):
        return attention(known)[0][:, 0]
    split_heads = (-1, attention.head_dim)
    key, value = (part.weight.unflatten(0, split_heads) for part in (attention.k_proj, attention.v_proj))  # (h, d, D)
    query = attention.q_proj(known[:, 0]).unflatten(-1, split_heads)  # (B, h, d)
    scores = torch.einsum("bhd,hdc,bnc->bhn", query, key, known) * attention.scaling
    heard = torch.einsum("bhn,bnc,hdc->bhd", scores.softmax(dim=-1), known, value).flatten(1)
    if attention.v_proj.bias is not None:
        heard = heard + attention.v_proj.bias
    return attention.o_proj(heard)
