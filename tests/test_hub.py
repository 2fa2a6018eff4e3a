"""Models travel to a Hub and back, with the real client, and answer as before; whatever is wrong is said."""

import dataclasses
import errno
import json
import os
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from huggingface_hub import HfApi, ModelCard
from transformers import CONFIG_MAPPING, AutoModelForImageClassification

from tests.hub_server import TOKEN, Blob, Fault, open_hub
from xray_models import hub as command
from xray_models import hub_client, train
from xray_models.calibration import fit_reference
from xray_models.checkpoints import load_checkpoint, save_checkpoint
from xray_models.fusing import build_fusion, fingerprint, name_sources
from xray_models.hub_cache import pull_model, resolve
from xray_models.hub_client import FileMissing, HashDiffers, HubError, LabelsDiffer, NotPulled, PickleOnly, RevisionGone
from xray_models.hub_files import collect_code, compose_files, find_siblings, serve_timm
from xray_models.panel import Panel
from xray_models.tasks import ModelRef

NAMES = ("simple_cnn", "resnet18", "vit_tiny")
RATES = {"Normal": 0.9, "Consolidation": 0.8, "Nodule": 0.7, "Effusion": 0.6}
FIGURES = {
    "temperature": 1.1,
    "ece_before": 0.05,
    "started_from": "random weights",
    "command": "python -m xray_models.train --task phantom --model simple_cnn --out OUT",
    "recipe": {"width": 1.0, "epochs": 3},
    "counts": {"train": 50, "validation": 20, "test": 30},
    "test": {
        **{"accuracy": 0.71, "balanced_accuracy": 0.72, "auroc": 0.83, "nll": 0.6, "ece": 0.04},
        **{"coverage": 0.9, "set_size": 1.2, "sensitivity": RATES, "specificity": RATES},
        "support": dict.fromkeys(RATES, 7),
    },
}


@pytest.fixture
def hub(tmp_path, monkeypatch):
    with open_hub(monkeypatch, tmp_path / "cache") as hub:
        yield hub


@pytest.fixture
def task(untrained, tmp_path, monkeypatch):
    """The phantom task with the untrained models' folders copied, and figures for their cards."""
    refs = []
    for ref in untrained.models:
        folder = shutil.copytree(ref.path, tmp_path / "checkpoints" / ref.name)
        config = json.loads((folder / "config.json").read_text())
        config["second_read"] |= FIGURES
        (folder / "config.json").write_text(json.dumps(config))
        (folder / "training_args.bin").write_bytes(b"not for others")
        (folder / "optimizer.safetensors").write_bytes(b"nor this")
        refs.append(ModelRef(ref.name, checkpoint=str(folder)))
    task = dataclasses.replace(untrained, models=tuple(refs))
    monkeypatch.setattr(command, "load_task", lambda name: task)
    return task


def push(task, name, **options):
    pushed = command.push_model(hub_client.connect(), task, task.model(name), "me", **options)
    return ModelRef(name, repo=pushed.repo, revision=pushed.revision)


def pull(task, ref):
    return pull_model(hub_client.connect(), task, ref)


def opinion(task, ref, image):
    said = Panel.load(dataclasses.replace(task, models=(ref,)), device="cpu").read(image).opinions[0]
    assert said.status == "ok", said.reason
    return said


def change(hub, ref, **files):
    """Commits other files on the server; returns the model pinned there. A value of None removes a file."""
    repo = hub.repos["model", ref.repo]
    names = {name.replace("__", "."): content for name, content in files.items()}
    kept = {name: blob for name, blob in repo.commits[ref.revision].items() if name not in names}
    added = {name: Blob(content, False) for name, content in names.items() if content is not None}
    return dataclasses.replace(ref, revision=repo.commit(kept | added))


@pytest.mark.parametrize("name", NAMES)
def test_a_model_answers_as_before_after_its_way_to_the_hub_and_back(hub, task, image, name):
    before = opinion(task, task.model(name), image)
    ref = push(task, name)
    shutil.rmtree(task.model(name).path)
    folder = pull(task, ref)
    assert folder == resolve(task, ref)
    after = opinion(task, ModelRef(name, checkpoint=str(folder)), image)
    assert list(after.probs) == list(before.probs)
    assert [*after.probs.values()] == pytest.approx([*before.probs.values()], abs=1e-6)
    assert after.prediction_set == before.prediction_set
    assert after.in_distribution == before.in_distribution


def test_the_panel_reads_a_pulled_model_without_a_connection(hub, task, image, monkeypatch):
    ref = push(task, "simple_cnn")
    pull(task, ref)
    asked = len(hub.requests)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert opinion(task, ref, image).revision == ref.revision
    assert len(hub.requests) == asked


def test_a_fusion_goes_with_its_members(hub, task, image):
    folder = task.model("resnet18").path.parent / "fusion"
    fusion = ModelRef("fusion", checkpoint=str(folder), members=("resnet18", "simple_cnn"))
    model, spec = build_fusion(task, fusion, task.recipe)
    name_sources(model, task, folder)
    rng = np.random.default_rng(1)
    units = model.config.units
    reference = fit_reference(rng.normal(size=(50, units)), rng.normal(size=(40, units)))
    save_checkpoint(model.eval(), spec, folder, FIGURES, reference)
    before = opinion(task, fusion, image)
    ref = push(dataclasses.replace(task, models=(*task.models, fusion)), "fusion")
    shutil.rmtree(folder.parent)
    after = opinion(task, ModelRef("fusion", checkpoint=str(pull(task, ref))), image)
    assert [*after.probs.values()] == pytest.approx([*before.probs.values()], abs=1e-6)


def test_a_fusion_of_models_of_the_hub_holds_them_itself(hub, task, phantoms, tmp_path, monkeypatch):
    """It was refused when all was trained."""
    pinned = push(task, "resnet18")
    pull(task, pinned)
    fusion = ModelRef("fusion", checkpoint=str(tmp_path / "checkpoints" / "fusion"), members=("resnet18", "simple_cnn"))
    mixed = dataclasses.replace(task, models=(pinned, task.model("simple_cnn"), fusion))
    monkeypatch.setattr(train, "load_task", lambda name: mixed)
    words = ["--task", "phantom", "--model", "fusion", "--epochs", "1", "--data", str(phantoms)]
    assert train.main([*words, "--out", str(fusion.path)]) == 0
    model = load_checkpoint(mixed, fusion).model
    for name in fusion.members:
        assert fingerprint(model.members[name]) == fingerprint(load_checkpoint(mixed, mixed.model(name)).model)
    again = push(mixed, "fusion")
    assert load_checkpoint(mixed, ModelRef("fusion", checkpoint=str(pull(mixed, again)))).revision


def test_an_owner_keeps_the_name_that_was_given(hub, task):
    assert (
        command.push_model(hub_client.connect(), task, task.model("vit_tiny"), "my_lab").repo
        == "my_lab/phantom-vit-tiny"
    )


def test_push_is_private_and_uploads_only_what_is_allowed(hub, task, capsys, caplog):
    assert command.main(["push", "--task", "phantom", "--model", "vit_tiny", "--owner", "me"]) == 0
    out, err = capsys.readouterr()
    assert re.fullmatch(r"vit_tiny: \{repo: me/phantom-vit-tiny, revision: [0-9a-f]{40}\}\n", out)
    repo = hub.repos["model", "me/phantom-vit-tiny"]
    assert repo.private
    assert repo.head in out
    assert set(repo.files) == {".gitattributes", *command_files()}
    assert TOKEN not in out + err + caplog.text
    card = ModelCard(repo.files["README.md"].content.decode())
    figures = {result.metric_type: result.metric_value for result in card.data.eval_results}
    assert (card.data.model_name, figures["accuracy"], figures["roc_auc"]) == ("phantom-vit-tiny", 0.71, 0.83)


def command_files():
    return {"config.json", "model.safetensors", "preprocessor_config.json", "reference.safetensors", "README.md"}


def test_public_is_asked_for_and_the_same_weights_make_no_new_commit(hub, task):
    first = push(task, "resnet18", public=True)
    assert not hub.repos["model", first.repo].private
    assert push(task, "resnet18", public=True) == first
    with pytest.raises(HubError, match="exists and is public: give --public"):
        push(task, "resnet18")


def test_nothing_of_an_earlier_model_stays_in_its_repository(hub, task):
    push(task, "simple_cnn")
    (task.model("simple_cnn").path / "reference.safetensors").unlink()
    ref = push(task, "simple_cnn")
    assert "reference.safetensors" not in hub.repos["model", ref.repo].files
    assert not (pull(task, ref) / "reference.safetensors").exists()
    assert push(task, "simple_cnn") == ref


@pytest.mark.parametrize("labels", [None, 5, ["Normal"], {"a": "Normal"}])
def test_labels_that_are_none_are_refused_as_other_labels_are(hub, task, labels):
    ref = push(task, "simple_cnn")
    config = json.loads(hub.repos["model", ref.repo].files["config.json"].content)
    for wrong in ({**config, "id2label": labels}, {"model_type": config["model_type"], "label_names": labels}):
        with pytest.raises(LabelsDiffer, match="in this order"):
            pull(task, change(hub, ref, config__json=json.dumps(wrong).encode()))


def test_others_load_the_same_repositories_without_this_package(hub, task, tmp_path):
    refs = {name: push(task, name) for name in NAMES}
    script = """
import json, sys
sys.modules["xray_models"] = None
import timm, torch
from PIL import Image
from transformers import CONFIG_MAPPING, AutoModelForImageClassification as Auto, pipeline
x = torch.linspace(-1, 1, 3 * 112 * 112).reshape(1, 3, 112, 112)
models = {
    "resnet18": Auto.from_pretrained("me/phantom-resnet18"),
    "vit_tiny": Auto.from_pretrained("me/phantom-vit-tiny"),
    "simple_cnn": Auto.from_pretrained("me/phantom-simple-cnn", trust_remote_code=True),
}
try:
    Auto.from_pretrained("me/phantom-simple-cnn", trust_remote_code=False)
    raise SystemExit("remote code ran unasked")
except ValueError as error:
    assert "trust_remote_code" in str(error), error
with torch.inference_mode():
    said = {name: model.eval()(x).logits[0].tolist() for name, model in models.items()}
    own = timm.create_model("hf-hub:me/phantom-resnet18", pretrained=True).eval()
    said["timm"] = own(x)[0].tolist()
assert {p.dtype for p in own.parameters()} == {torch.float32}
for name, options in (("resnet18", {}), ("vit-tiny", {}), ("simple-cnn", {"trust_remote_code": True})):
    classify = pipeline("image-classification", model=f"me/phantom-{name}", **options)  # as the cards say
    assert len(classify(Image.new("L", (200, 150)))) == 4
print(json.dumps({"said": said, "labels": own.pretrained_cfg["label_names"]}))
"""
    kept = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "HF_HUB_OFFLINE")}
    env = kept | {"HF_HOME": str(tmp_path / "other"), "HF_HUB_DISABLE_XET": "1"}
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    answer = json.loads(done.stdout.splitlines()[-1])
    x = torch.linspace(-1, 1, 3 * 112 * 112).reshape(1, 3, 112, 112)
    for name in refs:
        model = AutoModelForImageClassification.from_pretrained(task.model(name).path, dtype=torch.float32).eval()
        with torch.inference_mode():
            logits = model(x).logits[0].tolist()
        assert answer["said"][name] == pytest.approx(logits, abs=1e-6), name
        if name == "resnet18":
            assert answer["said"]["timm"] == pytest.approx(logits, abs=1e-6)
    assert answer["labels"] == list(task.labels)


def test_a_busy_hub_is_asked_again_and_a_cut_download_goes_on(hub, task, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 2**20)  # what arrived of a chunk is lost
    hub.faults = [
        Fault("POST", "/api/repos/create", status=503),
        Fault("PUT", "/lfs/", status=500),
        Fault("POST", "/commit/", status=429, headers={"Retry-After": "17"}),
    ]
    ref = push(task, "vit_tiny")
    assert 17 in hub.waits
    weights = hub.repos["model", ref.repo].files["model.safetensors"]
    hub.faults += [
        Fault("GET", "/tree/", status=429),
        Fault("HEAD", "/resolve/.*/model.safetensors", status=503),
        Fault("GET", weights.sha256, status=503),
        Fault("GET", weights.sha256, cut=True),
    ]
    pull(task, ref)
    assert not any(fault.times for fault in hub.faults)
    downloads = [headers for _, _, headers in hub.seen("GET", weights.sha256)]
    here = len(weights.content) // 2 // 2**20 * 2**20
    assert [headers.get("range") for headers in downloads] == [None, None, f"bytes={here}-"]
    assert not any("authorization" in headers for headers in downloads)
    assert all("authorization" in headers for _, _, headers in hub.seen("HEAD", "/resolve/"))


def test_a_hub_that_stays_busy_or_away_is_an_error(hub, task, monkeypatch):
    hub.faults = [Fault("POST", "/api/repos/create", status=503, times=99)]
    with pytest.raises(HubError, match="answered 503 for 'me/phantom-simple-cnn', again and again"):
        push(task, "simple_cnn")
    assert hub.waits == [1, 2, 4, 8]
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(HubError, match=r"http://127.0.0.1:9 cannot be reached"):
        push(task, "simple_cnn")


def test_what_is_no_hub_is_said(hub, monkeypatch):
    for address, work in (
        ("http://[::1", lambda: hub_client.connect().repo_info("me/x")),
        ("http://127.0.0.1", lambda: json.loads("<html>Log in to this network</html>")),
    ):
        monkeypatch.setenv("HF_ENDPOINT", address)
        with pytest.raises(HubError, match=f"{re.escape(address)} does not answer as a Hub does. Check HF_ENDPOINT"):
            hub_client.ask(hub_client.connect(), hub_client.Place("me/x"), work)


def test_json_that_is_no_hubs_is_said_and_a_fault_of_ours_is_not_taken_for_it(hub, task):
    ref = push(task, "simple_cnn")
    faults = (("POST", "/create", lambda: push(task, "resnet18")), ("GET", "/tree/", lambda: pull(task, ref)))
    for method, path, work in faults:
        hub.faults = [Fault(method, path, status=200)]  # {"error": …}
        with pytest.raises(HubError, match=f"{re.escape(hub.url)} does not answer as a Hub does"):
            work()
        assert not hub.faults[0].times
    with pytest.raises(KeyError):
        hub_client.ask(hub_client.connect(), hub_client.Place("me/x"), lambda: {}["ours"])


def test_what_is_wrong_with_a_repository_has_its_own_error(hub, task):
    ref = push(task, "simple_cnn")
    config = json.loads(hub.repos["model", ref.repo].files["config.json"].content)
    turned = dict(zip(config["id2label"], reversed(config["id2label"].values()), strict=True))
    relabelled = json.dumps(config | {"id2label": turned}).encode()
    wrong = [
        (RevisionGone, dataclasses.replace(ref, revision="0" * 40), "'me/phantom-simple-cnn' is not on the Hub"),
        (LabelsDiffer, change(hub, ref, config__json=relabelled), r"\['Effusion', 'Nodule', .*in this order"),
        (FileMissing, change(hub, ref, model__safetensors=None), "has no model.safetensors"),
        (FileMissing, change(hub, ref, preprocessor_config__json=None), "has no preprocessor_config.json"),
        (PickleOnly, change(hub, ref, model__safetensors=None, pytorch_model__bin=b"x"), "only as pytorch_model.bin"),
    ]
    for kind, other, words in wrong:
        with pytest.raises(kind, match=words):
            pull(task, other)


def test_a_file_that_is_not_the_listed_one_is_refused_and_loads_anew(hub, task):
    ref = push(task, "simple_cnn")
    hub.faults = [Fault("GET", "/storage/", times=2, corrupt=True)]
    with pytest.raises(HashDiffers, match=r"model.safetensors, reference.safetensors of me/phantom-simple-cnn"):
        pull(task, ref)
    with pytest.raises(NotPulled, match="hub pull --task phantom --models simple_cnn"):
        resolve(task, ref)
    assert pull(task, ref) == resolve(task, ref)


def test_pull_goes_on_after_a_failure_and_says_so_in_its_status(hub, task, capsys, monkeypatch):
    refs = (dataclasses.replace(push(task, "resnet18"), revision="0" * 40), push(task, "simple_cnn"))
    monkeypatch.setattr(command, "load_task", lambda name: dataclasses.replace(task, models=refs))
    assert command.main(["pull", "--task", "phantom"]) == 2
    assert "error: resnet18: revision 000" in capsys.readouterr().err
    assert resolve(task, refs[1]).is_dir()
    assert command.main(["pull", "--task", "phantom", "--models", "simple_cnn"]) == 0
    monkeypatch.setattr(command, "load_task", lambda name: task)
    assert command.main(["pull", "--task", "phantom"]) == 2
    assert "nothing to pull" in capsys.readouterr().err


def test_a_private_model_without_a_token_and_a_hub_that_is_switched_off(hub, task, monkeypatch):
    ref = push(task, "simple_cnn")
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(HubError, match="hf auth login"):
        pull(task, ref)
    with pytest.raises(HubError, match="hf auth login"):
        push(task, "simple_cnn")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(HubError, match="HF_HUB_OFFLINE is set"):
        pull(task, ref)


def test_a_cache_that_takes_no_file_is_said_of_every_model(hub, task, tmp_path, monkeypatch):
    """The disk has no room for one; for the next there is no folder."""
    refs = tuple(push(task, name) for name in ("simple_cnn", "vit_tiny"))
    place = (tmp_path / "file") / "hub"
    place.parent.touch()
    download, full = HfApi.snapshot_download, [OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))]

    def fill(*args, **kwargs):
        if full:
            raise full.pop()
        return download(*args, **kwargs)

    monkeypatch.setattr(HfApi, "snapshot_download", fill)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(place))
    first, second = command.pull_task(hub_client.connect(), dataclasses.replace(task, models=refs))
    said = "cannot be pulled, since nothing can be written to the Hub's cache: {}. Make room there, or set HF_HOME to"
    assert "me/phantom-simple-cnn " + said.format("No space left on device") in str(first)
    assert "me/phantom-vit-tiny " + said.format("Not a directory") in str(second)


def test_a_folder_that_is_not_fit_is_not_uploaded(hub, task):
    folder = task.model("resnet18").path
    config = json.loads((folder / "config.json").read_text())
    for wrong, kind, words in (
        ({"label_names": ["a", "b", "c", "d"]}, LabelsDiffer, "labels"),
        ({"second_read": {"architecture": "resnet18"}}, HubError, "lacks `second_read.test`"),
        ({"model_args": {"global_pool": "avg"}}, HubError, "model_args.global_pool"),
    ):
        (folder / "config.json").write_text(json.dumps(config | wrong))
        with pytest.raises(kind, match=re.escape(words)):
            push(task, "resnet18")
    (folder / "config.json").unlink()
    with pytest.raises(FileMissing, match=r"has no config\.json"):
        push(task, "resnet18")
    assert not hub.requests


@pytest.mark.parametrize(
    "wrong",
    [
        {"second_read": {"test": None}},
        {"second_read": {"temperature": "x"}},
        {"second_read": {"counts": []}},
        {"second_read": {"recipe": None}},
        {"pretrained_cfg": None},
        {"model_args": 1},
        {"architecture": 1},
    ],
)
def test_a_damaged_config_is_one_sentence(hub, task, wrong, capsys):
    folder = task.model("resnet18").path
    config = json.loads((folder / "config.json").read_text())
    second = config["second_read"] | wrong.get("second_read", {})
    (folder / "config.json").write_text(json.dumps(config | wrong | {"second_read": second}))
    with pytest.raises(HubError, match=r"config\.json of 'resnet18' holds a value of another kind"):
        push(task, "resnet18")
    assert not hub.requests
    if "second_read" in wrong:
        assert command.main(["card", "--task", "phantom", "--model", "resnet18"]) == 2
        assert capsys.readouterr().err.startswith("error: config.json of 'resnet18'")


def test_remote_code_stands_alone():
    own = [name for name, cls in CONFIG_MAPPING._extra_content.items() if cls.__module__.startswith("xray_models.")]
    assert "second_read_simple_cnn" in own
    for model_type in own:
        auto_map, sources = collect_code(model_type)
        assert all(f"{name.partition('.')[0]}.py" in sources for name in auto_map.values())
        imports = set(re.findall(r"^(?:from|import) (\w+)", "\n".join(sources.values()), re.MULTILINE))
        assert imports <= {"torch", "transformers", *sys.stdlib_module_names}, model_type
    assert collect_code("vit") == ({}, {})
    assert find_siblings("from xray_models.architectures.parts import Parts\nfrom .vit import split", "x.py") == [
        "xray_models.architectures.parts",
        "xray_models.architectures.vit",
    ]
    for line in (
        "from xray_models.tasks import Task",
        "import xray_models",
        "from . import parts",
        "from ..x import y",
    ):
        with pytest.raises(HubError, match="x.py, line 1"):
            find_siblings(line, "x.py")
    with pytest.raises(HubError, match="'unheard'"):
        collect_code("unheard")


def test_timm_reads_no_null_arguments():
    config = serve_timm({"architecture": "resnet18", "model_args": None, "pretrained_cfg": {"mean": [0.5]}})
    assert "model_args" not in config
    assert config["pretrained_cfg"] == {"classifier": "fc", "first_conv": "conv1", "mean": [0.5]}


def test_the_card_is_printed(task, capsys):
    assert command.main(["card", "--task", "phantom", "--model", "simple_cnn"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("---\n")
    assert "model-index:" in out
    assert out == compose_files(task, task.model("simple_cnn"))["README.md"].decode()


def test_a_card_of_a_model_of_the_hub_takes_the_figures_of_its_evaluation(hub, task, tmp_path, monkeypatch, capsys):
    """Its revision was compared with the hash of a local folder, which need not be there."""
    ref = push(task, "simple_cnn")
    shutil.rmtree(task.model("simple_cnn").path)
    monkeypatch.setattr(command, "load_task", lambda name: dataclasses.replace(task, models=(ref,)))
    span = {"value": 0.5, "low": 0.2, "high": 0.8}
    own = dict.fromkeys(("accuracy", "balanced_accuracy", "auroc", "nll", "ece", "coverage", "set_size"), span)
    own |= {"sensitivity": dict.fromkeys(RATES, span), "specificity": dict.fromkeys(RATES, span)}
    own |= {"n": 28, "confusion": [[7, 0, 0, 0]] * 4, "revision": ref.revision}
    path = tmp_path / "metrics.json"
    path.write_text(json.dumps({"task": "phantom", "split": "test", "models": {"simple_cnn": own}}))
    words = ["card", "--task", "phantom", "--model", "simple_cnn", "--metrics", str(path)]
    assert command.main(words) == 2
    assert "Pull it: python -m xray_models.hub pull --task phantom" in capsys.readouterr().err
    pull(task, ref)
    assert command.main(words) == 0
    assert "| accuracy | 0.5000 (0.200 to 0.800) |" in capsys.readouterr().out
