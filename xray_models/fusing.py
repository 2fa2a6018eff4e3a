"""Fusion models among the others of their task: built from trained members, reusing what a panel has computed."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from xray_models.architectures.building import name_architecture
from xray_models.architectures.fusion import FusionConfig, FusionForImageClassification, without_classifier
from xray_models.checkpoints import Checkpoint, load_checkpoint
from xray_models.images import InputSpec
from xray_models.recipes import Recipe
from xray_models.tasks import ModelRef, Task, TaskError

_DROPOUT = 0.3  # where the recipe says nothing


def build_fusion(task: Task, ref: ModelRef, recipe: Recipe) -> tuple[PreTrainedModel, InputSpec]:
    """Builds a fusion of trained members: their weights loaded and frozen, the small network's random.

    Args:
        task: the task.
        ref: its fusion; `members` names models of the task, whose weights are here.
        recipe: its `dropout` applies before the last layer; 0.3 where it says none.

    Raises:
        TaskError: without at least two members, when they are not there or take different inputs, or for a recipe that
            asks for another shape than theirs.
    """
    if len(ref.members) < 2:
        raise TaskError(f"model {ref.name!r} needs `members:`, at least two models of task {task.name!r}.")
    members = {name: load_checkpoint(task, task.model(name)) for name in ref.members}
    spec = next(iter(members.values())).spec
    for name, member in members.items():
        if member.spec != spec:
            raise TaskError(f"the members of a fusion take one input; {name} takes {member.spec}, the first {spec}.")
    _check_shape(recipe, spec)
    config = FusionConfig(
        order=list(members),
        members={name: _own_config(member.model) for name, member in members.items()},
        widths=[_width(member, spec) for member in members.values()],
        dropout=_DROPOUT if recipe.dropout is None else recipe.dropout,
        id2label=dict(enumerate(task.labels)),
        label2id={label: index for index, label in enumerate(task.labels)},
    )
    config.second_read = {"architecture": "fusion"}
    model = FusionForImageClassification(config)
    for name, member in members.items():
        model.members[name].load_state_dict(without_classifier(member.model).state_dict())
    model.members.requires_grad_(False)
    _check_embeddings(model, spec)
    return model, spec


@torch.inference_mode()
def _check_embeddings(model: FusionForImageClassification, spec: InputSpec) -> None:
    """Refuses members that give something else than their embedding without their last layer."""
    image = torch.zeros(1, len(spec.mean), spec.height, spec.width)
    for (name, member), width in zip(model.members.eval().items(), model.config.widths or (), strict=True):
        found = tuple(member(pixel_values=image).logits.shape)
        if found != (1, width):
            raise TaskError(
                f"{name!r} cannot be a member of a fusion: without its last layer its output for an image has the "
                f"shape {found[1:]}, and not that of its embedding, ({width},). Name another model under `members:`."
            )


def _check_shape(recipe: Recipe, spec: InputSpec) -> None:
    """Refuses what would change a network's shape: a fusion has its members' input, and a small network of its own."""
    odd = {"image_size": (0, spec.height), "width": (1,), "head": ("linear",)}
    for name, valid in odd.items():
        asked = getattr(recipe, name)
        if asked not in valid:
            raise TaskError(
                f"{name} is {asked}; a fusion has the input of its members, {spec.height} pixels, and a small network "
                f"of its own. Leave {name} out, or train members that have it."
            )


def name_sources(model: PreTrainedModel, task: Task, out: Path) -> None:
    """Says in a trained fusion's config where its members' weights lie, so that its own file need not hold them.

    Only of members that lie beside it, and so go with it where their common folder goes. With any other its file holds
    them all, and its folder can go anywhere.

    Args:
        model: the fusion.
        task: the task.
        out: the folder that the fusion is to be saved in.
    """
    found = {name: _source(task.model(name), out) for name in model.config.order}
    model.config.sources = found if all(found.values()) else None


_NOT_OWN = ("id2label", "label2id", "dtype", "architectures", "auto_map", "_name_or_path")


def _own_config(model: PreTrainedModel) -> dict[str, Any]:
    """What is needed to build a member again, without what only its own folder needs."""
    raw = model.config.to_dict()
    kept = {key: value for key, value in raw.items() if key not in (*_NOT_OWN, "second_read")}
    name = name_architecture(model)
    return kept | ({"second_read": {"architecture": name}} if name else {})


def _source(ref: ModelRef, out: Path) -> dict[str, str] | None:
    """Where a member's weights lie, as seen from a fusion's folder; None where they do not lie beside it."""
    if ref.path is None or (out.resolve().parent / ref.path.name).resolve() != ref.path.resolve():
        return None
    with (ref.path / "model.safetensors").open("rb") as file:
        return {"folder": f"../{ref.path.name}", "sha256": hashlib.file_digest(file, "sha256").hexdigest()}


@torch.inference_mode()
def _width(member: Checkpoint, spec: InputSpec) -> int:
    image = torch.zeros(1, len(spec.mean), spec.height, spec.width)
    return member.parts.pool(member.parts.body(image)).shape[1]


def save_complete(fusion: Path, out: Path) -> None:
    """Writes a fusion with its members' weights in its own file, as it goes to the Hub.

    Args:
        fusion: folder of a fusion that names its members' folders.
        out: folder to write `config.json` and `model.safetensors` into.
    """
    model = FusionForImageClassification.from_pretrained(fusion, local_files_only=True)
    model.config.sources = None
    model.save_pretrained(out)


def fingerprint(model: PreTrainedModel) -> str:
    """A digest of a model's weights without its last layer: equal for a model and for a fusion's copy of it."""
    digest = hashlib.sha256()
    for name, tensor in sorted(_body_state(model).items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _body_state(model: PreTrainedModel) -> dict[str, torch.Tensor]:
    last = _classifier_name(model)
    return {name: tensor for name, tensor in model.state_dict().items() if not name.startswith(f"{last}.")}


def _classifier_name(model: PreTrainedModel) -> str:
    network = getattr(model, "timm_model", None)
    return "classifier" if network is None else f"timm_model.{network.default_cfg['classifier']}"


def share_weights(models: Sequence[Checkpoint]) -> dict[str, tuple[str, ...]]:
    """Finds the fusions whose members are themselves in the panel, and lets both use one copy of the weights.

    Args:
        models: the panel's models.

    Returns:
        Name of each such fusion to the names of the models that lend it their embeddings, in its order.
    """
    fusions = [model for model in models if isinstance(model.model, FusionForImageClassification)]
    if not fusions:
        return {}
    others = {fingerprint(other.model): other for other in models if other not in fusions}
    lent: dict[str, tuple[str, ...]] = {}
    for fusion in fusions:
        lenders = []
        members: Any = fusion.model.members
        for own in members.values():
            other = others.get(fingerprint(own))
            if other is None or other.spec != fusion.spec:
                break
            own.load_state_dict(_body_state(other.model), assign=True)
            lenders.append(other.name)
        else:
            lent[fusion.name] = tuple(lenders)
    return lent
