import dataclasses

import numpy as np
import pandas as pd
import pytest

from evaluation.margins import SHARE, judge_margins, mask_margins
from xray_models.datasets import DataError, open_dataset
from xray_models.images import from_pixels
from xray_models.panel import Panel
from xray_models.tasks import ModelRef, load_task

FIELDS = {"whole", "hidden", "difference", "changed"}


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_hidden_margins_repeat_what_is_seen(dtype):
    pixels = np.random.default_rng(0).integers(0, np.iinfo(dtype).max, (40, 60)).astype(dtype)
    masked = mask_margins(from_pixels(pixels), 0.1)
    assert masked.bits == 8 * np.dtype(dtype).itemsize
    assert (masked.pixels[4:-4, 6:-6] == pixels[4:-4, 6:-6]).all()
    assert (masked.pixels[:4, :6] == pixels[4, 6]).all()
    assert (masked.pixels[20, -6:] == pixels[20, -7]).all()
    other = pixels.copy()
    other[:4], other[:, -6:] = 0, 0
    assert (mask_margins(from_pixels(other), 0.1).pixels == masked.pixels).all()
    assert masked.sha256 == from_pixels(masked.pixels).sha256


def test_nothing_or_nearly_all_can_be_hidden(image):
    assert (mask_margins(image, 0).pixels == image.pixels).all()
    tiny = from_pixels(np.array([[1, 2], [3, 4]], np.uint8))
    assert mask_margins(tiny, 0.49).pixels.tolist() == tiny.pixels.tolist()  # one that has no middle stays whole
    small = from_pixels(np.arange(9, dtype=np.uint8).reshape(3, 3))
    assert mask_margins(small, 0.49).pixels.tolist() == [[4] * 3] * 3
    for share in (-0.1, 0.5):
        with pytest.raises(ValueError, match="below 0.5"):
            mask_margins(image, share)


class Marked(Panel):
    """Says Nodule where the corner is bright, else Normal."""

    def __init__(self, task):
        super().__init__(task, [])

    @property
    def checkpoints(self):
        return {"marked": None, "silent": None}

    def read_many(self, images):
        from xray_models.readings import Opinion, Reading, agree

        for image in images:
            label = "Nodule" if image.pixels[0, -1] == 255 else "Normal"
            opinion = Opinion("marked", label=label, probs=dict.fromkeys(self.task.labels, 0.1) | {label: 0.7})
            silent = Opinion("silent", status="unavailable", reason="broken")
            yield Reading(self.task.name, {}, (opinion, silent), agree(self.task, [opinion, silent]))


@pytest.fixture
def marked(tmp_path):
    """Twenty Nodules with a bright corner and twenty Normals without."""
    from PIL import Image

    rng, rows = np.random.default_rng(0), []
    for number in range(40):
        label = ("Nodule", "Normal")[number % 2]
        pixels = rng.integers(0, 200, (64, 64)).astype(np.uint8)
        if label == "Nodule":
            pixels[:3, -3:] = 255
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
        rows.append((f"{number}.png", label, number))
    (tmp_path / "broken.png").write_bytes(b"")
    rows.append(("broken.png", "Normal", 40))
    return tmp_path, pd.DataFrame(rows, columns=["path", "label", "group"])


def test_a_panel_that_looks_at_a_corner_is_found_out(marked):
    folder, rows = marked
    found = judge_margins(Marked(load_task("phantom")), rows, folder)
    assert found["n"] == 40
    assert found["share"] == SHARE == 1 / 16
    for name in ("marked", "consensus"):
        entry = found["models"][name]
        assert set(entry) == FIELDS
        assert entry["whole"]["value"] == 1
        assert entry["hidden"]["value"] == 0.5
        assert entry["difference"]["value"] == -0.5
        assert entry["difference"]["low"] < -0.5 < entry["difference"]["high"] < 0
        assert entry["changed"]["value"] == 0.5
    assert found["models"]["silent"]["whole"] == {"value": None, "low": None, "high": None, "n": 0}


def test_the_share_of_changed_calls_counts_those_that_changed(marked):
    """Of 4 Nodules and 12 Normals, hiding the corner changes what is said of the 4."""
    folder, rows = marked
    few = pd.concat([rows[rows["label"] == "Nodule"][:4], rows[rows["label"] == "Normal"][:12]])
    found = judge_margins(Marked(load_task("phantom")), few, folder)["models"]["marked"]
    assert (found["whole"]["value"], found["hidden"]["value"], found["changed"]["value"]) == (1, 0.75, 0.25)


def test_a_real_panel_is_asked_twice(untrained, phantoms):
    missing = ModelRef("densenet121", checkpoint="phantom/none")
    task = dataclasses.replace(untrained, models=(untrained.models[0], missing))
    manifest = open_dataset(task, phantoms)
    found = judge_margins(Panel.load(task), manifest.rows, manifest.folder, limit=12)
    assert found["n"] == 12
    assert set(found["models"]) == {"consensus", "simple_cnn"}
    assert found["models"]["consensus"] == found["models"]["simple_cnn"]
    assert found == judge_margins(Panel.load(task), manifest.rows, manifest.folder, limit=12)


def test_no_image_is_an_error(marked):
    folder, rows = marked
    with pytest.raises(DataError, match="sample of 100 of 0"):
        judge_margins(Marked(load_task("phantom")), rows[:0], folder)
