"""Feature fusion: what several trained networks see, side by side, judged by one small network.

The fracture project's ensemble: the embeddings of its members (the features before their last layer) are
concatenated and classified anew; the members stay as they are. This file needs torch and transformers alone.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoModelForImageClassification, PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import ImageClassifierOutput


class FusionConfig(PreTrainedConfig):
    """Configuration of `FusionForImageClassification`.

    Attributes:
        order: the members' names, in the order in which their embeddings are joined.
        members: name to the member's own configuration, as a dict.
        sources: name to {"folder", "sha256"}: where a member's weights lie, relative to this model's folder, and
            what their file must hash to. Empty where this model's file holds them itself: on the Hub, and where
            they do not lie beside it.
        widths: length of each member's embedding, in that order.
        units: width of the hidden layer.
        dropout: probability before the last layer, in [0, 1).
    """

    model_type = "second_read_fusion"

    order: list[str] | None = None
    members: dict[str, dict[str, Any]] | None = None
    sources: dict[str, dict[str, str]] | None = None
    widths: list[int] | None = None
    units: int = 128
    dropout: float = 0.3


class FusionForImageClassification(PreTrainedModel):
    """Members' embeddings, concatenated -> batch norm -> hidden layer -> logits."""

    config_class = FusionConfig
    main_input_name = "pixel_values"
    base_model_prefix = "members"

    def __init__(self, config: FusionConfig):
        super().__init__(config)
        if config.sources:
            self._keys_to_ignore_on_load_missing = [r"^members\."]  # `from_pretrained` fetches and checks them
        self.members = nn.ModuleDict()
        for name in config.order or ():
            own = AutoConfig.for_model(**(config.members or {})[name])
            own.id2label = {0: "any", 1: "other"}
            self.members[name] = without_classifier(AutoModelForImageClassification.from_config(own))
        width = sum(config.widths or [])
        self.norm = nn.BatchNorm1d(width)
        self.hidden = nn.Linear(width, config.units)
        self.dropout = nn.Dropout(config.dropout)
        self.classifier = nn.Linear(config.units, len(config.id2label or {}))
        self.post_init()

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Any, *args: Any, **kwargs: Any) -> Any:
        """Loads the fusion; members that lie in other folders are loaded from there, their files' hashes checked."""
        model = super().from_pretrained(pretrained_model_name_or_path, *args, **kwargs)
        fusion = model[0] if isinstance(model, tuple) else model
        for name, source in (fusion.config.sources or {}).items():
            folder = Path(pretrained_model_name_or_path) / source["folder"]
            _check(folder / "model.safetensors", source["sha256"], name)
            member = AutoModelForImageClassification.from_pretrained(
                folder, use_safetensors=True, local_files_only=True, dtype=fusion.dtype
            )
            fusion.members[name].load_state_dict(without_classifier(member).state_dict())
        return model

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        if module in (self.hidden, self.classifier):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            nn.init.zeros_(module.bias)

    def train(self, mode: bool = True) -> FusionForImageClassification:
        """Sets the mode of the small network; the members are frozen and always evaluate."""
        super().train(mode)
        self.members.eval()
        return self

    def embed(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) to the members' embeddings, (B, sum of widths)."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and pixel_values.requires_grad):
            return torch.cat([member(pixel_values=pixel_values).logits for member in self.members.values()], dim=1)

    def fuse(self, embeddings: torch.Tensor) -> torch.Tensor:
        """(B, sum of widths) to the fused embedding, (B, units)."""
        return torch.relu(self.hidden(self.norm(embeddings)))

    def forward(
        self, pixel_values: torch.Tensor, labels: torch.Tensor | None = None, **_: Any
    ) -> ImageClassifierOutput:
        """Classifies (B, C, H, W) inputs; returns logits (B, labels), and the loss where labels are given."""
        logits = self.classifier(self.dropout(self.fuse(self.embed(pixel_values))))
        loss = None if labels is None else nn.functional.cross_entropy(logits, labels)
        return ImageClassifierOutput(loss=loss, logits=logits)


def without_classifier(model: PreTrainedModel) -> PreTrainedModel:
    """Puts an identity in the place of a model's last layer, so that its logits are its embedding."""
    network = getattr(model, "timm_model", None)
    if network is None:
        model.classifier = nn.Identity()
    else:
        head = network.default_cfg["classifier"].split(".")
        setattr(network.get_submodule(".".join(head[:-1])), head[-1], nn.Identity())
    return model


def _check(path: Path, expected: str, name: str) -> None:
    if not path.is_file():
        raise OSError(
            f"the fusion needs the weights of {name}, and there is no {path.parent.name}/{path.name} beside its "
            "folder. Bring that model there, move both together, or train the fusion again."
        )
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != expected:
        raise OSError(
            f"the fusion was trained with a {name} whose weights hash to {expected[:12]}, but {path.parent.name} "
            f"holds {found[:12]}. Bring that model back, or train the fusion again."
        )
