"""A running reading room whose models were never trained and whose heatmaps lie where they are known to."""

import numpy as np
import pytest
from PIL import Image, ImageFilter

from reading_room import panels
from reading_room.app import build_app, launch_options
from tests.browser.chromium import CHROMIUM, RUNNING
from xray_models import attribution, phantom
from xray_models.attribution import Heatmap
from xray_models.images import encode_png, from_pixels


@pytest.fixture(scope="module", autouse=True)
def _chromium():
    if CHROMIUM is None:  # the tests are skipped
        yield
        return
    with RUNNING.held():
        yield


@pytest.fixture(scope="module")
def lesion():
    """A phantom whose lesion alone is white, and the lesion's mask."""
    drawn = phantom.draw_phantom("Nodule", seed=5, size=256)
    pixels = (drawn.pixels // 2).astype(np.uint8)
    pixels[drawn.mask] = 255
    return from_pixels(pixels[:, 20:236]), drawn.mask[:, 20:236]


@pytest.fixture(scope="module")
def room(untrained, tmp_path_factory, lesion):
    """A running reading room with untrained models, whose heatmaps are the lesion, softened."""
    _, mask = lesion
    soft = np.asarray(Image.fromarray(mask.astype(np.uint8) * 255).filter(ImageFilter.GaussianBlur(6)), np.float32)

    def explain(model, image, label, method="hires_cam", features=None, check=None):
        small = np.asarray(Image.fromarray(soft / soft.max()).resize(image.pixels.shape[::-1]))
        return Heatmap(small, method, label, signed=method not in ("grad_cam", "hires_cam", "smooth_grad"))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(panels, "load_tasks", lambda: {"phantom": untrained})
        patch.setattr(attribution, "explain", explain)
        app = build_app(tmp_path_factory.mktemp("ledger"), "phantom")
        app.room.reports = tmp_path_factory.mktemp("reports")  # not those of whoever runs the tests
        _, url, _ = app.launch(prevent_thread_lock=True, quiet=True, server_name="127.0.0.1", **launch_options())
        yield app.room, url.rstrip("/")
        app.close()


@pytest.fixture
def file(tmp_path, lesion):
    path = tmp_path / "image.png"
    path.write_bytes(encode_png(lesion[0]))
    return path
