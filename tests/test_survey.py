import shutil

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from xray_models import phantom, survey
from xray_models.datasets import open_dataset
from xray_models.tasks import load_task


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Bones; one picture is there twice, one stands in two sizes under two labels, one file is a text."""
    folder = tmp_path_factory.mktemp("bones")
    for k, label in enumerate(load_task("bone").labels):
        (folder / label).mkdir()
        for i in range(6):
            pixels = phantom.draw_phantom("Normal", 10 * k + i, size=64).pixels
            Image.fromarray(pixels).save(folder / label / f"{k}{i}.png")
    again = Image.open(folder / "healthy" / "20.png")
    again.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(folder / "healthy" / "mirrored.png")
    Image.open(folder / "fractured" / "10.png").resize((90, 90)).save(folder / "healthy" / "larger.png")
    (folder / "healthy" / "text.jpg").write_text("not an image")
    return folder


def test_sizes_and_exposure_are_measured_at_full_depth(tmp_path):
    grey = np.tile(np.linspace(0, 65535, 100).astype(np.uint16), (40, 1))
    Image.fromarray(grey).save(tmp_path / "a.png")
    Image.fromarray(np.full((300, 500), 51, np.uint8)).save(tmp_path / "b.png")
    measures = survey.measure_images([str(tmp_path / name) for name in ("a.png", "b.png")])
    assert measures[["height", "width"]].to_numpy().tolist() == [[40, 100], [300, 500]]
    assert measures.loc[0, ["dark", "mean", "bright"]].to_list() == pytest.approx([5, 50, 95], abs=0.5)
    assert measures.loc[1, ["dark", "mean", "bright"]].to_list() == pytest.approx([20, 20, 20])


@pytest.mark.parametrize(
    ("sides", "size", "filled"),
    [([200, 224, 300], 224, 2 / 3), ([299], 288, 1), ([2304, 2880], 512, 1), ([50, 64], 64, 0.5), ([50], 64, 0)],
)
def test_the_suggested_input_is_filled_by_as_many_images_as_is_said(sides, size, filled):
    measures = pd.DataFrame({"height": sides, "width": [3000] * len(sides)})
    assert survey.suggest_size(measures) == size
    assert survey.share_filling(measures, size) == pytest.approx(filled)


def make_measures(count, rng):
    table = pd.DataFrame({name: rng.uniform(0, 100, count) for name in survey.EXPOSURE})
    return table.assign(height=rng.choice([200, 256, 512], count), width=256)


def test_shortcuts_are_named_and_nothing_else():
    rng = np.random.default_rng(0)
    labels = np.array(["a", "b", "c"])[np.arange(600) % 3]
    measures = make_measures(600, rng)
    assert survey.find_shortcuts(labels, measures) == []
    measures.loc[labels == "a", "height"] = 1024
    measures.loc[labels == "b", "mean"] = rng.uniform(40, 50, 200)  # in the middle: no threshold tells it
    said = survey.find_shortcuts(labels, measures)
    assert len(said) == 2
    assert said[0].startswith("a: the picture's size alone tells it from the other labels with an AUROC of 1.00")
    assert said[1].startswith("b: the exposure alone")


def test_nothing_is_said_about_a_handful_of_images():
    measures = make_measures(30, np.random.default_rng(0))
    measures.loc[:14, "height"] = 1024
    assert survey.find_shortcuts(["a"] * 15 + ["b"] * 15, measures) == []


def test_the_command_prints_and_writes_what_is_there(folder, tmp_path, capsys):
    out = tmp_path / "out"
    assert survey.main(["--task", "bone", "--data", str(folder), "--out", str(out)]) == 0
    text = capsys.readouterr().out
    assert "20 images in" in text
    assert "most often 64 x 64 (19), 90 x 90 (1); 100% of the images fill an input of 64 pixels." in text
    assert "Near-copies: 2 pairs, 1 of them mirrored, in 2 clusters of 4 images" in text
    assert "Test images with a twin in train: 0 of" in text
    assert "! Pairs of near-copies under two labels: 1 (copies.csv)" in text
    assert "Files left out: 1" in text
    faults = pd.read_csv(out / "faults.csv")
    assert faults[["path", "label"]].to_numpy().tolist() == [["healthy/text.jpg", "healthy"]]
    copies = pd.read_csv(out / "copies.csv")
    assert copies.to_numpy().tolist() == [
        ["fractured/10.png", "healthy/larger.png", False, "fractured", "healthy"],
        ["healthy/20.png", "healthy/mirrored.png", True, "healthy", "healthy"],
    ]
    assert {path.name for path in out.glob("*.png")} == {
        "counts.png",
        "sizes.png",
        "exposure.png",
        "copies.png",
        "sheet_beyond_repair.png",
        "sheet_fractured.png",
        "sheet_healthy.png",
    }
    assert len(pd.read_csv(out / "manifest.csv")) == 20


def test_a_label_without_images_has_no_sheet(folder, tmp_path, capsys):
    data, out = shutil.copytree(folder, tmp_path / "data"), tmp_path / "out"
    for path in (data / "beyond repair").iterdir():
        path.unlink()
    assert survey.main(["--task", "bone", "--data", str(data), "--out", str(out)]) == 0
    assert "14 images in" in capsys.readouterr().out
    sheets = {path.name for path in out.glob("sheet_*.png")}
    assert sheets == {"sheet_fractured.png", "sheet_healthy.png"} and (out / "copies.png").is_file()


def test_the_text_is_printed_before_anything_is_drawn(folder, tmp_path, capsys, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(survey, "write_survey", stop)
    with pytest.raises(KeyboardInterrupt):
        survey.main(["--task", "bone", "--data", str(folder), "--out", str(tmp_path)])
    assert "20 images in" in capsys.readouterr().out


def test_counts_are_in_the_order_of_the_task(folder):
    task = load_task("bone")
    table = survey.take_survey(task, open_dataset(task, folder)).counts
    assert list(table.index) == list(task.labels)
    assert list(table.columns) == ["train", "validation", "test", "all"]
    assert table["all"].to_list() == [6, 6, 8]


def test_wrong_commands_are_sentences(tmp_path, capsys):
    assert survey.main(["--task", "bones"]) == 2
    assert "Did you mean 'bone'" in capsys.readouterr().err
    assert survey.main(["--task", "bone", "--data", str(tmp_path)]) == 2
    assert "expected the folders beyond repair" in capsys.readouterr().err
