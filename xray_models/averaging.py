"""A moving average of a model's weights, kept while it trains."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.optim.swa_utils import AveragedModel
from transformers import PreTrainedModel, TrainerCallback, TrainingArguments

AVERAGE = "average.safetensors"  # beside the Trainer's own files in its checkpoints


class Average(TrainerCallback):
    """Exponential moving average of the weights (Polyak & Juditsky, 1992), slower as training goes on.

    Args:
        model: what is averaged.
        decay: share of the old average that each step keeps, in (0, 1); less in the first steps.
    """

    def __init__(self, model: PreTrainedModel, decay: float):
        self.model, self.decay, self.steps = model, decay, 0
        self.average = AveragedModel(model, multi_avg_fn=self._mix, use_buffers=True)

    @torch.no_grad()
    def _mix(self, average: Any, current: Any, _: Any) -> None:
        keep = min(self.decay, (1 + self.steps) / (10 + self.steps))
        if average[0].is_floating_point():
            torch._foreach_lerp_(list(average), list(current), 1 - keep)
        else:
            torch._foreach_copy_(list(average), list(current))

    def on_step_end(self, args: TrainingArguments, state: Any, control: Any, **kwargs: Any) -> None:
        """Takes the step's weights in."""
        self.steps = state.global_step
        self.average.update_parameters(self.model)

    def save(self, folder: Path) -> None:
        """Keeps the average beside the Trainer's own weights."""
        save_file({k: v.contiguous() for k, v in self.average.module.state_dict().items()}, folder / AVERAGE)

    def resume(self, checkpoint: str) -> None:
        """Goes on from the average that a checkpoint holds."""
        self.average.module.load_state_dict(load_file(Path(checkpoint) / AVERAGE))
        self.average.n_averaged += 1

    def in_place(self) -> _Swapped:
        """A context in which the model has the averaged weights."""
        return _Swapped(self.model, self.average.module)


class _Swapped:
    def __init__(self, model: nn.Module, other: nn.Module):
        self.model, self.other = model, other

    def __enter__(self) -> None:
        self.kept = {name: tensor.clone() for name, tensor in self.model.state_dict().items()}
        self.model.load_state_dict(self.other.state_dict())

    def __exit__(self, *_: object) -> None:
        self.model.load_state_dict(self.kept)
