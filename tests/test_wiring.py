"""How events are wired: readers are served side by side, and what they get is what each would get alone."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from reading_room import panels
from reading_room.app import build_app
from reading_room.wiring import READERS, download_as
from xray_models import phantom
from xray_models.attribution import explain
from xray_models.images import from_pixels
from xray_models.panel import Panel


def test_whatever_asks_a_panel_shares_its_places_and_the_ledger_keeps_to_one(untrained, tmp_path, monkeypatch):
    monkeypatch.setattr(panels, "load_tasks", lambda: {"phantom": untrained})
    app = build_app(tmp_path, "phantom")
    places = {fn.name: (fn.concurrency_id, fn.concurrency_limit) for fn in app.fns.values() if fn.fn}
    asking = {"read_upload", "read_again", "read_example", "draw_maps", "open_case", "reopen", "lock"}
    assert {name for name, (place, _) in places.items() if place == "reading"} == asking
    assert {places[name] for name in asking} == {("reading", READERS)}
    assert places["save_flag"][1] in (1, "default")


@pytest.mark.parametrize("method", ["hires_cam", "grad_cam", "integrated_gradients", "smooth_grad", "occlusion"])
def test_readings_and_maps_side_by_side_are_those_made_alone(untrained, method):
    quick = method in ("hires_cam", "grad_cam")
    panel = Panel.load(untrained, None if quick else ["simple_cnn"])
    labels = phantom.LABELS if quick else phantom.LABELS[:2]
    images = [from_pixels(phantom.draw_phantom(label, 40, size=96).pixels) for label in labels]

    def read(image):
        kept = {}
        opinions = list(panel.ask(image, kept))
        maps = [explain(panel.checkpoints[o.model], image, o.label, method, kept[o.model]).values for o in opinions]
        return np.array([list(o.probs.values()) for o in opinions]), maps

    alone = [read(image) for image in images]
    with ThreadPoolExecutor(READERS) as pool:
        together = list(pool.map(read, images * (1 + quick)))
    for (probs, maps), (expected, expected_maps) in zip(together, alone * (1 + quick), strict=True):
        np.testing.assert_allclose(probs, expected, atol=1e-6)
        for one, other in zip(maps, expected_maps, strict=True):
            np.testing.assert_allclose(one, other, atol=1e-4)
    assert not np.allclose(alone[0][0], alone[-1][0], atol=1e-6)  # so that a mix-up would show


def test_a_download_names_its_file():
    script = download_as("flags.csv", "text/csv")
    assert "link.download = 'flags.csv'" in script and "type: 'text/csv'" in script
