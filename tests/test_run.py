import dataclasses
import json
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import accuracy_score, roc_auc_score

from evaluation import judging, run
from xray_models import datasets, phantom
from xray_models.images import read_image
from xray_models.panel import Panel
from xray_models.seen import note_seen
from xray_models.tasks import ModelRef


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Phantoms of which one is no image."""
    folder = phantom.write_dataset(tmp_path_factory.mktemp("run") / "phantom", 40, seed=3, size=64)
    (folder / "Nodule" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nand no more")
    return folder


@pytest.fixture(scope="module")
def task(untrained):
    """The two smaller untrained models, and one that is not there."""
    missing = ModelRef("densenet121", checkpoint="phantom/none")
    return dataclasses.replace(untrained, models=(*untrained.models[:2], missing))


def name_words(data, out):
    """The command line of a whole evaluation, its checks on a few images each."""
    sizes = [word for check in ("--robustness", "--heatmaps", "--margins") for word in (check, "4")]
    return [
        *("--task", "phantom", "--data", str(data), "--split", "all", "--out", str(out), "--resamples", "100"),
        *(*sizes, "--inject-noise", "0.1", "--no-cache", "--format", "html", "md"),
    ]


@pytest.fixture(scope="module")
def done(task, data, tmp_path_factory):
    """A finished evaluation: the exit status and the folder."""
    out = tmp_path_factory.mktemp("reports") / "phantom"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "load_task", lambda name: task)
        status = run.main(name_words(data, out))
    return status, out


def test_everything_is_written(done):
    status, out = done
    assert status == 0
    written = {path.name for path in out.iterdir()}
    plots = {"accuracy", "confusion", "roc", "reliability", "worklist", "robustness", "heatmap_curves"}
    tables = {"predictions.csv", "faults.csv", "worklist.csv", "twins.csv", "contradictions.csv"}
    assert {f"{name}.png" for name in plots} < written
    assert tables | {"metrics.json", "audit.json", "report.html", "report.md"} < written
    page = (out / "report.html").read_text(encoding="utf-8")
    titles = (
        "When images are worse",
        "Heatmaps",
        "Audit of the data",
        "Reporting checklist",
        "Which images to look at",
    )
    assert all(title in page for title in titles)


def test_metrics_agree_with_the_predictions(done, task):
    _, out = done
    rows = pd.read_csv(out / "predictions.csv")
    scores = json.loads((out / "metrics.json").read_text(encoding="utf-8"))
    assert scores["n"] == 40
    assert scores["labels"] == list(task.labels)
    for model in ("simple_cnn", "resnet18", "consensus"):
        part, found = rows[rows["model"] == model], scores["models"][model]
        assert len(part) == 40
        accuracy = accuracy_score(part["label"], part["predicted"])
        assert found["accuracy"]["value"] == pytest.approx(accuracy, abs=1e-6)
        assert found["accuracy"]["low"] <= accuracy <= found["accuracy"]["high"]
        probs = part[[f"p:{label}" for label in task.labels]].to_numpy()
        areas = [roc_auc_score(part["label"] == label, probs[:, k]) for k, label in enumerate(task.labels)]
        assert found["auroc"]["value"] == pytest.approx(np.mean(areas), abs=1e-6)
        assert np.sum(found["confusion"]) == 40
        assert np.trace(found["confusion"]) == round(40 * accuracy)
        assert set(found["sensitivity"]) == set(task.labels)
    assert {(pair["a"], pair["b"]) for pair in scores["pairs"]} == {
        ("simple_cnn", "resnet18"),
        ("simple_cnn", "consensus"),
        ("resnet18", "consensus"),
    }
    assert set(scores["agreement"]["cohen_kappa"]) == {"simple_cnn|resnet18"}


def test_predictions_are_the_panel_s(done, task, data):
    _, out = done
    rows = pd.read_csv(out / "predictions.csv")
    row = rows[rows["model"] == "resnet18"].iloc[7]
    reading = Panel.load(task, ["resnet18"]).read(read_image(data / row["image"]))
    probs = reading.opinions[0].probs
    assert row[[f"p:{label}" for label in task.labels]].tolist() == pytest.approx(list(probs.values()), abs=1e-5)
    assert row["revision"] == reading.opinions[0].revision
    assert not rows["image"].str.startswith("/").any()
    assert (rows["image"].str.split("/").str[0] == rows["label"]).all()


def test_what_is_left_out_is_named(done):
    _, out = done
    scores = json.loads((out / "metrics.json").read_text(encoding="utf-8"))
    assert list(scores["unavailable"]) == ["densenet121"]
    assert scores["faults"] == 1
    faults = pd.read_csv(out / "faults.csv")
    assert faults["image"].tolist() == ["Nodule/broken.png"]
    assert faults["reason"].str.len().min() > 10
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "Nodule/broken.png" in page
    assert "densenet121" in page


def test_no_folder_of_this_machine_is_told(done, data):
    _, out = done
    for name in ("metrics.json", "predictions.csv", "faults.csv", "report.html"):
        text = (out / name).read_text(encoding="utf-8")
        assert str(data) not in text, name
        assert str(out) not in text, name
    command = json.loads((out / "metrics.json").read_text())["command"]
    assert "--data DATA --split all --out OUT" in command


def test_a_second_run_writes_the_same(done, task, data, tmp_path, monkeypatch):
    _, out = done
    monkeypatch.setattr(run, "load_task", lambda name: task)
    assert run.main(name_words(data, tmp_path)) == 0
    names = sorted(path.name for path in out.iterdir())
    assert len(names) >= 17
    for name in names:
        assert (tmp_path / name).read_bytes() == (out / name).read_bytes(), name


def test_predictions_made_elsewhere_score_the_same(done, tmp_path, capsys):
    _, out = done
    words = ["--task", "phantom", "--predictions", str(out / "predictions.csv"), "--out", str(tmp_path)]
    assert run.main([*words, "--resamples", "100"]) == 0
    again, first = (json.loads((folder / "metrics.json").read_text()) for folder in (tmp_path, out))
    for model, found in again["models"].items():
        assert found["auroc"] == first["models"][model]["auroc"]
        assert found["accuracy"] == first["models"][model]["accuracy"]
        assert found["coverage"] is None
    assert again["split"] == "given"
    assert "predictions.csv" not in again["command"]
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1:-1]] == ["simple_cnn", "resnet18", "consensus"]
    assert lines[-1] == str(tmp_path / "report.html")


def test_no_name_of_a_file_runs_as_a_formula(done, tmp_path):
    """Neither in the list that a person opens nor in the predictions, which are read back as they were."""
    rows = pd.read_csv(done[1] / "predictions.csv")
    rows["image"] = "=" + rows["image"]
    rows.to_csv(tmp_path / "given.csv", index=False)
    for given, out in (("given.csv", "out"), ("out/predictions.csv", "again")):
        words = ["--task", "phantom", "--predictions", str(tmp_path / given), "--out", str(tmp_path / out)]
        assert run.main([*words, "--resamples", "10"]) == 0
        worklist, predictions = (pd.read_csv(tmp_path / out / f"{name}.csv") for name in ("worklist", "predictions"))
        assert predictions["image"].str.startswith("'=").all()
        assert set(predictions["image"]) == set(worklist["image"])


def test_corrections_replace_the_labels_that_answers_are_judged_by(task, data, tmp_path, monkeypatch):
    monkeypatch.setattr(run, "load_task", lambda name: task)
    (tmp_path / "new.csv").write_text("file_name,label\nNodule/00002.png,Effusion\n")
    words = [*name_words(data, tmp_path / "out"), "--robustness", "0", "--heatmaps", "0", "--margins", "0"]
    assert run.main([*words, "--models", "simple_cnn", "--labels", str(tmp_path / "new.csv")]) == 0
    rows = pd.read_csv(tmp_path / "out" / "predictions.csv").set_index("image")
    assert set(rows["label"]["Nodule/00002.png"]) == {"Effusion"}
    assert (rows["label"] == rows.index.str.split("/").str[0]).sum() == len(rows) - 2  # one model and the consensus


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--task", "phantm"], "Unknown task: 'phantm'"),
        (["--task", "phantom", "--models", "resnet"], "Did you mean 'resnet18'?"),
        (["--task", "covid", "--predictions", "nothing.csv"], "nothing.csv cannot be read"),
    ],
)
def test_mistakes_end_with_status_2_and_a_sentence(words, message, capsys, tmp_path):
    assert run.main([*words, "--out", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--split", "tset"], "'train', 'validation', 'test', 'all'"),
        (["--resamples", "0"], "above 0"),
        (["--predictions", "a.csv", "--models", "resnet18"], "leave out --models"),
        (["--predictions", "a.csv", "--data", "folder", "--split", "test"], "leave out --data, --split"),
        (["--predictions", "a.csv", "--labels", "new.csv", "--foreign", "folder"], "leave out --labels, --foreign"),
        (["--predictions", "a.csv", "--robustness", "5", "--margins", "5"], "leave out --robustness, --margins"),
        (["--predictions", "a.csv", "--heatmaps", "0"], "leave out --heatmaps"),
        (["--predictions", "a.csv", "--engine", "ray", "--workers", "2"], "leave out --engine, --workers"),
        (["--predictions", "a.csv", "--ray-address", "auto", "--no-cache"], "leave out --ray-address, --no-cache"),
        (["--predictions", "a.csv", "--compute", "auto"], "leave out --compute"),
        (["--workers", "2", "--ray-address", "auto"], "use for --ray-address, --workers; add --engine ray"),
        (["--engine", "ray", "--compute", "openvino"], "--compute openvino goes with --engine local"),
    ],
)
def test_bad_options_name_the_valid_ones(words, message, capsys):
    with pytest.raises(SystemExit) as stop:
        run.main(["--task", "phantom", *words])
    assert stop.value.code == 2
    assert message.replace("'", "") in capsys.readouterr().err.replace("'", "")


def test_a_panel_without_models_says_how_to_get_one(task, data, tmp_path, monkeypatch, capsys):
    empty = dataclasses.replace(task, models=task.models[2:])
    monkeypatch.setattr(run, "load_task", lambda name: empty)
    assert run.main(["--task", "phantom", "--data", str(data), "--out", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert "densenet121" in error
    assert "python -m xray_models.train" in error


def test_missing_data_is_explained(task, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(run, "load_task", lambda name: task)
    assert run.main(["--task", "phantom", "--data", str(tmp_path / "none"), "--out", str(tmp_path)]) == 2
    assert "There is no data for task 'phantom'" in capsys.readouterr().err


# --- what a model was made with ---


@pytest.fixture
def taught(task, data):
    """A panel of which one model was made with the first two test images."""
    manifest = datasets.open_dataset(task, data)
    panel = SimpleNamespace(checkpoints=dict(Panel.load(task).checkpoints))
    test = manifest.rows[manifest.rows["split"] == "test"]
    seen = note_seen(test.iloc[:2].assign(split="train"))
    panel.checkpoints["simple_cnn"] = dataclasses.replace(panel.checkpoints["simple_cnn"], seen=seen)
    return manifest, panel, test


def test_what_a_model_was_made_with_does_not_test_it(taught, caplog):
    manifest, panel, test = taught
    moved, left_out = judging.leave_out_seen(manifest, panel)
    assert list(left_out["path"]) == list(test["path"][:2])
    assert set(left_out["reason"]) == {"used to make simple_cnn: known by its picture"}
    assert list(moved.part("test")["path"]) == list(test["path"][2:])
    assert len(moved.rows) == len(manifest.rows)
    assert f"2 of {len(test)} test images are left out" in caplog.text and "names alone" not in caplog.text


def test_a_near_copy_of_what_a_model_was_made_with_does_not_test_it_either(taught):
    manifest, panel, test = taught
    group = manifest.rows["group"].where(manifest.rows["path"] != test["path"].iloc[2], test["group"].iloc[0])
    joined = dataclasses.replace(manifest, rows=manifest.rows.assign(group=group))
    _, left_out = judging.leave_out_seen(joined, panel)
    assert list(left_out["path"]) == list(test["path"][:3])
    assert left_out["reason"].iloc[2] == "used to make simple_cnn: known by an image of the same group"


def test_what_a_panel_was_made_with_is_counted_over_all_models(taught):
    manifest, panel, test = taught
    train = manifest.part("train")
    seen = note_seen(pd.concat([train.iloc[:3], test.iloc[1:2].assign(split="train")]))
    panel.checkpoints["resnet18"] = dataclasses.replace(panel.checkpoints["resnet18"], seen=seen)
    others = {name: dataclasses.replace(member, seen={}) for name, member in panel.checkpoints.items()}
    known = {name: panel.checkpoints[name] for name in ("simple_cnn", "resnet18")}
    count = judging.count_seen(manifest, SimpleNamespace(checkpoints=others | known))
    assert count == {"seen": 5, "by_name": 0, "images": len(manifest.rows)}  # two and four, one of them the same
    assert judging.count_seen(manifest, SimpleNamespace(checkpoints=others)) is None


def test_models_that_know_every_test_image_are_not_judged(taught):
    manifest, panel, test = taught
    seen = note_seen(test.assign(split="train"))
    panel.checkpoints["resnet18"] = dataclasses.replace(panel.checkpoints["resnet18"], seen=seen)
    with pytest.raises(datasets.DataError, match=f"All {len(test)} test images"):
        judging.leave_out_seen(manifest, panel)


def test_names_alone_count_until_they_are_said_to_be_alike_by_chance(taught, caplog):
    """The publisher's images at another resolution have the same names and other pixels; so has a stranger's camera."""
    manifest, panel, test = taught
    paths = manifest.rows["path"].str.replace(".png", "-x.png")  # not of digits alone
    manifest = dataclasses.replace(manifest, rows=manifest.rows.assign(path=paths))
    others = manifest.part("test").assign(split="train", sha256="another picture")
    unsure = panel.checkpoints["resnet18"]
    panel.checkpoints["resnet18"] = dataclasses.replace(unsure, seen=note_seen(others.iloc[2:3], named=True))
    _, left_out = judging.leave_out_seen(manifest, panel)
    pictures, names = "used to make simple_cnn: known by its picture", "used to make resnet18: known by its file's name"
    assert list(left_out["reason"]) == [pictures] * 2 + [names]
    assert "Of these, 1 are known by file names alone" in caplog.text and "add --by-picture." in caplog.text
    assert judging.count_seen(manifest, panel) == {"seen": 3, "by_name": 1, "images": len(manifest.rows)}
    _, left_out = judging.leave_out_seen(manifest, panel, by_picture=True)
    assert list(left_out["reason"]) == [pictures] * 2
    assert judging.count_seen(manifest, panel, by_picture=True)["by_name"] == 0
    panel.checkpoints["resnet18"] = dataclasses.replace(unsure, seen=note_seen(others, named=True))
    with pytest.raises(
        datasets.DataError, match=rf"All .* Of these, {len(test) - 2} are known by .* add --by-picture\."
    ):
        judging.leave_out_seen(manifest, panel)


def test_models_that_do_not_know_what_they_were_made_with_are_judged_on_all(taught):
    manifest, panel, test = taught
    panel.checkpoints["simple_cnn"] = dataclasses.replace(panel.checkpoints["simple_cnn"], seen={})
    moved, left_out = judging.leave_out_seen(manifest, panel)
    assert len(left_out) == 0 and len(moved.part("test")) == len(test)
