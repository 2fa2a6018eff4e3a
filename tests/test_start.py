"""What is imported before it is needed: nothing heavy for `--help`, and yet the own architectures load for anyone."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

import dashboard
from xray_models import read
from xray_models.engine import ENGINES

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("xray_models", "evaluation", "reading_room", "benchmarks")
HEAVY = ["torch", "transformers", "timm", "gradio", "datasets", "sklearn", "matplotlib", "scipy", "pandas", "captum"]
HEAVY += ["openvino", "optuna", "ray", "accelerate"]


def ask(code, *words):
    """What a Python process prints as JSON at its end."""
    done = subprocess.run([sys.executable, "-c", code, *words], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def list_commands():
    """Every file that can be run, as a path below the project."""
    files = [ROOT / "dashboard.py", *(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))]
    return sorted(
        str(file.relative_to(ROOT)) for file in files if 'if __name__ == "__main__"' in file.read_text("utf-8")
    )


HELP = """
import contextlib, io, json, runpy, sys, warnings
warnings.simplefilter("ignore")  # runpy's, of modules that an earlier command imported
heavy, found = set(json.loads(sys.argv[1])), {}
for file in sys.argv[2:]:
    sys.argv, before, said = [file, "--help"], set(sys.modules), io.StringIO()
    try:
        with contextlib.redirect_stdout(said):
            if "/" in file:
                runpy.run_module(file.removesuffix(".py").replace("/", "."), run_name="__main__", alter_sys=True)
            else:
                runpy.run_path(file, run_name="__main__")
    except SystemExit as stop:
        status = stop.code
    imported = sorted(heavy & (set(sys.modules) - before))
    found[file] = [status, said.getvalue().partition(" ")[0], imported]
print(json.dumps(found))
"""


def test_help_of_every_command_imports_nothing_heavy():
    commands = list_commands()
    assert {"dashboard.py", "xray_models/train.py", "evaluation/run.py", "benchmarks/start.py"} <= set(commands)
    assert ask(HELP, json.dumps(HEAVY), *commands) == {command: [0, "usage:", []] for command in commands}


WRONG = """
import json, runpy, sys
heavy, *words = json.loads(sys.argv[1])
sys.argv = words
try:
    runpy.run_module(words[0], run_name="__main__", alter_sys=True)
except SystemExit as stop:
    print(json.dumps([stop.code, sorted({*heavy} & {*sys.modules})]))
"""


@pytest.mark.parametrize(
    "words",
    [
        ["xray_models.train", "--model", "resnet18", "--out", "out"],
        ["xray_models.read", "image.png"],
        ["xray_models.datasets"],
        ["xray_models.hub", "pull"],
        ["evaluation.run"],
        ["evaluation.audit"],
        ["dashboard"],
    ],
    ids=lambda words: words[0],
)
def test_an_unknown_task_is_said_before_anything_heavy_is_imported(words):
    assert ask(WRONG, json.dumps([HEAVY, *words, "--task", "lungs"])) == [2, []]


@pytest.mark.parametrize("module", ["evaluation.run", "xray_models.train"])
def test_missing_data_are_said_without_torch(module, tmp_path):
    words = [module, "--task", "covid", "--data", str(tmp_path / "none")]
    words += ["--model", "resnet18", "--out", str(tmp_path)] if module == "xray_models.train" else []
    assert ask(WRONG, json.dumps([["torch", "transformers"], *words])) == [2, []]


def test_what_needs_no_model_imports_no_torch():
    names = ("architectures", "datasets", "flags", "images", "readings", "relabels", "tasks")
    code = f"import json, sys, {', '.join(f'xray_models.{name}' for name in names)}"
    assert ask(f"{code}\nprint(json.dumps([n for n in ('torch', 'transformers', 'timm') if n in sys.modules]))") == []


def test_the_engines_named_by_the_command_lines_are_those_there_are(capsys):
    for help_of in (dashboard.parse, read._parse):
        with pytest.raises(SystemExit):
            help_of(["--help"])
        assert f"--engine {{{','.join(ENGINES)}}}" in capsys.readouterr().out


LOAD = """
import json, sys
from transformers import AutoConfig, AutoModelForImageClassification
kinds = [AutoConfig.for_model(f"second_read_{name}") for name in ("simple_cnn", "bone_cnn", "headed", "fusion")]
models = [type(AutoModelForImageClassification.from_config(config)).__name__ for config in kinds[:2]]
assert all(type(config) in AutoModelForImageClassification._model_mapping for config in kinds)
assert not any("xray_models" in type(finder).__module__ for finder in sys.meta_path)
print(json.dumps(models))
"""


@pytest.mark.parametrize(
    "before",
    [
        "import xray_models, importlib.util; importlib.util.find_spec('transformers')",  # asked for, not imported
        "import transformers, xray_models",
        "import xray_models.architectures.fusion",
    ],
    ids=["before", "after", "by an architecture"],
)
def test_the_own_architectures_load_whoever_imports_transformers_first(before):
    assert ask(f"{before}\n{LOAD}") == ["SimpleCnnForImageClassification", "BoneCnnForImageClassification"]


def test_requests_that_come_at_once_wait_for_one_import():
    code = """
import json, sys
from concurrent.futures import ThreadPoolExecutor
from reading_room.panels import import_panel
with ThreadPoolExecutor(8) as pool:
    found = list(pool.map(lambda _: import_panel().__name__, range(8)))
print(json.dumps(found))
"""
    assert ask(code) == ["Panel"] * 8
