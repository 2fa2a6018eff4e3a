"""The three parts of a classifier, shared by every architecture."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

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

    def gather(self, features: Any) -> torch.Tensor:
        """Features to what tells whether an image is in distribution: the embedding (B, D')."""
        return self.pool(features)

    def fuse(self, gathered: torch.Tensor) -> torch.Tensor:
        """What was gathered to the embedding: one body has nothing to fuse."""
        return gathered

    def head(self, features: Any) -> torch.Tensor:
        """Features to logits (B, labels)."""
        return self.classifier(self.pool(features))

    def holding(self, features: Any) -> Parts:
        """The same parts whose body gives these features, whatever it is asked."""
        return self._replace(body=_Known(features))

    def checking(self, check: Callable[[], None]) -> Parts:
        """The same parts, with `check` called before each forward of the body."""
        return self._replace(body=_Checked(self.body, check))

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


class FusedParts(NamedTuple):
    """A fusion's parts: the features of several bodies, pooled and fused into one embedding.

    Attributes:
        members: each member's own parts; their classifiers are not used.
        fuse: concatenated embeddings (B, D) to the fused embedding (B, D').
        classifier: the last linear layer, (B, D') to logits (B, labels).
    """

    members: tuple[Parts, ...]
    fuse: Callable[[torch.Tensor], torch.Tensor]
    classifier: nn.Linear

    def body(self, inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """(B, C, H, W) inputs to each member's features."""
        return tuple(member.body(inputs) for member in self.members)

    def gather(self, features: tuple[torch.Tensor, ...]) -> torch.Tensor:
        """Each member's features to their embeddings, concatenated (B, D): what is fused no longer tells strangers."""
        return torch.cat([member.pool(own) for member, own in zip(self.members, features, strict=True)], dim=1)

    def pool(self, features: tuple[torch.Tensor, ...]) -> torch.Tensor:
        """Each member's features to the fused embedding (B, D')."""
        return self.fuse(self.gather(features))

    def head(self, features: Any) -> torch.Tensor:
        """Features to logits (B, labels)."""
        return self.classifier(self.pool(features))

    def holding(self, features: tuple[Any, ...]) -> FusedParts:
        """The same parts whose bodies give these features, one a member, whatever they are asked."""
        known = zip(self.members, features, strict=True)
        return self._replace(members=tuple(member.holding(own) for member, own in known))

    def checking(self, check: Callable[[], None]) -> FusedParts:
        """The same parts, with `check` called before each forward of a member's body."""
        return self._replace(members=tuple(member.checking(check) for member in self.members))

    def seen_through(self, index: int, features: tuple[torch.Tensor, ...]) -> Parts:
        """One member's parts whose head is the fusion's, with the other members' features held as they are."""
        own = self.members[index]
        return Parts(own.body, _Fixed(self, index, features), self.classifier, own.prefix)


class _Known(nn.Module):
    def __init__(self, features: Any):
        super().__init__()
        self.features = features

    def forward(self, inputs: torch.Tensor) -> Any:
        return self.features


class _Checked(nn.Module):
    def __init__(self, body: Any, check: Callable[[], None]):
        super().__init__()
        self.body, self.check = body, check

    def forward(self, inputs: torch.Tensor) -> Any:
        self.check()
        return self.body(inputs)


class _Fixed(nn.Module):
    def __init__(self, parts: FusedParts, index: int, features: tuple[torch.Tensor, ...]):
        super().__init__()
        self.parts, self.index, self.features = parts, index, features

    def forward(self, own: torch.Tensor) -> torch.Tensor:
        features = [f.expand(len(own), *f.shape[1:]) for f in self.features]
        features[self.index] = own
        return self.parts.pool(tuple(features))
