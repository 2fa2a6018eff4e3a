"""Any image classifier of transformers with dense units in the place of its last layer.

transformers' own classes would drop such a head without a word; this class keeps it, and who cannot load this class
gets an error rather than other numbers. This file needs torch and transformers alone.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoModelForImageClassification, PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import ImageClassifierOutput


class HeadedConfig(PreTrainedConfig):
    """Configuration of `HeadedForImageClassification`.

    Attributes:
        body: the classifier's own configuration, as a dict with its `model_type`.
        classifier: dotted name of the body's last linear layer, which the head replaces.
        units: width of the dense layer.
        dropout: probability before the last layer, in [0, 1).
    """

    model_type = "second_read_headed"

    body: dict[str, Any] | None = None
    classifier: str = "classifier"
    units: int = 256
    dropout: float = 0.5


class HeadedForImageClassification(PreTrainedModel):
    """Body -> embedding -> dense units, batch norm, ReLU, dropout -> logits."""

    config_class = HeadedConfig
    main_input_name = "pixel_values"
    base_model_prefix = "body"

    def __init__(self, config: HeadedConfig):
        super().__init__(config)
        body = AutoModelForImageClassification.from_config(AutoConfig.for_model(**(config.body or {})))
        width = body.get_submodule(config.classifier).in_features
        body.set_submodule(config.classifier, nn.Identity())  # its logits are now its embedding
        self.body = body
        self.head = nn.Sequential(
            nn.Linear(width, config.units), nn.BatchNorm1d(config.units), nn.ReLU(), nn.Dropout(config.dropout)
        )
        self.classifier = nn.Linear(config.units, len(config.id2label or {}))
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Linear):  # the head's; the body initialises its own
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            nn.init.zeros_(module.bias)
        if module is self.classifier:
            nn.init.normal_(self.classifier.weight, std=0.01)

    def forward(
        self, pixel_values: torch.Tensor, labels: torch.Tensor | None = None, **_: Any
    ) -> ImageClassifierOutput:
        """Classifies (B, C, H, W) inputs; returns logits (B, labels), and the loss where labels are given."""
        embedding = self.head(self.body(pixel_values=pixel_values).logits)  # (B, C, H, W) -> (B, units)
        logits = self.classifier(embedding)  # (B, labels)
        loss = None if labels is None else nn.functional.cross_entropy(logits, labels)
        return ImageClassifierOutput(loss=loss, logits=logits)
