import numpy as np
import pandas as pd
import pytest
from PIL import Image

from evaluation.samples import QuickPanel, draw_rows, mean_known, measure_means, read_sample, with_pixels
from xray_models.images import from_pixels
from xray_models.layouts import DataError
from xray_models.panel import Panel
from xray_models.phantom import draw_phantom


def list_rows(folder, count=10):
    """The rows of a manifest for <label>/<name>.png, each image a group of its own."""
    paths = sorted(folder.glob("*/*.png"))
    rows = pd.DataFrame({"path": [str(path.resolve()) for path in paths], "label": [p.parent.name for p in paths]})
    rows["group"] = range(len(rows))
    return rows.groupby("label").head(count).reset_index(drop=True)


def test_every_label_is_drawn_equally_often():
    labels = ["a"] * 50 + ["b"] * 5 + ["c"] * 20
    rows = pd.DataFrame({"path": [str(k) for k in range(75)], "label": labels, "group": range(75)})
    assert draw_rows(rows, 12)["label"].value_counts().to_dict() == {"a": 4, "b": 4, "c": 4}
    assert draw_rows(rows, 24)["label"].value_counts().to_dict() == {"a": 10, "b": 5, "c": 9}
    assert len(draw_rows(rows, 500)) == 75
    assert draw_rows(rows, 12, 1).equals(draw_rows(rows, 12, 1))
    assert not draw_rows(rows, 12, 1).equals(draw_rows(rows, 12, 2))


@pytest.mark.parametrize(("count", "limit"), [(0, 5), (5, 0)])
def test_an_empty_sample_is_refused(count, limit):
    rows = pd.DataFrame({"path": ["x"] * count, "label": ["a"] * count, "group": range(count)})
    with pytest.raises(DataError, match=rf"A sample of {limit} of {count} images is empty\. Give a limit of 1 or more"):
        draw_rows(rows, limit)


def test_images_are_read_made_small_and_named(tmp_path):
    (tmp_path / "Normal").mkdir()
    pixels = draw_phantom("Normal", 1, size=256).pixels
    Image.fromarray(pixels.repeat(4, axis=0).repeat(3, axis=1)).save(tmp_path / "Normal" / "large.png")
    Image.fromarray(pixels).save(tmp_path / "Normal" / "small.png")
    (tmp_path / "Normal" / "torn.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    rows = pd.DataFrame({"path": sorted(map(str, tmp_path.glob("*/*.png"))), "label": "Normal", "group": 7})
    sample = read_sample(rows, tmp_path, 10)
    found = {item.name: item for item in sample.items}
    assert sorted(found) == ["Normal/large.png", "Normal/small.png"]
    assert sample.left_out == 1
    assert sample.groups.tolist() == ["7", "7"]
    large, small = found["Normal/large.png"], found["Normal/small.png"]
    assert large.shape == (1024, 768)
    assert large.image.pixels.shape == (512, 384)
    assert (small.image.pixels == pixels).all()
    assert np.abs(large.image.pixels.mean() - pixels.mean()) < 1
    with pytest.raises(DataError, match="None of the 1 images of the sample can be read"):
        read_sample(rows[rows["path"].str.contains("torn")], tmp_path, 10)


def test_new_pixels_are_clipped_and_rounded():
    image = from_pixels(np.zeros((40, 40), dtype=np.uint16))
    changed = with_pixels(image, np.linspace(-5, 7e4, 1600).reshape(40, 40))
    assert changed.pixels.dtype == np.uint16
    assert (changed.pixels.min(), changed.pixels.max()) == (0, 65535)
    assert changed.warnings == image.warnings


@pytest.mark.parametrize("half", [False, True])
def test_the_quick_panel_says_the_same(untrained, image, half):
    panel = Panel.load(untrained, device="cpu")
    quick = QuickPanel(panel, half=half)
    one, other = panel.read(image), quick.read(image)
    assert quick.precision == ("bfloat16" if half else "float32")
    gaps = [
        max(abs(exact.probs[label] - fast.probs[label]) for label in exact.probs)
        for exact, fast in zip(one.opinions, other.opinions, strict=True)
    ]
    assert max(gaps) < (0.02 if half else 1e-5)
    assert max(gaps) > 1e-5 or not half


def test_a_model_that_fails_stays_unavailable(untrained, image, monkeypatch):
    panel = Panel.load(untrained, device="cpu")
    quick = QuickPanel(panel, half=False)
    broken = panel.checkpoints["vit_tiny"]
    monkeypatch.setattr(broken.model, "forward", None)
    monkeypatch.setattr(type(broken.parts.body), "forward", lambda *given: 1 / 0)
    statuses = {opinion.model: opinion.status for opinion in quick.read(image).opinions}
    assert statuses == {"simple_cnn": "ok", "resnet18": "ok", "vit_tiny": "unavailable"}


def test_means_leave_out_what_is_not_known():
    values = np.array([1.0, np.nan, 3.0, 5.0])
    weights = np.array([[1, 1, 1, 1], [0, 2, 0, 1], [0, 4, 0, 0]])
    np.testing.assert_array_equal(mean_known(values, weights), [3, 5, np.nan])
    table = np.stack([values, np.ones(4)], axis=1)
    np.testing.assert_array_equal(mean_known(table, weights)[:, 1], [1, 1, 1])


def test_measured_means_have_n_and_an_interval():
    values = {"all": np.arange(40.0), "some": np.where(np.arange(40) < 10, 2.0, np.nan), "none": np.full(40, np.nan)}
    found = measure_means(values, np.arange(40))
    assert found["some"] == {"value": 2, "low": 2, "high": 2, "n": 10}
    assert found["none"] == {"value": None, "low": None, "high": None, "n": 0}
    assert found["all"]["low"] < 19.5 == found["all"]["value"] < found["all"]["high"]
    half = 1.96 * np.arange(40).std() / np.sqrt(40)
    assert found["all"]["high"] - 19.5 == pytest.approx(half, rel=0.15)
