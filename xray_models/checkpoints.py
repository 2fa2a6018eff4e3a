"""A model's folder, on disk and on the Hub alike: weights, config, processor, reference, card.

model.safetensors           float16; normalisation layers and the classifier float32
config.json                 labels, architecture, and under `second_read` what calibration fitted
preprocessor_config.json    the image processor (timm models keep theirs in config.json)
reference.safetensors       embeddings of the out-of-distribution reference, and numbers of the images it was made with
README.md                   the model card
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL.Image import Resampling
from safetensors.numpy import load_file as load_arrays
from safetensors.numpy import save_file as save_arrays
from safetensors.torch import save_file
from torch import nn
from transformers import AutoModelForImageClassification, PreTrainedModel, ViTImageProcessorPil
from transformers.utils.logging import set_tqdm_hook

from xray_models.architectures import FusedParts, Parts, split_model
from xray_models.architectures.building import name_architecture
from xray_models.architectures.split_check import check_split
from xray_models.calibration import Reference
from xray_models.damage import blame, blame_weights, check_files, read_fitted
from xray_models.images import InputSpec
from xray_models.processors import read_processor
from xray_models.revisions import hash_weights
from xray_models.tasks import ModelRef, Task, TaskError

_NORMS = (nn.modules.batchnorm._BatchNorm, nn.LayerNorm, nn.GroupNorm)  # the first in all kinds, synchronised or not


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """A model, loaded and ready to answer.

    Attributes:
        name: the model's name in its panel.
        revision: commit on the Hub, or the first 12 digits of the weights' sha256.
        model: in evaluation mode.
        parts: its body, pool and classifier.
        spec: the input that it takes.
        conformal: probability from which a label belongs to the prediction set; None where not fitted.
        reference: what is in distribution; None where not fitted.
        seen: the images that it was made with, as `seen.note_seen` notes them; empty where that is not known.
        fast: its parts with bodies that an engine runs (`engine.build_engine`), without gradients; None for torch.
    """

    name: str
    revision: str
    model: PreTrainedModel
    parts: Parts | FusedParts
    spec: InputSpec
    conformal: float | None
    reference: Reference | None
    seen: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
    fast: Parts | FusedParts | None = None

    @property
    def forward(self) -> Parts | FusedParts:
        """Its parts for all that needs no gradient in the body."""
        return self.fast or self.parts


def round_weights(model: PreTrainedModel) -> None:
    """Rounds weights to what `save_checkpoint` stores, in place: what is calibrated is what is shipped."""
    kept = _kept_names(model)
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if name not in kept and tensor.is_floating_point():
                tensor.copy_(tensor.half())


def save_checkpoint(  # noqa: PLR0913 - each is a part of what is saved
    model: PreTrainedModel,
    spec: InputSpec,
    folder: Path,
    fitted: dict[str, Any],
    reference: Reference,
    seen: Mapping[str, np.ndarray] | None = None,
) -> None:
    """Writes a model's folder, without its card.

    All is written beside what the folder holds and takes its place at once, its config last: a folder without one
    counts as missing, so that no model ever answers with another one's thresholds.

    Args:
        model: trained, calibrated, its weights rounded.
        spec: the input that it was trained on.
        folder: made if missing.
        fitted: extra keys of `config.json`'s `second_read`.
        reference: the out-of-distribution reference.
        seen: the images that it was made with, from `seen.note_seen`; None where that is not known.
    """
    folder.mkdir(parents=True, exist_ok=True)
    model.config.second_read = {
        **model.config.second_read,
        **fitted,
        "ood_distance": reference.threshold,
        "ood_references": len(reference.embeddings),
    }
    with tempfile.TemporaryDirectory(prefix=".draft-", dir=folder) as made:
        draft = Path(made)
        _write_files(model, spec, draft)
        save_arrays(
            {"embeddings": reference.embeddings.astype(np.float16), **(seen or {})}, draft / "reference.safetensors"
        )
        shared = (draft / "config.json").stat().st_mode  # as the user's umask has it; safetensors shuts others out
        (folder / "config.json").unlink(missing_ok=True)
        for path in sorted(draft.iterdir(), key=lambda path: path.name == "config.json"):
            path.chmod(shared)
            path.replace(folder / path.name)


def _write_files(model: PreTrainedModel, spec: InputSpec, folder: Path) -> None:
    model.config.architectures = [type(model).__name__]
    model.config.dtype = torch.float32  # stored in half, computed in single precision
    model.config.save_pretrained(folder)
    kept = _kept_names(model)
    state = {
        name: (tensor if name in kept or not tensor.is_floating_point() else tensor.half()).contiguous().cpu()
        for name, tensor in model.state_dict().items()
        if not (getattr(model.config, "sources", None) and name.startswith("members."))
    }
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    if not _is_timm(model):
        processor = ViTImageProcessorPil(
            size={"height": spec.height, "width": spec.width},
            image_mean=list(spec.mean),
            image_std=list(spec.std),
            resample=Resampling[spec.resample.upper()],
        )
        processor.save_pretrained(folder)


def _kept_names(model: PreTrainedModel) -> set[str]:
    """Names of tensors that stay in single precision: small ones, where half would cost accuracy."""
    classifier = split_model(model).classifier
    return {
        f"{name}.{key}"
        for name, module in model.named_modules()
        if isinstance(module, _NORMS) or module is classifier
        for key in module.state_dict()
    }


def load_checkpoint(task: Task, ref: ModelRef) -> Checkpoint:
    """Loads one model of a task from its local folder or, pinned, from the Hub's local cache.

    Raises:
        TaskError: when the checkpoint is missing, damaged, carries other labels, or lacks what the panel needs.
    """
    folder = _locate(task, ref)
    check_files(folder, ref.name)
    model = _load_whole(folder, ref.name)
    task.check_labels(list_labels(model), f"model {ref.name!r}")
    if (model.config.problem_type or "single_label_classification") != "single_label_classification":
        raise TaskError(
            f"model {ref.name!r} was made for {model.config.problem_type}; the panel needs one whose labels exclude "
            "each other."
        )
    info = getattr(model.config, "second_read", None) or {}
    conformal = read_fitted(info, "conformal_threshold", ref.name)
    with blame("config.json" if _is_timm(model) else "preprocessor_config.json", ref.name, folder):
        spec = read_spec(model, folder)
    parts = split_model(model)
    if name_architecture(model) is None and isinstance(parts, Parts):  # trained elsewhere
        check_split(model, parts, spec, f"model {ref.name!r}")
    reference, seen = _load_reference(folder, ref.name, read_fitted(info, "ood_distance", ref.name))
    return Checkpoint(
        name=ref.name,
        revision=ref.revision or hash_weights(folder),
        model=model,
        parts=parts,
        spec=spec,
        conformal=conformal,
        reference=reference,
        seen=seen,
    )


def weigh_checkpoint(task: Task, ref: ModelRef) -> int:
    """Bytes that a model's weights would take in single precision; none of them is taken to find out.

    Raises:
        TaskError: when its files are missing or damaged, or do not hold every tensor that its config asks for.
    """
    folder = _locate(task, ref)
    check_files(folder, ref.name)
    return int(_load_whole(folder, ref.name, "meta").get_memory_footprint())


def _load_reference(
    folder: Path, name: str, distance: float | None
) -> tuple[Reference | None, Mapping[str, np.ndarray]]:
    """A model's reference, and the images that it was made with; nothing where they are not known."""
    if distance is None or not (folder / "reference.safetensors").is_file():
        return None, {}
    with blame("reference.safetensors", name, folder):
        arrays = load_arrays(folder / "reference.safetensors")
        return Reference(arrays.pop("embeddings").astype(np.float32), distance), arrays


def _load_whole(folder: Path, name: str, device: str | None = None) -> PreTrainedModel:
    """Loads a model, every tensor of which its files hold: transformers fills in random numbers for what they lack."""
    with blame("config.json", name, folder), blame_weights(name), _without_bars():
        model, report = AutoModelForImageClassification.from_pretrained(
            folder,
            device_map=device,
            dtype=torch.float32,
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # they are named below
        )
    lost, changed = sorted(map(str, report["missing_keys"])), sorted(str(key) for key, *_ in report["mismatched_keys"])
    if lost:
        raise TaskError(
            f"the weights of model {name!r} lack {len(lost)} of its tensors, which would be random: {lost[0]}"
            f"{', ...' if len(lost) > 1 else ''}. Train, pull or copy it again."
        )
    if changed:
        raise TaskError(
            f"the weights of model {name!r} are damaged (model.safetensors holds {len(changed)} of its tensors in "
            f"another shape, {changed[0]} among them). Train, pull or copy it again."
        )
    return model.eval()


@contextlib.contextmanager
def _without_bars() -> Iterator[None]:
    """Spares whoever runs a command a progress bar for each model, full within milliseconds."""
    before = set_tqdm_hook(lambda bar, args, options: bar(*args, **{**options, "disable": True}))
    try:
        yield
    finally:
        set_tqdm_hook(before)


def list_labels(model: PreTrainedModel) -> list[str]:
    """A model's labels in the order of its logits."""
    names: dict[Any, str] = model.config.id2label or {}
    return [names[index] for index in sorted(names)]


def _locate(task: Task, ref: ModelRef) -> Path:
    if ref.path is None:
        from xray_models.hub_cache import resolve  # local models do not need the Hub's client

        return resolve(task, ref)
    if not (ref.path / "config.json").is_file():
        raise TaskError(
            f"no weights in checkpoints/{ref.checkpoint}. Train them: python -m xray_models.train "
            f"--task {task.name} --model {ref.name} --out checkpoints/{ref.checkpoint}"
        )
    return ref.path


def read_spec(model: PreTrainedModel, folder: Path) -> InputSpec:
    """Reads the input that a checkpoint takes from its own preprocessing configuration.

    Raises:
        TaskError: when the preprocessing is one that the panel cannot reproduce.
    """
    if _is_timm(model):
        return _timm_spec(model.config.pretrained_cfg)
    return read_processor(json.loads((folder / "preprocessor_config.json").read_text(encoding="utf-8")))


def _is_timm(model: PreTrainedModel) -> bool:
    return bool(model.config.model_type == "timm_wrapper")


def _timm_spec(config: dict[str, Any]) -> InputSpec:
    fits = {"squash": "squash", "center": "crop"}
    mode = config.get("crop_mode") or "center"
    if mode not in fits:
        raise TaskError(f"timm's crop_mode is {mode!r}; the panel knows {', '.join(fits)}.")
    _, height, width = config["input_size"]
    return InputSpec(
        height,
        width,
        mean=tuple(config["mean"]),
        std=tuple(config["std"]),
        resample=config["interpolation"],
        fit=fits[mode],
        crop=config.get("crop_pct") or 1.0,
    )
