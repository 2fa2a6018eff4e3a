import dataclasses

import numpy as np
import pytest
import torch

from tests.test_trainer import RECIPE, small
from xray_models.checkpoints import load_checkpoint
from xray_models.images import InputSpec, normalise
from xray_models.tasks import TaskError, load_task
from xray_models.teaching import Teacher, learn_from, load_teacher
from xray_models.trainer import build_trainer


class Unlike:
    """A teacher that calls every image by the other label."""

    def __call__(self, pixels):
        top = pixels[:, 0, :8].mean(dim=(1, 2)) > pixels[:, 0, 8:].mean(dim=(1, 2)) + 0.5
        return torch.stack([0.05 + 0.9 * top, 0.95 - 0.9 * top], dim=1)


@pytest.fixture(scope="module")
def phantom():
    return load_task("phantom")


def test_a_teacher_sees_what_its_student_sees(phantom):
    """Whatever the student's mean, spread and size: the teacher gets its own tensor of the same picture."""
    member = load_checkpoint(phantom, phantom.model("vit_tiny"))
    student = InputSpec(224, 224, mean=(0.1,), std=(0.7,))
    grey = torch.randint(0, 256, (3, 224, 224), dtype=torch.uint8)
    found = Teacher([member], student)(normalise(grey, student))
    with torch.no_grad():
        logits = member.model(pixel_values=normalise(grey, member.spec)).logits
    assert torch.allclose(found, logits.softmax(dim=1), atol=0.02)  # bfloat16 where the machine has it
    half = Teacher([member], dataclasses.replace(student, height=112, width=112))
    assert half(normalise(grey[:, ::2, ::2], student)).shape == (3, len(phantom.labels))


def test_several_teachers_give_their_mean(phantom):
    members = [load_checkpoint(phantom, phantom.model(name)) for name in ("resnet18", "simple_cnn")]
    spec = InputSpec(160, 160)
    pixels = torch.randn(2, 3, 160, 160)
    alone = [Teacher([member], spec)(pixels) for member in members]
    assert torch.allclose(Teacher(members, spec)(pixels), (alone[0] + alone[1]) / 2, atol=1e-6)


def test_the_teachers_loss_is_the_divergence():
    logits = torch.tensor([[2.0, 0.0, -1.0], [0.0, 1.0, 0.0]])
    assert learn_from(logits.softmax(dim=1), logits).item() == pytest.approx(0, abs=1e-6)
    teacher = torch.tensor([[1.0, 0.0, 0.0], [0.5, 0.5, 0.0]])
    student = logits.double().softmax(dim=1).numpy()
    expected = -np.log(student[0, 0]) + sum(0.5 * np.log(0.5 / student[1, k]) for k in (0, 1))
    assert learn_from(teacher, logits).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(("teaching", "agrees"), [(1.0, False), (0.0, True)])
def test_a_student_follows_its_teacher_or_the_labels(teaching, agrees, tmp_path):
    """The teacher here contradicts the labels, so that whom the student followed can be told."""
    recipe = dataclasses.replace(RECIPE, learning_rate=0.01, epochs=4, teaching=teaching)
    model, sets = small(recipe=recipe)
    trainer = build_trainer(model, sets, recipe, tmp_path, seed=0, teacher=Unlike())
    images = sets["train"]
    assert (Unlike()(normalise(images.pixels, images.spec)).argmax(1).numpy() != images.labels).all()
    trainer.train()
    accuracy = trainer.state.log_history[-2]["eval_accuracy"]
    assert accuracy >= 0.9 if agrees else accuracy <= 0.1


def test_the_recipe_names_its_teachers(phantom):
    spec = InputSpec(64, 64)
    assert load_teacher(phantom, RECIPE, spec) is None
    both = load_teacher(phantom, dataclasses.replace(RECIPE, teacher="resnet18, vit_tiny"), spec)
    assert [member.name for member in both.members] == ["resnet18", "vit_tiny"]
    assert not any(p.requires_grad for member in both.members for p in member.model.parameters())
    with pytest.raises(TaskError, match="resnet81"):
        load_teacher(phantom, dataclasses.replace(RECIPE, teacher="resnet81"), spec)
