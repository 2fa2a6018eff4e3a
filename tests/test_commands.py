import logging
import subprocess
import sys

import numpy as np
import pytest

import dashboard
from evaluation import audit_command, run
from xray_models import hub_command, survey_command, train
from xray_models.commands import check_out, parse_seed, show_command
from xray_models.tasks import TaskError


def test_a_folder_for_results_is_probed_and_left_as_it_was(tmp_path):
    check_out(tmp_path / "new" / "folder")
    check_out(tmp_path)
    assert not list(tmp_path.iterdir())
    (tmp_path / "file").touch()
    for wrong in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(TaskError, match=f"to --out {wrong} "):
            check_out(wrong)


@pytest.mark.parametrize("seed", ["-1", "4294967296", "1.5", "x"])
@pytest.mark.parametrize("main", [run.main, train.main])
def test_a_seed_that_no_generator_takes_is_refused(main, seed, capsys):
    model = ["--model", "simple_cnn", "--out", "x"] if main is train.main else []
    with pytest.raises(SystemExit) as stopped:
        main(["--task", "phantom", *model, f"--seed={seed}"])
    assert stopped.value.code == 2
    assert f"--seed: '{seed}' is no seed; give a whole number from 0 to 4294967295" in capsys.readouterr().err
    np.random.default_rng(parse_seed("0")), np.random.RandomState(parse_seed("4294967295"))


@pytest.mark.parametrize("main", [audit_command.main, run.main, survey_command.main, train.main])
def test_a_command_that_cannot_write_refuses_before_it_reads(main, tmp_path, capsys):
    (tmp_path / "file").touch()
    model = ["--model", "simple_cnn"] if main is train.main else []
    assert main(["--task", "covid", *model, "--data", str(tmp_path / "none"), "--out", str(tmp_path / "file")]) == 2
    assert "Nothing can be written to --out" in capsys.readouterr().err


@pytest.mark.parametrize("main", [dashboard.main, hub_command.main, run.main, train.main])
def test_what_asks_the_hub_tells_no_address_that_it_asks(main, monkeypatch, tmp_path, capsys):
    """That of a download is signed: whoever has it may download, too."""
    for name in ("httpx", "httpx2"):
        monkeypatch.setattr(logging.getLogger(name), "level", logging.INFO)
    words = {train.main: ["--model", "simple_cnn", "--out", str(tmp_path)]}.get(main, [])
    assert main([*(["pull"] if main is hub_command.main else []), "--task", "phantm", *words]) == 2
    assert "Did you mean 'phantom'" in capsys.readouterr().err
    assert {logging.getLogger(name).level for name in ("httpx", "httpx2")} == {logging.WARNING}


def test_folders_stand_for_themselves_and_the_rest_is_kept():
    words = ["--task", "covid", "--data", "/home/me/x", "--out=/tmp/y", "--models", "resnet18", "vit_tiny"]
    assert show_command("evaluation.run", words) == (
        "python -m evaluation.run --task covid --data DATA --out=OUT --models resnet18 vit_tiny"
    )
    assert show_command("m", ["--predictions", "/a.csv", "/b.csv"]) == "python -m m --predictions FILE FILE"


def test_what_can_be_had_elsewhere_is_named():
    """The command could not be repeated: it said DATA of a data set of the Hub, and FOLDER FOLDER."""
    words = ["--data", "hub:owner/name@rev", "--foreign", "/home/ann/data/brain/", "../fracture", "/", "--out", "x"]
    assert show_command("m", words) == "python -m m --data hub:owner/name@rev --foreign brain fracture FOLDER --out OUT"
    assert show_command("m", ["--data=hub:owner/name", "--foreign=/ann/brain"]) == (
        "python -m m --data=hub:owner/name --foreign=brain"
    )


@pytest.mark.parametrize("option", ["--data", "--foreign", "--metadata", "--predictions", "--ray-address"])
def test_a_report_names_no_place_of_the_evaluation(option):
    words = ["--engine", "ray"] if option == "--ray-address" else []
    place = "/here/brain" if option == "--foreign" else "/here"
    assert "here" not in run._parse(["--task", "covid", *words, option, place]).command


def test_a_name_that_is_not_written_out_hides_no_folder():
    for parse, words in ((run._parse, []), (train._parse, ["--model", "simple_cnn", "--out", "x"])):
        with pytest.raises(SystemExit):
            parse(["--task", "covid", *words, "--dat", "/here"])


def test_what_is_kept_and_quoted():
    assert show_command("m", ["--out", "checkpoints/a b"], keep=["--out"]) == "python -m m --out 'checkpoints/a b'"


def test_a_process_of_a_group_leaves_at_once_and_nothing_it_said_is_lost():
    code = "import atexit, sys; atexit.register(print, 'late'); sys.stdout.write('said'); "
    code += "from xray_models.commands import leave_group; leave_group()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "said"


AT_WORK = """
import atexit, sys, threading, torch
from xray_models.commands import leave

def work(at_work, numbers=torch.rand(600, 600)):
    while True:
        numbers @ numbers
        at_work.set()

def main():
    at_work = threading.Event()
    threading.Thread(target=work, args=(at_work,), daemon=True).start()
    at_work.wait()
    atexit.register(print, "all is put away")
    {end}

leave(main)
"""


@pytest.mark.parametrize(("end", "status"), [("sys.exit(3)", 3), ("raise KeyboardInterrupt", 130)])
def test_a_command_that_is_stopped_ends_in_order_while_a_library_is_at_work(end, status):
    done = subprocess.run([sys.executable, "-c", AT_WORK.format(end=end)], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (status, "all is put away\n"), done.stderr


INTERRUPTED = """
from xray_models.commands import leave

def main():
    raise KeyboardInterrupt

leave(main, {stopped!r})
"""


@pytest.mark.parametrize(("stopped", "said"), [("", "stopped"), ("no harm is done", "stopped; no harm is done")])
def test_a_command_that_is_interrupted_says_so_without_a_traceback(stopped, said):
    code = INTERRUPTED.format(stopped=stopped)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (130, f"\n{said}\n")
