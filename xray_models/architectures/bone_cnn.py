"""The CNNs of the bone project: blocks of convolution, batch norm and ReLU, halved in between, then dense units.

This file needs torch and transformers alone.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import ImageClassifierOutput


class BoneCnnConfig(PreTrainedConfig):
    """Configuration of `BoneCnnForImageClassification`.

    Attributes:
        filters: of each block.
        kernels: side of each block's filters, odd; as many numbers as `filters`.
        units: dense units before the last layer; 0 for none.
        grey: whether the input's channels are averaged to one before the first filters.
        num_channels: channels of the input.
        dropout: probability before the last layer, in [0, 1).
        image_size: height and width of the input, in pixels.
    """

    model_type = "second_read_bone_cnn"

    filters: list[int] | None = None
    kernels: list[int] | None = None
    units: int = 0
    grey: bool = False
    num_channels: int = 3
    dropout: float = 0.2
    image_size: int = 224

    def __post_init__(self, **kwargs: Any) -> None:
        """Fills in the first version's blocks."""
        self.filters = list(self.filters or (32, 32, 32, 32))
        self.kernels = list(self.kernels or (3,) * len(self.filters))
        super().__post_init__(**kwargs)


class Grey(nn.Module):
    """Mean of the channels: a radiograph repeated in three channels is one channel again."""

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) to (B, 1, H, W)."""
        return pixel_values.mean(dim=1, keepdim=True)


class BothPools(nn.Module):
    """Mean and maximum of each channel: the one for what is spread out, the other for what is small."""

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """(B, C, h, w) to (B, 2 C)."""
        return torch.cat([features.mean(dim=(2, 3)), features.amax(dim=(2, 3))], dim=1)


class BoneCnnForImageClassification(PreTrainedModel):
    """Blocks of one convolution each; the resolution is halved between them, not after the last.

    Four blocks leave an eighth of the input's resolution (28x28 for 224 pixels) to the heatmaps. The last map is
    pooled rather than flattened, so any image size fits and the dense units do not outnumber the images.
    """

    config_class = BoneCnnConfig
    main_input_name = "pixel_values"
    base_model_prefix = "features"

    def __init__(self, config: BoneCnnConfig):
        super().__init__(config)
        blocks: list[nn.Module] = [Grey()] if config.grey else []
        width = 1 if config.grey else config.num_channels
        for index, (filters, kernel) in enumerate(zip(config.filters or (), config.kernels or (), strict=True)):
            if index:
                blocks.append(nn.MaxPool2d(2))
            blocks.append(_block(width, filters, kernel))
            width = filters
        self.features = nn.Sequential(*blocks)
        self.pool = BothPools()
        self.head: nn.Module = nn.Identity()
        width *= 2
        if config.units:
            self.head = nn.Sequential(nn.Linear(width, config.units), nn.BatchNorm1d(config.units), nn.ReLU())
            width = config.units
        self.dropout = nn.Dropout(config.dropout)
        self.classifier = nn.Linear(width, len(config.id2label or {}))
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        if module is self.classifier:
            nn.init.normal_(module.weight, std=0.01)
            nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(
        self, pixel_values: torch.Tensor, labels: torch.Tensor | None = None, **_: Any
    ) -> ImageClassifierOutput:
        """Classifies (B, C, H, W) inputs; returns logits (B, labels), and the loss where labels are given."""
        pooled = self.head(self.pool(self.features(pixel_values)))  # (B, C, H, W) -> (B, units)
        logits = self.classifier(self.dropout(pooled))  # (B, labels)
        loss = None if labels is None else nn.functional.cross_entropy(logits, labels)
        return ImageClassifierOutput(loss=loss, logits=logits)


def _block(width: int, filters: int, kernel: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(width, filters, kernel, padding=kernel // 2, bias=False),
        nn.BatchNorm2d(filters),
        nn.ReLU(inplace=False),
    )
