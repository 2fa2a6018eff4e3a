"""Any image classifier of transformers, or a body without a classifier, as the start of a fine-tune.

The source is a folder, or a repository of the Hub: `owner/name`, or `owner/name@revision`. Only safetensors are read,
and no code of the repository is run.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn
from transformers import AutoConfig, AutoImageProcessor, AutoModelForImageClassification, PreTrainedModel

from xray_models.architectures import own_cnn, timm_cnn, vit
from xray_models.architectures.heads import find_name
from xray_models.architectures.parts import Parts
from xray_models.hub_cache import say_unwritable
from xray_models.hub_client import find_unwritable
from xray_models.images import InputSpec
from xray_models.processors import read_processor
from xray_models.recipes import Recipe
from xray_models.tasks import TaskError


class Source(NamedTuple):
    """Where a model comes from.

    Attributes:
        place: a folder, or `owner/name` on the Hub.
        revision: a commit, branch or tag on the Hub, or None for its default branch.
    """

    place: str
    revision: str | None = None

    @property
    def name(self) -> str:
        """What may be published of it: the repository and its revision, or the folder's name without its path."""
        if self.revision is None and Path(self.place).is_dir():
            return Path(self.place).resolve().name
        return f"{self.place}@{self.revision}" if self.revision else self.place


def find_source(text: str) -> Source:
    """Reads what stands after `hub:`; raises `TaskError` for a folder that is not there."""
    if Path(text).is_dir():
        return Source(text)
    if text.startswith((".", "/", "~")) or text.partition("@")[0].count("/") > 1:
        raise TaskError(f"There is no folder {text}. Name one that holds a model, or owner/name for one on the Hub.")
    place, _, revision = text.partition("@")
    return Source(place, revision or None)


def read_spec(source: Source, side: int = 0) -> InputSpec:
    """Reads the input that a model was trained on from its image processor.

    The whole radiograph is brought onto it: where the processor cuts off a margin, ours does not.

    Args:
        source: where the model comes from.
        side: height and width in pixels instead of the processor's; 0 for the processor's.

    Raises:
        TaskError: when there is no image processor, or it prepares images in a way that the panel cannot.
    """
    try:
        config = AutoConfig.from_pretrained(source.place, revision=source.revision, trust_remote_code=False)
        if config.model_type == "timm_wrapper":
            spec = _timm_spec(config.pretrained_cfg)
        else:
            processor = AutoImageProcessor.from_pretrained(
                source.place, revision=source.revision, trust_remote_code=False, backend="pil"
            )
            spec = read_processor(processor.to_dict(), whole=True)
    except (OSError, ValueError, KeyError) as error:
        _check_cache(source, error)
        raise TaskError(f"how {source.name} prepares images cannot be read or done: {error}") from error
    return dataclasses.replace(spec, height=side, width=side) if side else spec


def _check_cache(source: Source, error: Exception) -> None:
    """Raises `TaskError` if a repository could not be had for want of room, or of a folder, on this machine."""
    found = None if Path(source.place).is_dir() else find_unwritable(error)
    if found is not None:
        raise TaskError(str(say_unwritable(source.name, found))) from error


def _timm_spec(known: dict[str, Any]) -> InputSpec:
    _, height, width = known["input_size"]
    return InputSpec(height, width, tuple(known["mean"]), tuple(known["std"]), resample=known["interpolation"])


def builder(source: Source) -> Callable[[Sequence[str], Recipe, Path | None], PreTrainedModel]:
    """Returns a builder that loads a model's weights and gives it a new classifier."""

    def build(labels: Sequence[str], recipe: Recipe, weights: Path | None) -> PreTrainedModel:
        if recipe.width != 1.0:
            raise TaskError(f"width is {recipe.width}; {source.name} comes as it is. Leave it at 1.")
        try:
            before = _read_labels(source)
            model, report = AutoModelForImageClassification.from_pretrained(
                source.place,
                revision=source.revision,
                num_labels=len(labels),
                id2label=dict(enumerate(labels)),
                label2id={label: index for index, label in enumerate(labels)},
                ignore_mismatched_sizes=True,
                use_safetensors=True,
                trust_remote_code=False,
                dtype=torch.float32,
                output_loading_info=True,
            )
        except (OSError, ValueError) as error:
            _check_cache(source, error)
            raise TaskError(
                f"{source.name} cannot be fine-tuned: {error}. Give a folder or a repository with safetensors weights "
                "of an image model that transformers knows."
            ) from error
        classifier = split(model).classifier
        _check_report(source, report, find_name(model, classifier))
        if before != list(labels) and not (report["missing_keys"] or report["mismatched_keys"]):
            classifier.reset_parameters()  # as many labels, but others
        if hasattr(model.config, "label_names"):  # of timm's wrapper, which takes them from there
            model.config.label_names = list(labels)
        if model.config.model_type == "timm_wrapper":
            model.config.pretrained_cfg = _squash(model.config.pretrained_cfg, recipe.image_size)
        return model

    return build


def _read_labels(source: Source) -> list[str]:
    """The labels that a model was trained for, in their order."""
    config = AutoConfig.from_pretrained(source.place, revision=source.revision, trust_remote_code=False)
    return list((config.id2label or {}).values())


def _check_report(source: Source, report: Any, classifier: str) -> None:
    """Only the classifier may be new."""
    new = {str(key) for key in report["missing_keys"]}
    new |= {str(key[0] if isinstance(key, tuple) else key) for key in report["mismatched_keys"]}
    lost = sorted(key for key in new if not key.startswith(f"{classifier}."))
    if lost:
        raise TaskError(f"{source.name} has no weights for {len(lost)} tensors, which would be random: {lost[0]}, ...")


def _squash(known: dict[str, Any], side: int) -> dict[str, Any]:
    return {**known, "crop_pct": 1.0, "crop_mode": "squash", "input_size": [3, side, side]}


def split(model: Any) -> Parts:
    """Splits a model by its `model_type`.

    Raises:
        TaskError: for a type whose parts are not known.
    """
    kind = model.config.model_type
    if kind not in SPLITS:
        raise TaskError(f"where a model of type {kind!r} splits is not known. Known: {', '.join(SPLITS)}.")
    return SPLITS[kind](model)


def _split_deit(model: Any) -> Parts:
    return vit.split_blocks(model.deit, model.deit.layers, model.classifier, prefix=2)


def _split_dinov2(model: Any) -> Parts:
    network = model.base_model
    prefix = 1 + getattr(model.config, "num_register_tokens", 0)
    return vit.split_blocks(network, network.encoder.layer, model.classifier, prefix, joined=True)


def _split_swin(model: Any) -> Parts:
    return Parts(_LastState(model.base_model), _Mean(), model.classifier, prefix=0)


def _split_convnext(model: Any) -> Parts:
    pool = nn.Sequential(_Mean((2, 3)), model.base_model.layernorm)
    return Parts(_LastState(model.base_model), pool, model.classifier)


def _split_resnet(model: Any) -> Parts:
    return Parts(_LastState(model.resnet), _Mean((2, 3)), model.classifier[-1])


class _LastState(nn.Module):
    """(B, C, H, W) to the last features: a map, or tokens."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        return self.network(pixel_values).last_hidden_state


class _Mean(nn.Module):
    def __init__(self, axes: tuple[int, ...] = (1,)):
        super().__init__()
        self.axes = axes

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return features.mean(dim=self.axes)


SPLITS: dict[str, Callable[[Any], Parts]] = {
    "vit": vit.split,
    "deit": _split_deit,
    "dinov2": _split_dinov2,
    "dinov2_with_registers": _split_dinov2,
    "swin": _split_swin,
    "swinv2": _split_swin,
    "convnext": _split_convnext,
    "convnextv2": _split_convnext,
    "resnet": _split_resnet,
    "timm_wrapper": timm_cnn.split,
    "second_read_simple_cnn": own_cnn.split,
    "second_read_bone_cnn": own_cnn.split,
}
"""`model_type` of a config to its split."""
