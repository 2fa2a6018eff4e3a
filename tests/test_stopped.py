"""What commands leave behind when they are stopped, or find no room."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from evaluation import audit_command, run
from xray_models import survey_command
from xray_models.phantom import LABELS

SLOW = """
import runpy, sys, time
from xray_models import arrays

read = arrays.read_image
arrays.read_image = lambda path: [time.sleep(1), read(path)][1]
sys.argv = sys.argv[1:]
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
"""


@pytest.mark.parametrize("module", ["xray_models.train", "evaluation.audit"])
def test_a_command_that_is_ended_from_outside_leaves_no_draft(module, phantoms, tmp_path):
    model = ["--model", "simple_cnn"] if module == "xray_models.train" else []
    words = [module, "--task", "phantom", *model, "--data", str(phantoms), "--out", str(tmp_path / "out")]
    environment = os.environ | {"XDG_CACHE_HOME": str(tmp_path / "cache")}
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW, *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment
    )
    arrays = tmp_path / "cache" / "second-read" / "arrays"
    deadline = time.monotonic() + 60
    while not list(arrays.glob("*/pixels.npy")):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 128 + signal.SIGTERM
    assert not list(arrays.iterdir())


HEAD = "image,group,label,model,revision,predicted,p:Normal,p:Consolidation,p:Nodule,p:Effusion"
ANSWERS = [HEAD, *(f"{n}.png,{n},{label},own,1,Normal,0.4,0.3,0.2,0.1" for n, label in enumerate(LABELS * 6))]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device here that is always full")
@pytest.mark.parametrize(
    ("main", "file"),
    [(audit_command.main, "audit.json"), (run.main, "metrics.json"), (survey_command.main, "manifest.csv")],
)
def test_results_that_find_no_room_are_refused_with_their_folder(main, file, phantoms, tmp_path, capsys):
    out = tmp_path / "out"
    out.mkdir()
    (out / file).symlink_to("/dev/full")
    words = ["--task", "phantom", "--data", str(phantoms), "--out", str(out)]
    if main is run.main:
        (tmp_path / "answers.csv").write_text("\n".join(ANSWERS) + "\n")
        words = ["--task", "phantom", "--predictions", str(tmp_path / "answers.csv"), "--out", str(out)]
        words += ["--resamples", "20"]
    assert main(words) == 2
    said = capsys.readouterr().err
    assert f"The results cannot be written to {out}" in said and "No space left on device. Make room there" in said
