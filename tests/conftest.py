"""Fixtures for all tests: no network, caches of their own, and small models that were never trained."""

import dataclasses
import gc
import os
from pathlib import Path

import numpy as np
import pytest
import torch

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"

from xray_models import phantom, tasks
from xray_models.architectures import build_model
from xray_models.calibration import fit_reference
from xray_models.checkpoints import save_checkpoint
from xray_models.flags import Ledger
from xray_models.images import from_pixels
from xray_models.tasks import ModelRef, load_task

XRAY_DATA = os.environ.get("XRAY_DATA")


@pytest.fixture(autouse=True, scope="module")
def _same_draws_for_a_file():
    """Random weights are the same in every run, for what a file's fixtures build too."""
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _same_draws_for_a_test(_same_draws_for_a_file):
    torch.manual_seed(0)


@pytest.fixture(autouse=True, scope="module")
def _little_to_search_for_garbage():
    """What was imported, or is kept, is not searched: three times a training, most of a short one's time."""
    if len(gc.get_objects()) > 50_000:
        gc.collect()
        gc.freeze()


@pytest.fixture(autouse=True, scope="session")
def _own_caches(tmp_path_factory):
    base = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(base / "cache"))
        patch.setenv("XDG_CONFIG_HOME", str(base / "config"))
        yield


@pytest.fixture(autouse=True, scope="session")
def _own_ports(worker_id):
    """Pages that open at the same moment in several processes do not look for a free port in the same place."""
    number = int(worker_id.removeprefix("gw")) if worker_id != "master" else 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gradio.http_server.INITIAL_PORT_VALUE", 7860 + 100 * number)
        yield


@pytest.fixture(scope="session")
def published():
    """Folder of the published data sets; skips where there is none."""
    if not XRAY_DATA or not Path(XRAY_DATA, "covid").is_dir():
        pytest.skip("XRAY_DATA does not name a folder with the published data sets")
    return Path(XRAY_DATA)


@pytest.fixture(scope="session")
def phantoms(tmp_path_factory):
    """A folder of 60 small phantoms, <label>/<number>.png."""
    return phantom.write_dataset(tmp_path_factory.mktemp("phantoms") / "phantom", 60, seed=3, size=96)


@pytest.fixture(scope="session")
def image():
    """One phantom, as an image that was read."""
    return from_pixels(phantom.draw_phantom("Nodule", seed=5, size=160).pixels)


@pytest.fixture
def ledger(tmp_path):
    """A ledger of flags without a flag."""
    return Ledger(tmp_path / "flags")


@pytest.fixture(scope="session")
def untrained(tmp_path_factory):
    """The phantom task with three untrained models in a folder of their own."""
    folder = tmp_path_factory.mktemp("checkpoints")
    task = load_task("phantom")
    rng = np.random.default_rng(0)
    refs = []
    for name, width in (("simple_cnn", 0.25), ("resnet18", 0.125), ("vit_tiny", 1.0)):
        torch.manual_seed(0)
        model, spec = build_model(name, task.labels, dataclasses.replace(task.recipe, width=width, image_size=112))
        size = {"simple_cnn": 2 * 128 // 4, "resnet18": 512 // 8, "vit_tiny": 192}[name]
        reference = fit_reference(rng.normal(size=(50, size)), rng.normal(size=(40, size)))
        save_checkpoint(model.eval(), spec, folder / name, {"conformal_threshold": 0.2}, reference)
        refs.append(ModelRef(name, checkpoint=str(folder / name)))
    return dataclasses.replace(task, models=tuple(refs))


def has_starters(task: str) -> bool:
    """Whether the starter models of a task are there."""
    return (tasks.CHECKPOINTS / task).is_dir()
