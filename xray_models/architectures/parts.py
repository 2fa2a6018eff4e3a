"""The three parts of a classifier, shared by every architecture."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import nn


class Parts(NamedTuple):
    """A classifier split where its features still have a place in the image.

    Attributes:
        body: (B, C, H, W) input to features: a map (B, D, h, w), or tokens (B, prefix + h*w, D).
        pool: features to the embedding (B, D').
        classifier: the last linear layer, (B, D') to logits (B, labels).
        prefix: number of tokens without a place (class token); None where the features are a map.
    """

    body: nn.Module
    pool: nn.Module
    classifier: nn.Linear
    prefix: int | None = None

    def head(self, features: torch.Tensor) -> torch.Tensor:
        """Features to logits (B, labels)."""
        return self.classifier(self.pool(features))

    def to_map(self, features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Splits features into a map (B, D, h, w) and the tokens without a place, (B, prefix, D) or None."""
        if self.prefix is None:
            return features, None
        tokens = features[:, self.prefix :]  # (B, h*w, D)
        side = round(tokens.shape[1] ** 0.5)
        grid = tokens.transpose(1, 2).unflatten(2, (side, -1))  # (B, D, h, w)
        return grid, features[:, : self.prefix]

    def from_map(self, grid: torch.Tensor, prefix: torch.Tensor | None) -> torch.Tensor:
        """Inverse of `to_map`."""
        if prefix is None:
            return grid
        return torch.cat([prefix, grid.flatten(2).transpose(1, 2)], dim=1)
