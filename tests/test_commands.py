import subprocess
import sys

from xray_models.commands import show_command


def test_folders_stand_for_themselves_and_the_rest_is_kept():
    words = ["--task", "covid", "--data", "/home/me/x", "--out=/tmp/y", "--models", "resnet18", "vit_tiny"]
    assert show_command("evaluation.run", words) == (
        "python -m evaluation.run --task covid --data DATA --out=OUT --models resnet18 vit_tiny"
    )
    assert show_command("m", ["--predictions", "/a.csv", "/b.csv"]) == "python -m m --predictions FILE FILE"


def test_what_is_kept_and_quoted():
    assert show_command("m", ["--out", "checkpoints/a b"], keep=["--out"]) == "python -m m --out 'checkpoints/a b'"


def test_a_process_of_a_group_leaves_at_once_and_nothing_it_said_is_lost():
    code = "import atexit, sys; atexit.register(print, 'late'); sys.stdout.write('said'); "
    code += "from xray_models.commands import leave_group; leave_group()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "said"
