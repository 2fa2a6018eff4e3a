import io
import json
import os

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
    assert [reading["file"] for reading in readings] == paths
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


def test_a_name_that_is_no_text_is_printed_all_the_same(panel, phantoms, tmp_path, monkeypatch):
    odd = tmp_path / os.fsdecode(b"\xe9.png")
    odd.write_bytes(sorted(phantoms.glob("Effusion/*.png"))[0].read_bytes())
    for option in ([], ["--json"]):
        out = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
        monkeypatch.setattr("sys.stdout", out)
        assert read.main([str(odd), "--task", "phantom", *option]) == 0
        assert b"udce9.png" in out.buffer.getvalue()


def test_a_reader_that_leaves_early_is_no_traceback(panel, phantoms, monkeypatch):
    end, start = os.pipe()
    os.close(end)
    with os.fdopen(start, "w") as out:
        monkeypatch.setattr("sys.stdout", out)
        assert read.main([str(next(phantoms.glob("Effusion/*.png"))), "--task", "phantom", "--json"]) == 1


def test_a_model_is_asked_once(capsys):
    assert read.main(["x.png", "--task", "phantom", "--models", "simple_cnn", "simple_cnn"]) == 2
    assert "model 'simple_cnn' is named twice" in capsys.readouterr().err


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
