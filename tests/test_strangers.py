import json

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import roc_auc_score

from evaluation import run, strangers
from evaluation.cases import collect_cases
from evaluation.document import Grid, Paragraph
from evaluation.predictions import tabulate
from evaluation.strangers import judge_strangers
from evaluation.strangers_section import build_strangers_section
from tests.test_samples import list_rows
from xray_models.images import read_image
from xray_models.layouts import DataError
from xray_models.panel import Panel


@pytest.fixture(scope="module")
def panel(untrained):
    return Panel.load(untrained, ["simple_cnn", "resnet18"], device="cpu")


@pytest.fixture(scope="module")
def table(panel, phantoms):
    return tabulate(panel.task, collect_cases(panel, list_rows(phantoms), phantoms)[0])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Six stripes, two folders deep, with a file that is no image and a text beside them."""
    folder = tmp_path_factory.mktemp("other") / "stripes"
    (folder / "a" / "b").mkdir(parents=True)
    for number in range(6):
        plane = np.tile(np.arange(96) // (number + 1) % 2 * 255, (96, 1)).astype(np.uint8)
        Image.fromarray(plane).save(folder / "a" / "b" / f"{number}.png")
    (folder / "broken.png").write_bytes(b"no image")
    (folder / "list.csv").write_text("a,b")
    return folder


@pytest.fixture(scope="module")
def found(panel, table, folder):
    return judge_strangers(panel, table, [folder, folder], seed=1)


def test_every_kind_is_judged_by_every_model(found):
    assert list(found) == ["stripes", "stripes-2", "photographs", "noise", "blank"]
    assert (found["stripes"]["n"], found["stripes"]["left_out"]) == (6, 1)
    assert found["stripes-2"] == found["stripes"]
    for entry in found.values():
        assert list(entry["models"]) == ["simple_cnn", "resnet18", "consensus"]
        for known in entry["models"].values():
            for interval in known.values():
                assert 0 <= interval["low"] <= interval["value"] <= interval["high"] <= 1
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_a_folder_called_as_what_needs_none_stands_beside_it(tmp_path):
    (tmp_path / "noise").mkdir()
    (tmp_path / "noise" / "1.png").touch()
    kinds = [kind for kind, *_ in strangers._list_kinds([tmp_path / "noise"], 0)]
    assert kinds == ["noise-2", "photographs", "noise", "blank"]


def test_the_figures_are_those_of_the_readings(found, panel, table, folder):
    images = map(read_image, sorted(folder.glob("a/b/*.png")))
    novelty = np.array([reading.consensus.novelty for reading in panel.read_many(images)])
    own = table.answers["consensus"].novelty
    truth = np.repeat([0, 1], [len(own), len(novelty)])
    known = found["stripes"]["models"]["consensus"]
    assert known["auroc"]["value"] == pytest.approx(roc_auc_score(truth, np.concatenate([own, novelty])), abs=1e-6)
    assert known["refused"]["value"] == pytest.approx((novelty > 1).mean(), abs=1e-6)


def test_a_model_without_a_reference_is_left_out():
    class Known:
        groups = np.array(["a", "b", "c"])

    class Answer:
        def __init__(self, novelty):
            self.novelty = np.array(novelty)

    Known.answers = {"sees": Answer([0.1, 0.2, 0.3]), "blind": Answer([np.nan] * 3)}
    got = strangers._compare(Known, {"sees": np.array([0.25, 4.0]), "blind": np.array([np.nan, np.nan])}, 0)
    assert list(got) == ["sees"]
    assert got["sees"]["auroc"]["value"] == pytest.approx(5 / 6, abs=1e-6)
    assert got["sees"]["refused"]["value"] == 0.5


@pytest.mark.parametrize(("name", "words"), [("gone", "no folder"), ("empty", "no image")])
def test_a_folder_without_images_is_an_error(panel, table, tmp_path, name, words):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=words) as caught:
        judge_strangers(panel, table, [tmp_path / name])
    assert name in str(caught.value)


def test_the_section_says_what_is_seen_through_least(found):
    found = {kind: json.loads(json.dumps(entry)) for kind, entry in found.items()}
    for entry in found.values():
        entry["models"]["consensus"]["refused"] = {"value": 1.0, "low": 1.0, "high": 1.0}
    section = build_strangers_section(found)
    assert isinstance(section.blocks[0], Paragraph) and "every one of these" in section.blocks[0].text
    found["noise"]["models"]["consensus"]["refused"] = {"value": 0.5, "low": 0.3, "high": 0.7}
    del found["noise"]["models"]["resnet18"]
    section = build_strangers_section(found)
    text = section.blocks[0].text
    assert "call noise unlike their training images least often: 50.0 % (30.0 to 70.0) of 30 images" in text
    grids = [block for block in section.blocks if isinstance(block, Grid)]
    assert [len(grid.rows) for grid in grids] == [5, 5]
    assert all(len(row) == len(grid.heads) for grid in grids for row in grid.rows)


def test_a_folder_is_sampled(tmp_path, monkeypatch):
    monkeypatch.setattr(strangers, "LIMIT", 3)
    for number in range(8):
        Image.fromarray(np.full((8, 8), number, np.uint8)).save(tmp_path / f"{number}.png")
    _, count, images = next(strangers._list_kinds([tmp_path], 0))
    assert count == len({int(image.pixels[0, 0]) for image in images}) == 3


def test_files_that_are_no_images_cost_no_other_result(panel, table, tmp_path):
    (tmp_path / "torn.png").write_bytes(b"no image")
    found = judge_strangers(panel, table, [tmp_path])
    assert found[tmp_path.name] == {"n": 0, "left_out": 1, "models": {}}
    assert found["noise"]["n"] == 30
    assert build_strangers_section(found).blocks


def test_a_wrong_folder_is_said_before_any_work(phantoms, tmp_path, capsys):
    words = ["--task", "phantom", "--data", str(phantoms), "--out", str(tmp_path / "out")]
    assert run.main([*words, "--foreign", str(tmp_path / "gone")]) == 2
    assert "gone" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
