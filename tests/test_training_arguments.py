import torch

from xray_models import training_arguments
from xray_models.architectures import build_model
from xray_models.recipes import Recipe
from xray_models.training_arguments import count_workers

LABELS = ["Normal", "Nodule"]


def test_batches_are_prepared_beside_the_network_where_that_pays(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(training_arguments.os, "sched_getaffinity", lambda _: {0, 1}, raising=False)
    plain = Recipe(batch_size=8)  # varied batch by batch, by the cores that learn
    recipe, copies = Recipe(batch_size=8, augment="autoaugment"), Recipe(batch_size=8, balance="copies")
    heavy, light = (build_model(name, LABELS, Recipe(image_size=64))[0] for name in ("vit_tiny", "simple_cnn"))
    assert count_workers(heavy, 80, recipe) == count_workers(heavy, 80, copies) == 1
    assert count_workers(heavy, 80, plain) == 0
    assert count_workers(heavy, 79, recipe) == count_workers(light, 80, recipe) == 0
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert count_workers(heavy, 80, recipe) == 0
    monkeypatch.delenv("WORLD_SIZE")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(training_arguments.os, "sched_getaffinity", lambda _: set(range(16)), raising=False)
    assert count_workers(light, 8, plain) == 8
