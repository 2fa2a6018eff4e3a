"""Every benchmark of the project's speed runs at a tiny size, and its record can be read."""

import dataclasses
import json
import math
import sys
from types import ModuleType, SimpleNamespace

import pytest
from PIL import Image

from benchmarks import commands
from benchmarks.measuring import compare, describe_machine, summarise, take_turns, write_record
from tests.conftest import has_starters
from xray_models import phantom

SMALL = ["--rounds", "1", "--out"]


def run(name, out, *words):
    """Runs a benchmark with its record in a folder, and returns the record."""
    getattr(commands, name)([*words, *SMALL, str(out)])
    record = json.loads((out / f"{name}.json").read_text(encoding="utf-8"))
    assert record["machine"]["processor"] and record["machine"]["threads"] >= 1
    assert {"python", "torch"} < set(record["versions"])
    assert record["settings"]["rounds"] == 1
    assert list(spreads(record))
    for spread in spreads(record):
        assert spread["low"] <= spread["median"] <= spread["high"] < math.inf
    return record


def spreads(record):
    """Every median with its spread, wherever in a record."""
    if isinstance(record, dict):
        if set(record) == {"median", "low", "high"}:
            yield record
        for value in record.values():
            yield from spreads(value)


def test_ways_take_turns_and_the_first_call_does_not_count():
    calls = []
    ways = {name: lambda name=name: calls.append(name) or len(calls) for name in ("a", "b")}
    assert take_turns(ways, 2) == {"a": [3, 5], "b": [4, 6]}
    assert calls == ["a", "b"] * 3
    assert take_turns({"a": lambda: 1}, 2, warm=False) == {"a": [1, 1]}


def test_figures_are_told_with_their_spread():
    assert summarise([3, 1, 2.26]) == {"median": 2.3, "low": 1, "high": 3}
    assert compare([2, 9, 8], [1, 3, 1]) == {"median": 3, "low": 2, "high": 8}  # 2, 3 and 8 times, round by round


def test_a_record_is_json_or_is_not_written(tmp_path):
    with pytest.raises(ValueError):
        write_record("broken", {"found": math.nan}, tmp_path)
    assert not list(tmp_path.iterdir())
    write_record("whole", {"machine": describe_machine()}, tmp_path / "new")
    assert "machine" in json.loads((tmp_path / "new" / "whole.json").read_text())


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("evaluate", ["--rounds", "0"]),
        ("evaluate", ["--images", "many"]),
        ("bootstrap", ["--images", "0"]),
        ("bootstrap", ["--resamples", "0"]),
        ("flags", ["--rounds", "0"]),
        ("near_copies", ["--count", "0"]),
        ("panel", ["--rounds", "0"]),
        ("start", ["--rounds", "0"]),
        ("worklist", ["--rounds", "0"]),
    ],
)
def test_a_number_that_cannot_be_is_refused(name, words, capsys):
    with pytest.raises(SystemExit):
        getattr(commands, name)(words)
    assert f"'{words[1]}' is not a whole number above 0" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["evaluate", "growth", "serve", "train", "worklist"])
def test_images_too_small_to_draw_are_refused(name, capsys):
    assert commands.SMALLEST == phantom.SMALLEST
    with pytest.raises(SystemExit):
        getattr(commands, name)(["--size", "63"])
    assert "--size: 63 pixels are too few to draw a chest; give 64 or more" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "words", "says"),
    [
        ("evaluate", ["--models", "nope"], "Unknown architecture: 'nope'"),
        ("train", ["--models", "nope"], "Unknown architecture: 'nope'"),
        ("attribution", ["--models", "fusion"], "a fusion is built from trained members"),
        ("attribution", ["--models", "vit_tiny", "--image-size", "7"], "an image_size that is a multiple of 16"),
        ("engines", ["--task", "phantm"], "Did you mean 'phantom'"),
        ("engines", ["--task", "covid", "--data", "/nowhere"], "There is no data for task 'covid' in /nowhere"),
        ("serve", ["--task", "phantm"], "Did you mean 'phantom'"),
    ],
)
def test_what_cannot_be_measured_is_a_sentence(name, words, says, tmp_path, capsys):
    assert getattr(commands, name)([*words, "--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ") and says in said
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["attribution", "engines", "evaluate", "flags", "growth", "serve", "start", "train"])
def test_a_record_that_could_not_be_written_is_not_measured(name, tmp_path, capsys):
    (tmp_path / "file").touch()
    assert getattr(commands, name)(["--out", str(tmp_path / "file")]) == 2
    assert "Nothing can be written to --out" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("module", "command"), [("pytorch_grad_cam", "grad-cam"), ("gradio_client", "-r requirements.txt")]
)
def test_a_package_that_is_missing_is_named_with_its_command(module, command, monkeypatch, capsys):
    def miss(options):
        raise ModuleNotFoundError(f"No module named '{module}.utils'", name=f"{module}.utils")

    monkeypatch.setitem(sys.modules, "benchmarks.panel", SimpleNamespace(run=miss))
    assert commands.panel([]) == 2
    says = f"error: benchmarks.panel needs {module}, which is not installed. Install it: pip install {command}\n"
    assert capsys.readouterr().err == says


def test_near_copies_that_nobody_knows_are_not_compared(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("XRAY_DATA", str(tmp_path))
    assert commands.near_copies(["--answers"]) == 2
    assert f"There is no data for task 'covid' in {tmp_path / 'covid'}" in capsys.readouterr().err
    (tmp_path / "covid").mkdir()
    assert commands.near_copies(["--answers"]) == 2
    assert f"There is no manifest.csv in {tmp_path / 'covid'}" in capsys.readouterr().err


def test_panel(tmp_path, monkeypatch, capsys):
    """Without grad-cam, which stands in no file of requirements."""
    cams, targets = ModuleType("pytorch_grad_cam"), ModuleType("pytorch_grad_cam.utils.model_targets")
    cams.GradCAM = lambda model, layers, reshape_transform: lambda inputs, targets: model(inputs)
    targets.ClassifierOutputTarget = int
    for module in (cams, ModuleType("pytorch_grad_cam.utils"), targets):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.delitem(sys.modules, "benchmarks.panel", raising=False)
    from benchmarks import panel as benchmark
    from benchmarks.subjects import build_panel

    few = {"resnet18": "resnet18", "vit_tiny": "vit_tiny"}
    monkeypatch.setattr(benchmark, "MODELS", tuple(few))
    monkeypatch.setattr(benchmark, "SIZE", (96, 128))
    monkeypatch.setattr(benchmark, "build_panel", lambda folder: build_panel(folder, few))
    record = run("panel", tmp_path)
    assert record["settings"] == {"rounds": 1, "size": [96, 128], "map": benchmark.MAP}
    assert "without decoding" in capsys.readouterr().out
    del sys.modules["benchmarks.panel"]


def test_a_task_without_models_is_not_served(untrained, tmp_path, monkeypatch, capsys):
    from reading_room import panels

    monkeypatch.setattr(panels, "load_tasks", lambda: {"phantom": dataclasses.replace(untrained, models=())})
    assert commands.serve(["--task", "phantom", "--out", str(tmp_path)]) == 2
    assert "No model of task 'phantom' is here to be asked." in capsys.readouterr().err


@pytest.mark.parametrize(("option", "value"), [("--seconds", "0"), ("--seconds", "nan"), ("--folder", "nowhere")])
def test_flags_need_time_and_a_place(option, value, capsys):
    with pytest.raises(SystemExit):
        commands.flags([option, value])
    assert value in capsys.readouterr().err


def test_flags(tmp_path, monkeypatch):
    from benchmarks import flags as benchmark

    monkeypatch.setattr(benchmark, "PROCESSES", (2,))
    monkeypatch.setattr(benchmark, "ROWS", (10,))
    commands.flags(["--seconds", "0.01", "--folder", str(tmp_path), *SMALL, str(tmp_path / "out")])
    record = json.loads((tmp_path / "out" / "flags.json").read_text(encoding="utf-8"))
    assert set(record["flags_per_second"]) == {f"{way}; 2 processes; 10 rows" for way in benchmark.WAYS}
    assert record["flags_per_second"]["ledger; 2 processes; 10 rows"]["lost"] == 0


def test_start(tmp_path, monkeypatch):
    from benchmarks import start as benchmark

    monkeypatch.setattr(benchmark, "time_process", lambda *words: 1.0)
    monkeypatch.setattr(benchmark, "time_dashboard", lambda: {"page": 2.0})
    commands.start([*SMALL, str(tmp_path)])
    record = json.loads((tmp_path / "start.json").read_text(encoding="utf-8"))
    assert record["seconds"]["page"] == {"median": 2.0, "low": 2.0, "high": 2.0}


@pytest.mark.skipif(not has_starters("phantom"), reason="no starter models of phantom")
def test_worklist(tmp_path):
    commands.worklist(["--images", "2", "--size", "64", *SMALL, str(tmp_path)])
    record = json.loads((tmp_path / "worklist.json").read_text(encoding="utf-8"))
    assert record["worklist, images/s"] > 0 and record["click meanwhile, ms, median"] >= 0


def test_few_images_have_intervals_too(capsys):
    commands.bootstrap(["--images", "1", "20", "--resamples", "5"])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[2:-1]] == ["1"] * 3 + ["20"] * 3


@pytest.mark.parametrize(("count", "said"), [(1, "no copy planted"), (10, "no copy planted"), (40, "of 2 planted")])
def test_few_images_have_few_copies(count, said, capsys):
    from benchmarks.near_copies import time_search

    time_search(count)
    assert said in capsys.readouterr().out


def test_evaluate(tmp_path, capsys):
    record = run("evaluate", tmp_path, "--models", "simple_cnn", "--images", "20", "--size", "64")
    ways = {f"{way}, {engine}" for way in ("scoring", "bare forwards") for engine in ("torch", "auto")}
    assert set(record["images_per_second"]) == {*ways, "pipelines", "preparing"}
    assert set(record["ratios"]["auto"]) == set(record["bars"])
    assert "scoring, auto, against pipelines" in capsys.readouterr().out


def test_train(tmp_path, capsys):
    sizes = ["--batch", "2", "--steps", "2", "--size", "64", "--image-size", "32"]
    record = run("train", tmp_path, "--models", "simple_cnn", *sizes)
    assert set(record["images_per_second"]) == {"simple_cnn, ours", "simple_cnn, plain", "simple_cnn, synthetic"}
    assert set(record["ratios"]["simple_cnn"]) == {"plain", "synthetic"}
    assert "simple_cnn against synthetic" in capsys.readouterr().out


def test_attribution_draws_the_maps_that_captum_draws(tmp_path, monkeypatch):
    from benchmarks import attribution as benchmark
    from xray_models import attribution
    from xray_models.attribution import METHODS

    for module in (attribution, benchmark):
        monkeypatch.setattr(module, "WINDOW", 2)  # few and large squares
    record = run("attribution", tmp_path, "--models", "simple_cnn", "vit_tiny", "--image-size", "32")
    for model in ("simple_cnn", "vit_tiny"):
        for method in METHODS:
            assert record["milliseconds"][f"{model}, {method}, captum"]["median"] > 0
            if method not in benchmark.DRAWN:
                assert record["difference"][f"{model}, {method}, torch"] < 1e-3
        assert f"{model}, integrated_gradients, auto" not in record["milliseconds"]


def test_growth(tmp_path):
    sizes = ["--images", "8", "16", "--models", "1", "--size", "64", "--image-size", "32", "--engine", "torch"]
    record = run("growth", tmp_path, *sizes)
    assert set(record["images"]["sizes"]) == {"8", "16"} and set(record["models"]["sizes"]) == {"1"}
    assert record["images"]["sizes"]["16"]["peak MiB"]["median"] > 50


def test_growth_says_whether_time_is_flat():
    from benchmarks.growth import Point, sum_up

    even = sum_up({100: [Point(1.0, 500.0)], 1000: [Point(10.5, 590.0)]}, lambda size: size)
    assert even["flat"] and even["MiB_each"] == pytest.approx(0.1)
    assert even["sizes"]["1000"]["milliseconds"]["median"] == 10.5
    steep = sum_up({100: [Point(1.0, 500.0)], 1000: [Point(11.5, 590.0)]}, lambda size: size)
    assert not steep["flat"] and steep["time_grows"]["median"] == 1.15


@pytest.mark.skipif(not has_starters("phantom"), reason="no starter models of phantom")
def test_serve(tmp_path):
    sizes = ["--clients", "2", "--readings", "6", "--size", "64"]
    record = run("serve", tmp_path, "--task", "phantom", "--engine", "torch", *sizes)
    found = record["found"]
    assert found["lost"] == found["wrong"] == 0
    assert found["memory, MiB, at the end"] > 50
    assert found["wait, ms, median"]["median"] <= found["wait, ms, slowest"]["median"]


def test_serve_finds_a_reading_of_another_image(tmp_path, untrained):
    from benchmarks.serve import Answer, count_wrong
    from xray_models.images import read_image
    from xray_models.panel import Panel

    panel = Panel.load(dataclasses.replace(untrained, models=untrained.models[:1]), device="cpu")
    paths, readings = [], []
    for seed in range(3):
        path = tmp_path / f"{seed}.png"
        Image.fromarray(phantom.draw_phantom("Nodule", seed, size=64).pixels).save(path)
        paths.append(str(path))
        readings.append(panel.read(read_image(path)).to_json())
    right = [Answer(place, 0.0, 1.0, reading) for place, reading in enumerate(readings)]
    assert count_wrong(panel, paths, right) == 0
    swapped = [right[0], right[1]._replace(reading=readings[2]), right[2]._replace(reading=readings[1])]
    assert count_wrong(panel, paths, swapped) == 2
    probs = dict.fromkeys(untrained.labels, 0.25)
    crossed = {**readings[0], "opinions": [{**readings[0]["opinions"][0], "probs": {**probs, "Nodule": 0.35}}]}
    assert count_wrong(panel, paths, [right[0]._replace(reading=crossed)]) == 1


def test_engines(tmp_path, phantoms, capsys):
    if not has_starters("phantom"):
        pytest.skip("no starter models of phantom")
    words = ["--task", "phantom", "--data", str(phantoms), "--images", "6", "--maps", "2", "--out", str(tmp_path)]
    commands.engines(words)
    record = json.loads((tmp_path / "engines.json").read_text(encoding="utf-8"))
    assert set(record["answers"]) == {"simple_cnn", "resnet18", "vit_tiny", "consensus"}
    assert all(answer["largest_difference"] < 0.05 for answer in record["answers"].values())
    assert all(maps["maps"] + maps["empty"] == 2 for maps in record["maps"].values())
    assert "labels that differ: 0" in capsys.readouterr().out


def test_engines_that_differ_are_told():
    from benchmarks.engines import compare_answers
    from xray_models.readings import Opinion, Reading, agree
    from xray_models.tasks import load_task

    task = dataclasses.replace(load_task("phantom"), labels=("a", "b"), positive=("a",))

    def read(share):
        opinion = Opinion("m", "r", "ok", "a" if share > 0.5 else "b", {"a": share, "b": 1 - share})
        return Reading("t", {}, (opinion,), agree(task, [opinion]))

    found = compare_answers([read(0.9), read(0.6)], [read(0.9), read(0.4)])
    assert found["m"] == found["consensus"] == {"labels_differ": 1, "largest_difference": 0.2}
    silent = Opinion("m", None, "unavailable", reason="gone")
    with pytest.raises(ValueError, match="unavailable"):
        compare_answers([Reading("t", {}, (silent,), None)], [read(0.9)])
