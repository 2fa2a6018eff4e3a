"""Proof that a network that nobody has tried yet splits into parts that compute what it computes."""

from __future__ import annotations

import torch
from torch import nn
from transformers import PreTrainedModel

from xray_models.architectures.parts import Parts
from xray_models.images import InputSpec
from xray_models.tasks import TaskError


def check_split(model: PreTrainedModel, parts: Parts, spec: InputSpec, name: str) -> None:
    """Runs a model and its parts on one random input.

    Args:
        model: a network.
        parts: its parts.
        spec: the input that it will take.
        name: what people call it.

    Raises:
        TaskError: when its last layer is not linear, it does not take that input, or its parts have no map, differ
            from the model, or have no place that moves a score.
    """
    if not isinstance(parts.classifier, nn.Linear):
        kind = type(parts.classifier).__name__
        raise TaskError(f"{name} ends in {kind}, not in one linear layer, into which a temperature can be folded.")
    if parts.prefix is not None and spec.height != spec.width:
        raise TaskError(
            f"{name} takes tokens of an input of {spec.height} x {spec.width} pixels. Their places are known for a "
            "square alone. Take another architecture."
        )
    source = torch.Generator().manual_seed(0)
    inputs = torch.rand(1, len(spec.mean), spec.height, spec.width, generator=source)
    training = model.training
    model.eval()
    try:
        reason = _find_fault(model, parts, inputs.to(model.device))
    except (RuntimeError, ValueError, TypeError, AssertionError) as error:
        raise TaskError(f"{name} does not run on {spec.height} x {spec.width} pixels: {error}") from error
    finally:
        model.train(training)
    if reason:
        raise TaskError(f"{name} cannot be split for heatmaps: {reason} Take another architecture.")


def _find_fault(model: PreTrainedModel, parts: Parts, inputs: torch.Tensor) -> str:
    with torch.no_grad():
        logits = model(pixel_values=inputs).logits
        features = parts.body(inputs)
    tokens = parts.prefix is not None
    if not isinstance(features, torch.Tensor) or features.ndim != (3 if tokens else 4):
        shape = tuple(features.shape) if isinstance(features, torch.Tensor) else type(features).__name__
        return f"its last features are {shape}, neither a map (B, D, h, w) nor tokens with a known class token."
    places = features.shape[1] - (parts.prefix or 0)
    if tokens and round(places**0.5) ** 2 != places:
        return f"its {places} tokens are not the places of a square."
    grid, prefix = parts.to_map(features)
    grid = grid.detach().clone().requires_grad_()
    embedding = parts.pool(parts.from_map(grid, prefix))
    if not torch.allclose(parts.classifier(embedding), logits, atol=1e-4, rtol=1e-4):
        return "its parts give other logits than the whole."
    weights = torch.linspace(-1, 1, embedding.numel(), device=embedding.device).reshape(embedding.shape)
    (gradient,) = torch.autograd.grad((embedding * weights).sum(), grid)
    return "" if gradient.abs().max() > 0 else "what it classifies does not depend on the places of its last features."
