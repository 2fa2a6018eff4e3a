import json

import pytest
from PIL import Image

from tests.conftest import has_starters
from xray_models import read
from xray_models.panel import Panel


@pytest.fixture
def panel(untrained, monkeypatch):
    loaded = Panel.load(untrained, device="cpu")
    monkeypatch.setattr(Panel, "load", lambda task, models, engine: loaded)
    return loaded


def test_json_lines_and_words(panel, phantoms, capsys):
    paths = [str(path) for path in sorted(phantoms.glob("Effusion/*.png"))[:2]]
    assert read.main([*paths, "--task", "phantom", "--json"]) == 0
    readings = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [reading["schema"] for reading in readings] == [1, 1]
    assert read.main([paths[0], "--task", "phantom"]) == 0
    words = capsys.readouterr().out
    assert "resnet18" in words and "3 of 3 models answered" in words


def test_a_file_that_cannot_be_read_does_not_stop_the_others(panel, phantoms, tmp_path, capsys):
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"not an image")
    good = str(sorted(phantoms.glob("Effusion/*.png"))[0])
    assert read.main([str(bad), good, "--task", "phantom", "--json"]) == 1
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 1
    assert f"{bad}: not read" in err


@pytest.mark.data
def test_the_truncated_originals_are_reported_one_by_one(panel, published, capsys):
    paths = sorted(str(path) for path in (published / "fracture" / "extras_truncated_originals").rglob("*.jpg"))
    assert len(paths) == 59
    assert read.main([*paths, "--task", "phantom"]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(": ")[0] for line in lines] == paths
    assert all("ends early" in line or "truncated" in line.lower() for line in lines)


def test_unknown_task_is_a_sentence(capsys):
    assert read.main(["x.png", "--task", "lung"]) == 2
    assert "Unknown task: 'lung'. Valid: bone" in capsys.readouterr().err


def test_a_starter_panel_answers(tmp_path, capsys):
    if not has_starters("phantom"):
        pytest.skip("no starter models of phantom")
    Image.new("L", (300, 200), 90).save(tmp_path / "grey.png")
    assert read.main([str(tmp_path / "grey.png"), "--task", "phantom"]) == 0
    said = capsys.readouterr()
    assert "unlike the images" in said.out  # a blank picture is no radiograph
    assert "Loading" not in said.err  # no bar for each model
