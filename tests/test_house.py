"""The house's own rules: imports run downwards, and nothing is said that does not belong here."""

import ast
import re
import subprocess
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ["xray_models", "evaluation", "reading_room"]  # a room may import those before it


def imports(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module.split(".")[0]


@pytest.mark.parametrize("room", ROOMS)
def test_imports_run_downwards(room):
    forbidden = {*ROOMS[ROOMS.index(room) + 1 :], "dashboard", "tests"}
    if room == "reading_room":
        forbidden.add("evaluation")
    else:
        forbidden.add("gradio")
    files = list((ROOT / room).rglob("*.py"))
    assert files
    for path in files:
        assert not forbidden & set(imports(path)), path


def list_own_imports(path, modules):
    """The project's own modules that a module imports as it begins, before any function of it is called."""
    package = ".".join(path.relative_to(ROOT).with_suffix("").parts[:-1])
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in modules)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(part for part in (package if node.level else "", node.module) if part)
            for alias in node.names:
                yield from (name for name in (f"{base}.{alias.name}", base) if name in modules)


def test_no_module_imports_one_that_imports_it():
    paths = {path.relative_to(ROOT).with_suffix(""): path for room in ROOMS for path in (ROOT / room).rglob("*.py")}
    modules = {".".join(name.parts): path for name, path in paths.items() if name.name != "__init__"}
    below = {name: set(list_own_imports(path, modules)) - {name} for name, path in modules.items()}
    assert below["xray_models.flags"] >= {"xray_models.flag_record", "xray_models.rows"}
    order = list(TopologicalSorter(below).static_order())  # says the circle, where there is one
    assert len(order) == len(modules)


def test_only_images_opens_image_files():
    for path in (ROOT / "xray_models").rglob("*.py"):
        if path.name not in ("images.py", "pictures.py", "dicom.py", "presentation.py", "headers.py"):
            assert "Image.open(" not in path.read_text(), path
            assert "dcmread(" not in path.read_text(), path


def tracked():
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("not a git checkout")
    return [ROOT / name for name in listed.stdout.splitlines() if (ROOT / name).is_file()]


def test_no_pickle_and_no_large_file():
    for path in tracked():
        assert path.suffix not in (".bin", ".pt", ".pth", ".pkl", ".ckpt"), path
        assert path.stat().st_size < 25 * 2**20, path
    for task in (ROOT / "checkpoints").glob("*"):
        size = sum(path.stat().st_size for path in task.rglob("*.safetensors"))
        assert size <= 25e6, f"{task.name}: {size}"


def test_requirements_are_bounded():
    lines = [line for line in (ROOT / "requirements.txt").read_text().splitlines() if line and not line.startswith("#")]
    for line in lines:
        assert re.search(r">=\S+,<\S+", line), line


def test_no_starter_model_names_a_folder_of_the_machine_that_trained_it():
    configs = list((ROOT / "checkpoints").rglob("*.json"))
    assert configs
    for path in configs:
        assert not re.search(r'"(/|[A-Za-z]:\\\\)', path.read_text(encoding="utf-8")), path
