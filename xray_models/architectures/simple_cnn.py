"""The small CNN of the COVID project: 32, 64, 128 filters, global pooling, one linear layer."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import ImageClassifierOutput


class SimpleCnnConfig(PreTrainedConfig):
    """Configuration of `SimpleCnnForImageClassification`.

    Attributes:
        channels: filters of each stage.
        num_channels: channels of the input.
        units: dense units before the last layer; 0 for none.
        dropout: probability before the last layer, in [0, 1).
        image_size: height and width of the input, in pixels.
    """

    model_type = "second_read_simple_cnn"

    channels: list[int] | None = None
    num_channels: int = 3
    units: int = 0
    dropout: float = 0.2
    image_size: int = 224

    def __post_init__(self, **kwargs: Any) -> None:
        """Fills in the published filters."""
        self.channels = list(self.channels or (32, 64, 128))
        super().__post_init__(**kwargs)


class BothPools(nn.Module):
    """Mean and maximum of each channel: the one for what is spread out, the other for what is small."""

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """(B, C, h, w) to (B, 2 C)."""
        return torch.cat([features.mean(dim=(2, 3)), features.amax(dim=(2, 3))], dim=1)


class SimpleCnnForImageClassification(PreTrainedModel):
    """Three stages of two 3x3 convolutions, each stage halving the resolution.

    The last map has an eighth of the input's resolution (28x28 for 224 pixels): finer than most larger networks',
    which shows in its heatmaps.
    """

    config_class = SimpleCnnConfig
    main_input_name = "pixel_values"
    base_model_prefix = "features"

    def __init__(self, config: SimpleCnnConfig):
        super().__init__(config)
        stages: list[nn.Module] = []
        width = config.num_channels
        for channels in config.channels or ():
            stages.append(_stage(width, channels))
            width = channels
        self.features = nn.Sequential(*stages)
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
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=0.01)
            nn.init.zeros_(module.bias)

    def forward(
        self, pixel_values: torch.Tensor, labels: torch.Tensor | None = None, **_: Any
    ) -> ImageClassifierOutput:
        """Classifies (B, C, H, W) inputs; returns logits (B, labels), and the loss where labels are given."""
        pooled = self.head(self.pool(self.features(pixel_values)))  # (B, C, H, W) -> (B, 256)
        logits = self.classifier(self.dropout(pooled))  # (B, labels)
        loss = None if labels is None else nn.functional.cross_entropy(logits, labels)
        return ImageClassifierOutput(loss=loss, logits=logits)


def _stage(width: int, channels: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(width, channels, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(channels),
        nn.ReLU(inplace=False),
        nn.Conv2d(channels, channels, 3, padding=1, bias=False),
        nn.BatchNorm2d(channels),
        nn.ReLU(inplace=False),
    )
