"""A trained model as the teacher of another (knowledge distillation)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from xray_models.checkpoints import Checkpoint, load_checkpoint
from xray_models.images import InputSpec
from xray_models.precision import bf16_helps
from xray_models.recipes import Recipe, list_teachers
from xray_models.tasks import Task


class Teacher:
    """The mean opinion of trained models about the very tensors that a student trains on, mixed or cropped as they are.

    Hinton et al., 2015, "Distilling the knowledge in a neural network"; that teacher and student see the same
    augmented image, and patience: Beyer et al., 2022, "Knowledge distillation: a good teacher is patient and
    consistent".

    Args:
        members: the trained models; their temperatures are folded in, so that their doubts are worth learning.
        spec: the student's input.
    """

    def __init__(self, members: Sequence[Checkpoint], spec: InputSpec):
        self.members, self.spec = members, spec
        for member in members:
            member.model.requires_grad_(False)

    @torch.no_grad()
    def __call__(self, pixels: torch.Tensor) -> torch.Tensor:
        """Answers a batch.

        Args:
            pixels: (N, C, H, W), as the student gets them.

        Returns:
            (N, K) probabilities, float32.
        """
        plain = _undo(pixels, self.spec)
        opinions = []
        for member in self.members:
            nn.Module.to(member.model, pixels.device)
            with torch.autocast(pixels.device.type, torch.bfloat16, enabled=bf16_helps()):
                logits = member.model(pixel_values=_apply(plain, member.spec)).logits
            opinions.append(logits.float().softmax(dim=1))
        return torch.stack(opinions).mean(dim=0)


def load_teacher(task: Task, recipe: Recipe, spec: InputSpec) -> Teacher | None:
    """Loads the recipe's teacher, one or several of the task's models; None where it names none.

    Raises:
        TaskError: when the task has no such model, or it is not trained.
    """
    names = list_teachers(recipe.teacher)
    return Teacher([load_checkpoint(task, task.model(name)) for name in names], spec) if names else None


def learn_from(teacher: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
    """Kullback-Leibler divergence of a student's opinions from its teacher's, summed over the batch, in nats.

    Args:
        teacher: (N, K) probabilities.
        logits: (N, K) of the student.
    """
    return nn.functional.kl_div(logits.float().log_softmax(dim=1), teacher, reduction="sum")


def _undo(pixels: torch.Tensor, spec: InputSpec) -> torch.Tensor:
    """Grey values in [0, 1], (N, 1, H, W), of what `normalise` made."""
    return pixels[:, :1].float() * spec.std[0] + spec.mean[0]


def _apply(plain: torch.Tensor, spec: InputSpec) -> torch.Tensor:
    if plain.shape[-2:] != (spec.height, spec.width):
        plain = nn.functional.interpolate(plain, (spec.height, spec.width), mode="bilinear", antialias=True)
    mean, std = (torch.tensor(part, device=plain.device).view(-1, 1, 1) for part in (spec.mean, spec.std))
    return (plain - mean) / std
