import base64
import dataclasses
import io
import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest
from PIL import Image

from tests import dicom_samples
from tests.conftest import has_starters
from xray_models import read, reading_report
from xray_models.attribution import explain
from xray_models.images import read_image
from xray_models.methods import DEFAULT, TITLES
from xray_models.panel import Panel
from xray_models.readings import Opinion
from xray_models.tasks import ROOT


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


def test_a_report_holds_every_image_and_no_name(panel, phantoms, tmp_path, monkeypatch, capsys):
    """Each image with its picture and one map a model; one that cannot be read has its place and its reason."""
    drawn = []

    def draw(*args):
        drawn.append(explain(*args))
        return drawn[-1]

    monkeypatch.setattr(reading_report, "explain", draw)
    good = sorted(phantoms.glob("Effusion/*.png"))[0]
    image, bad, report = tmp_path / "Doe_Jane.png", tmp_path / "Doe_John.png", tmp_path / "readings.html"
    image.write_bytes(good.read_bytes())
    bad.write_bytes(b"no image <b>")
    assert read.main([str(image), str(bad), "--task", "phantom", "--report", str(report)]) == 1
    page = report.read_text(encoding="utf-8")
    assert "Doe" not in page and "not a medical device" in page
    pictures = [Image.open(io.BytesIO(base64.b64decode(uri))) for uri in re.findall(r"base64,([^\"]+)", page)]
    height, width = read_image(good).pixels.shape
    assert len(pictures) == 1 + len(panel.task.models)
    assert all(abs(picture.width / picture.height - width / height) < 0.02 for picture in pictures)
    reading = panel.read(read_image(good))
    assert page.count("<article>") == 2 and 'Image 2</h2><p class="bad">Not read: ' in page
    assert f"<h3>Consensus: {reading.consensus.label}</h3>" in page
    for opinion in reading.opinions:
        assert f"{TITLES[DEFAULT]} of {opinion.model} for {opinion.label}" in page
    assert [heatmap.method for heatmap in drawn] == [DEFAULT] * len(reading.opinions)
    assert list(tmp_path.glob(".*draft")) == []


def test_a_report_takes_no_images_place(panel, phantoms, tmp_path, monkeypatch, capsys):
    good = str(sorted(phantoms.glob("Effusion/*.png"))[0])
    image = tmp_path / "image.png"
    image.write_bytes(b"mine")
    assert read.main([good, "--task", "phantom", "--report", str(image)]) == 2
    assert image.read_bytes() == b"mine" and "ends in .html" in capsys.readouterr().err
    (tmp_path / "folder.html").mkdir()
    for path, says in ((tmp_path / "no" / "x.html", "is no folder"), (tmp_path / "folder.html", "which is a folder")):
        monkeypatch.setattr(Panel, "load", lambda *_, **__: pytest.fail("the models were loaded for nothing"))
        assert read.main([good, "--task", "phantom", "--report", str(path)]) == 2
        assert says in capsys.readouterr().err


def test_a_model_that_cannot_answer_is_said_in_the_report(panel, phantoms, tmp_path, monkeypatch, capsys):
    missing = Opinion("third", None, status="unavailable", reason="no <weights>")
    monkeypatch.setattr(panel, "members", (*panel.members[:1], missing))
    good = str(sorted(phantoms.glob("Effusion/*.png"))[0])
    report = tmp_path / "readings.html"
    assert read.main([good, "--task", "phantom", "--report", str(report)]) == 0
    page = report.read_text(encoding="utf-8")
    assert "Unavailable: no &lt;weights&gt;" in page and "1 unavailable, left out" in page


def test_a_report_says_what_is_not_known(panel, phantoms, tmp_path, monkeypatch, capsys):
    """Of a model trained elsewhere neither the labels that it rules out are known nor whether it knows such images."""
    ask = panel.ask
    unknown = {"prediction_set": None, "novelty": None}
    monkeypatch.setattr(panel, "ask", lambda *args: (dataclasses.replace(said, **unknown) for said in ask(*args)))
    good, report = str(sorted(phantoms.glob("Effusion/*.png"))[0]), tmp_path / "readings.html"
    assert read.main([good, "--task", "phantom", "--report", str(report)]) == 0
    page = report.read_text(encoding="utf-8")
    assert page.count("Likeness to the training images not known") == len(panel.task.models)
    assert "ruled out" not in page and "No label is clear enough" not in page


def test_a_report_says_the_bits_that_are_stored(panel, tmp_path, capsys):
    image, report = tmp_path / "a.dcm", tmp_path / "readings.html"
    image.write_bytes(dicom_samples.write(dicom_samples.build(bits=10)))
    assert read.main([str(image), "--task", "phantom", "--report", str(report)]) == 0
    assert "pixels, 10 bit" in report.read_text(encoding="utf-8")


@pytest.mark.skipif(os.name != "posix", reason="no SIGTERM")
def test_a_report_outlives_whoever_read_along_but_none_is_left_that_is_not_whole(tmp_path, phantoms):
    if not has_starters("phantom"):
        pytest.skip("no starter models of phantom")
    images = [str(sorted(phantoms.glob("Effusion/*.png"))[0])] * 3000
    words = ["--task", "phantom", "--models", "simple_cnn", "--report", str(tmp_path / "readings.html")]
    command = [sys.executable, "-m", "xray_models.read", *images, *words]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as run:
        run.stdout.readline()
        run.stdout.close()
        (draft,) = tmp_path.iterdir()
        size = draft.stat().st_size
        while draft.stat().st_size < size + 500_000:
            assert run.poll() is None
            time.sleep(0.05)
        run.terminate()
        said = run.stderr.read().decode()
    assert (run.returncode, said, list(tmp_path.iterdir())) == (128 + signal.SIGTERM, "", [])


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
