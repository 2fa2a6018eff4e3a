import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from evaluation import audit_command, cases
from evaluation.audit_command import main


@pytest.fixture(scope="module")
def bones(tmp_path_factory):
    """A task's folder whose healthy bones are all wide, and one of them stands there again under another label."""
    folder, rng = tmp_path_factory.mktemp("bones"), np.random.default_rng(0)
    for label in ("beyond repair", "fractured", "healthy"):
        (folder / label).mkdir()
        for number in range(24):
            cells = Image.fromarray(rng.integers(0, 256, (8, 8), np.uint8))
            size = (96, 64) if label == "healthy" else (64, 64)
            cells.resize(size, Image.Resampling.BICUBIC).save(folder / label / f"{number}.png")
    Image.open(folder / "healthy" / "0.png").resize((90, 60)).save(folder / "fractured" / "0.png")
    return folder


def test_it_prints_and_writes_what_was_found(bones, tmp_path, capsys):
    command = ["--task", "bone", "--data", str(bones), "--out", str(tmp_path)]
    assert main(command) == 0
    text = capsys.readouterr().out
    assert "72 images in 71 groups, 0 files left out" in text
    assert "Pairs of near-copies: 1, of them mirrored: 0" in text
    assert "Under two labels: files of equal pixels 0, pairs of near-copies 1" in text
    assert "! Image size and aspect can tell healthy from the other labels: AUROC" in text
    assert str(tmp_path) in text
    found = json.loads((tmp_path / "audit.json").read_text())
    assert all(f"! {alarm}" in text for alarm in found["alarms"])
    assert pd.read_csv(tmp_path / "twins.csv").empty
    assert len(pd.read_csv(tmp_path / "contradictions.csv")) == 1
    assert main([*command, "--strict"]) == 1


def test_silence_is_said(phantoms, tmp_path, capsys):
    assert main(["--task", "phantom", "--data", str(phantoms), "--out", str(tmp_path), "--strict"]) == 0
    text = capsys.readouterr().out
    assert "not looked for" in text and "near-copy in train" not in text
    assert "\nNo alarm\n" in text


def test_labels_of_too_few_images_are_named(bones, tmp_path, capsys):
    for label in ("beyond repair", "fractured", "healthy"):
        (tmp_path / "few" / label).mkdir(parents=True)
        (tmp_path / "few" / label / "7.png").write_bytes((bones / label / "7.png").read_bytes())
    assert main(["--task", "bone", "--data", str(tmp_path / "few"), "--out", str(tmp_path / "out")]) == 0
    text = capsys.readouterr().out
    assert "Not judged for shortcuts, with fewer than 20 groups: beyond repair, fractured, healthy\nNo alarm" in text


def test_the_panel_is_asked_when_told_so(phantoms, untrained, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(audit_command, "load_task", lambda name: untrained)
    words = ["--task", "phantom", "--data", str(phantoms), "--out", str(tmp_path), "--panel", "4"]
    assert main(words) == 0
    hidden = json.loads((tmp_path / "audit.json").read_text())["margins"]["hidden"]
    assert hidden["n"] == 4
    assert set(hidden["models"]) == {"consensus", "simple_cnn", "resnet18", "vit_tiny"}
    capsys.readouterr()
    monkeypatch.setattr(cases, "Panel", pytest.fail)
    assert main(words[:-2]) == 0
    assert json.loads((tmp_path / "audit.json").read_text())["margins"]["hidden"] is None


def test_wrong_commands_are_sentences(tmp_path, capsys):
    assert main(["--task", "bones"]) == 2
    assert "Did you mean 'bone'" in capsys.readouterr().err
    assert main(["--task", "bone", "--data", str(tmp_path)]) == 2
    assert "expected the folders beyond repair" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["--task", "bone", "--panel", "0"])
    assert "whole number above 0" in capsys.readouterr().err


def test_it_is_a_command():
    said = subprocess.run(
        [sys.executable, "-m", "evaluation.audit", "--help"], capture_output=True, text=True, check=True
    )
    assert "python -m evaluation.audit" in said.stdout
