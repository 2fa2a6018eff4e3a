"""Every command and snippet of the README runs, and its numbers are those of the committed result files."""

import contextlib
import dataclasses
import io
import json
import os
import re
import shlex
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
import yaml

import dashboard
from evaluation.starters import render_starters
from evaluation.table import render_table
from reading_room import accounts
from tests.conftest import has_starters
from tests.hub_server import open_hub
from xray_models import hub, read, survey, train
from xray_models.tasks import ModelRef, load_task

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = [line for block in re.findall(r"```sh\n(.*?)```", README, re.S) for line in block.strip().splitlines()]
SNIPPETS = re.findall(r"```python\n(.*?)```", README, re.S)
PORT = 7894


def options_of(start):
    """The options of the README's one command that starts like this."""
    (command,) = [command for command in COMMANDS if command.startswith(start)]
    return shlex.split(command.removeprefix(start))


def test_no_command_is_without_a_test():
    starts = (
        "make dashboard",
        "make test",
        "python dashboard.py",
        "python -m xray_models.read",
        "python -m reading_room.accounts",
        "python -m xray_models.datasets",
        "python -m xray_models.hub push",
        "python -m xray_models.hub pull",
        "python -m xray_models.hub space",
        "python -m xray_models.train --task phantom --model simple_cnn --out runs/simple_cnn",
        "python -m xray_models.train --task phantom --model simple_cnn --out runs/search",
        "python -m evaluation.run --task phantom",
        "python -m evaluation.run --task covid",
        "python -m evaluation.audit",
    )
    for command in COMMANDS:
        assert sum(command.startswith(start) for start in starts) == 1, command
    assert len(SNIPPETS) == 3


@pytest.fixture(scope="module")
def started(tmp_path_factory):
    """`make dashboard`, as printed, on another port."""
    stamp = ROOT / ".venv" / "run"
    if not stamp.exists() or stamp.stat().st_mtime < (ROOT / "requirements.txt").stat().st_mtime:
        pytest.skip("`make dashboard` would first make the environment here")
    log = tmp_path_factory.mktemp("make") / "log"
    with log.open("w") as output:
        env = {**os.environ, "GRADIO_SERVER_PORT": str(PORT)}
        process = subprocess.Popen(
            ["make", "dashboard"],
            cwd=ROOT,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=env,
            start_new_session=True,
        )
        try:
            deadline = time.monotonic() + 150
            while True:
                assert process.poll() is None and time.monotonic() < deadline, log.read_text()
                with contextlib.suppress(OSError):
                    urllib.request.urlopen(f"http://127.0.0.1:{PORT}", timeout=2)
                    break
                time.sleep(0.3)
            yield f"http://127.0.0.1:{PORT}"
        finally:
            os.killpg(process.pid, 15)
            process.wait(timeout=30)


def test_make_dashboard_answers_and_the_client_snippet_runs(started, monkeypatch, capsys):
    if not has_starters("phantom"):
        pytest.skip("no starter models of phantom")
    (snippet,) = [snippet for snippet in SNIPPETS if "gradio_client" in snippet]
    monkeypatch.chdir(ROOT)
    exec(snippet.replace("http://127.0.0.1:7860", started), {})
    label, score = capsys.readouterr().out.split()[-2:]
    assert label in ("Normal", "Consolidation", "Nodule", "Effusion")
    assert 0 <= float(score) <= 1


BARE = """
import pytest

class Bare(pytest.Item):
    def runtest(self): pass

class File(pytest.File):
    def collect(self):
        yield Bare.from_parent(self, name="plain")
        marked = Bare.from_parent(self, name="marked")
        for marker in ("browser", "data"):
            marked.add_marker(marker)
        yield marked

def pytest_pycollect_makemodule(module_path, parent):
    return File.from_parent(parent, path=module_path)
"""


def test_make_test_runs_all_tests(tmp_path):
    """Whatever pytest would collect with the Makefile's options; two tests stand for a file's own, for time's sake."""
    shown = subprocess.run(
        ["make", "--no-print-directory", "-n", "test"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    words = shlex.split(shown.strip().splitlines()[-1])
    options = words[words.index("pytest") + 1 :]
    (tmp_path / "bare.py").write_text(BARE)
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])}
    listed = subprocess.run(
        [sys.executable, "-m", "pytest", *options, "--collect-only", "-q", "-p", "bare", "--noconftest"],
        cwd=ROOT,
        env=env,
        capture_output=True,
        text=True,
        check=False,
    ).stdout
    found = dict(re.findall(r"^(tests/\S+\.py): (\d+)$", listed, re.M))
    files = {path.relative_to(ROOT).as_posix() for path in (ROOT / "tests").rglob("test_*.py")}
    assert len(files) > 100 and found == dict.fromkeys(files, "2"), listed


def test_dashboard_command():
    options = dashboard.parse(options_of("python dashboard.py"))
    assert (options.task, options.port, options.host, str(options.flags)) == (
        "covid",
        7860,
        "127.0.0.1",
        "flags",
    )


@pytest.mark.skipif(not has_starters("phantom"), reason="no starter models of phantom")
def test_read_command(monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    assert read.main(options_of("python -m xray_models.read")) == 0
    assert "3 of 3 models answered" in capsys.readouterr().out


@pytest.mark.skipif(not has_starters("phantom"), reason="no starter models of phantom")
def test_panel_snippet(monkeypatch):
    (snippet,) = [snippet for snippet in SNIPPETS if "Panel.load" in snippet]
    monkeypatch.chdir(ROOT)
    names = {}
    exec(snippet, names)
    assert names["reading"].consensus is not None


def test_data_set_snippet(tmp_path, monkeypatch, image):
    from xray_models.flags import Flag, Ledger

    (snippet,) = [snippet for snippet in SNIPPETS if "load_dataset" in snippet]
    flag = Flag(reader="AB", task="phantom", corrected_label="Nodule", image_sha256=image.sha256)
    Ledger(tmp_path / "flags").append(flag, image, load_task("phantom"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "hf"))
    names = {}
    exec(snippet, names)
    assert names["relabelled"]["train"][0]["corrected_label"] == "Nodule"


SMALL = ["--epochs", "1", "--image-size", "32", "--images", "80"]


def test_train_command(tmp_path):
    start = "python -m xray_models.train --task phantom --model simple_cnn --out runs/simple_cnn"
    words = ["--task", "phantom", "--model", "simple_cnn", "--out", str(tmp_path / "model"), *options_of(start)]
    assert train.main([*words, *SMALL]) == 0
    assert (tmp_path / "model" / "model.safetensors").is_file()


def test_search_command(tmp_path, capsys):
    start = "python -m xray_models.train --task phantom --model simple_cnn --out runs/search"
    words = ["--task", "phantom", "--model", "simple_cnn", "--out", str(tmp_path / "search"), *options_of(start)]
    words[words.index("--trials") + 1] = "2"
    assert train.main([*words, *SMALL]) == 0
    assert "log_loss" in capsys.readouterr().out
    assert len((tmp_path / "search" / "search.csv").read_text().splitlines()) == 3


def test_survey_command(tmp_path, phantoms, capsys):
    words = options_of("python -m xray_models.datasets")
    words[words.index("--out") + 1] = str(tmp_path)
    assert survey.main([*words, "--data", str(phantoms)]) == 0
    assert "Effusion" in capsys.readouterr().out
    assert {"manifest.csv", "faults.csv"} <= {path.name for path in tmp_path.iterdir()}


@pytest.mark.skipif(not has_starters("phantom"), reason="no starter models of phantom")
def test_hub_commands(tmp_path, monkeypatch, capsys):
    with open_hub(monkeypatch, tmp_path / "cache"):
        assert hub.main(["push", *options_of("python -m xray_models.hub push")]) == 0
        line = capsys.readouterr().out.strip()
        assert re.fullmatch(r"simple_cnn: {repo: me/phantom-simple-cnn, revision: [0-9a-f]{40}}", line)
        task = load_task("phantom")
        entry = yaml.safe_load(line)["simple_cnn"]
        pinned = dataclasses.replace(task, models=(ModelRef("simple_cnn", **entry),))
        assert hub.main(["pull", *options_of("python -m xray_models.hub pull")]) != 0  # until that line is there
        assert "repo:" in capsys.readouterr().err
        between = README[README.index("hub push") : README.index("hub pull")]
        assert "hub_configs/phantom.yaml" in between and "Once that line" in between
        monkeypatch.setattr(hub, "load_task", lambda name: pinned)
        assert hub.main(["pull", *options_of("python -m xray_models.hub pull")]) == 0
        assert hub.main(["space", *options_of("python -m xray_models.hub space")]) == 0
        assert "me/second-read" in capsys.readouterr().out


def test_the_starters_table_is_what_the_configs_say():
    assert f"<!-- starters -->\n{render_starters()}\n<!-- /starters -->" in README


@pytest.mark.skipif(not has_starters("phantom"), reason="no starter models of phantom")
def test_evaluate_command_without_data(tmp_path, monkeypatch, capsys):
    from evaluation import run

    task = load_task("phantom")
    recipe, split = dataclasses.replace(task.recipe, images=600), dataclasses.replace(task.split, seed=8)
    fewer = dataclasses.replace(task, recipe=recipe, split=split)  # phantoms that no model was trained on
    monkeypatch.setattr(run, "load_task", lambda name: {"phantom": fewer}[name])
    out = tmp_path / "report"
    words = ["--task", "phantom", *options_of("python -m evaluation.run --task phantom"), "--out", str(out)]
    assert run.main([*words, "--robustness", "4", "--heatmaps", "4", "--margins", "4"]) == 0, capsys.readouterr().err
    assert {"metrics.json", "predictions.csv", "report.html"} <= {path.name for path in out.iterdir()}
    metrics = json.loads((out / "metrics.json").read_text())
    assert set(metrics["models"]) == {"simple_cnn", "resnet18", "vit_tiny", "consensus"}
    assert metrics["n"] > 80 and metrics["models"]["consensus"]["accuracy"]["value"] > 0.9


def test_audit_command(tmp_path, phantoms, capsys):
    from evaluation.audit_command import main

    words = options_of("python -m evaluation.audit")
    words[words.index("--out") + 1] = str(tmp_path)
    assert main([*words, "--data", str(phantoms)]) == 0
    assert "No alarm" in capsys.readouterr().out
    assert {"audit.json", "twins.csv", "contradictions.csv"} <= {path.name for path in tmp_path.iterdir()}


@pytest.mark.parametrize("task", ["brain", "covid", "fracture", "pneumonia"])
def test_figures_come_from_the_committed_result_files(task):
    committed = json.loads((ROOT / "evaluation" / "results" / f"{task}.json").read_text())
    assert f"<!-- results:{task} -->\n{render_table(committed)}\n<!-- /results -->" in README
    trained = {model.name for model in (ROOT / "checkpoints" / task).iterdir()}
    assert trained == set(committed["models"]) - {"consensus"}


def test_what_an_error_by_chance_is_stands_once_before_the_tables():
    assert README.count("perfectly calibrated model") == 1
    assert README.index("perfectly calibrated model") < README.index("<!-- results:")
    assert max(len(line.partition(" Made by ")[0]) for line in README.splitlines() if " Made by `" in line) < 120


@pytest.mark.data
@pytest.mark.skipif(not has_starters("covid"), reason="no starter models of covid")
def test_evaluate_command_with_data_gives_the_readmes_figures(published, tmp_path):
    """On OpenVINO, where that agrees with torch: figures equal to about three digits, as the README says."""
    from evaluation.run import main

    words = ["--task", "covid", *options_of("python -m evaluation.run --task covid")]
    words = [str(published / word.removeprefix("data/")) if word.startswith("data/") else word for word in words]
    with contextlib.redirect_stdout(io.StringIO()):
        less = [word for check in ("--robustness", "--heatmaps", "--margins") for word in (check, "0")]
        assert main([*words, "--out", str(tmp_path), "--compute", "auto", *less]) == 0
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    committed = json.loads((ROOT / "evaluation" / "results" / "covid.json").read_text())
    for model, scores in committed["models"].items():
        assert metrics["models"][model]["accuracy"]["value"] == pytest.approx(scores["accuracy"]["value"], abs=0.005)
    for kind, found in committed["strangers"].items():
        known, expected = (
            entry["models"]["consensus"]["auroc"]["value"] for entry in (metrics["strangers"][kind], found)
        )
        assert known == pytest.approx(expected, abs=0.01) and known > 0.98


def test_accounts(tmp_path, monkeypatch):
    file, name = options_of("python -m reading_room.accounts")
    monkeypatch.setattr(accounts.getpass, "getpass", lambda _: "long enough")
    assert accounts.main([str(tmp_path / file), name]) == 0
    assert accounts.read_accounts(tmp_path / file).check(name, "long enough")
