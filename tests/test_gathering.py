import threading

import numpy as np
import pytest

from reading_room import gathering
from reading_room.gathering import Gathering
from reading_room.room import Room
from xray_models import phantom
from xray_models.images import encode_png, from_pixels
from xray_models.panel import Panel


def ask_all(gathered, panel, images):
    """Every image from a thread of its own, the first one first; the readings, or errors, in the images' order."""
    found = [None] * len(images)

    def ask(place):
        try:
            found[place] = gathered.read(panel, images[place])
        except MemoryError as error:
            found[place] = error

    threads = [threading.Thread(target=ask, args=(place,)) for place in range(len(images))]
    for thread in threads:
        thread.start()
        panel.begun.wait(10)
    for thread in threads:
        thread.join(60)
    return found


class Slow:
    """A panel whose first batch takes until everybody waits."""

    def __init__(self, gathered, others):
        self.gathered, self.others, self.batches = gathered, others, []
        self.begun = threading.Event()

    def read_many(self, images):
        images = list(images)
        self.batches.append(len(images))
        self.begun.set()
        if len(self.batches) == 1:
            for _ in range(1000):
                with self.gathered._lock:
                    if len(self.gathered._waiting[self]) == self.others:
                        break
                threading.Event().wait(0.01)
        if any(image.pixels.max() == 0 for image in images):
            raise MemoryError("too much")
        return [image.sha256 for image in images]


@pytest.fixture(scope="module")
def images():
    return [from_pixels(np.full((8, 8), value, np.uint8)) for value in range(1, 41)]


def test_who_waits_goes_together_and_gets_his_own(images):
    gathered = Gathering()
    panel = Slow(gathered, 39)
    assert ask_all(gathered, panel, images) == [image.sha256 for image in images]
    assert panel.batches == [1, 16, 16, 7]
    assert gathered.read(panel, images[3]) == images[3].sha256  # and it begins anew
    assert not gathered._waiting


def test_large_images_make_small_batches(images, monkeypatch):
    monkeypatch.setattr(gathering, "PIXELS", 130)
    gathered = Gathering()
    panel = Slow(gathered, 5)
    ask_all(gathered, panel, images[:5] + [from_pixels(np.ones((20, 20), np.uint8))])
    assert max(panel.batches) == 2
    assert sum(panel.batches) == 6


def test_an_error_reaches_its_own_batch_alone(images):
    gathered = Gathering()
    black = from_pixels(np.zeros((8, 8), np.uint8))
    panel = Slow(gathered, 0)
    assert isinstance(ask_all(gathered, panel, [black])[0], MemoryError)
    assert gathered.read(panel, images[0]) == images[0].sha256


def test_readings_of_the_api_are_the_panels(untrained, tmp_path, monkeypatch):
    monkeypatch.setattr("reading_room.panels.load_tasks", lambda: {"phantom": untrained})
    room, files = Room(tmp_path / "flags"), []
    for seed in range(6):
        files.append(tmp_path / f"{seed}.png")
        files[-1].write_bytes(encode_png(from_pixels(phantom.draw_phantom("Nodule", seed, 96).pixels)))
    own = Panel.load(untrained, device="cpu")
    found = [None] * len(files)

    def ask(place):
        found[place] = room.read(str(files[place]), "phantom")

    threads = [threading.Thread(target=ask, args=(place,)) for place in range(len(files))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    for file, raw in zip(files, found, strict=True):
        expected = own.read(room.cases.get("phantom", raw["image"]["sha256"]).image).to_json()
        assert expected["image"] == raw["image"] and file.is_file()
        for ours, theirs in zip(expected["opinions"], raw["opinions"], strict=True):
            assert list(ours["probs"].values()) == pytest.approx(list(theirs["probs"].values()), abs=1e-5)
