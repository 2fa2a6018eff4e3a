import dataclasses
import threading
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from xray_models import engine
from xray_models.architectures import FusedParts
from xray_models.attribution import explain
from xray_models.checkpoints import load_checkpoint
from xray_models.engine import TOLERANCE, build_engine, compare, engine_folder, hash_body
from xray_models.panel import Panel
from xray_models.tasks import TaskError

pytest.importorskip("openvino")


@pytest.fixture(scope="module")
def members(untrained):
    return {ref.name: load_checkpoint(untrained, ref) for ref in untrained.models}


@pytest.mark.parametrize("name", ["simple_cnn", "resnet18", "vit_tiny"])
def test_openvino_says_what_torch_says(members, name):
    found = build_engine(members[name], "openvino")
    assert found.name.startswith("openvino ")
    difference, same = compare(members[name], found.parts)
    assert same
    assert difference <= TOLERANCE


def test_single_precision_is_equal_to_the_sixth_digit(members):
    fast, used = engine._open_parts(members["resnet18"], ["f32"])
    difference, _ = compare(members["resnet18"], fast)
    assert used == "f32"
    assert difference < 1e-5


@pytest.fixture
def rounded(members, monkeypatch, tmp_path):
    """A processor with two precisions, of which one rounds features by 10 %, and a cache in which nothing lies."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    away = {"coarse": 0.1, "f32": 0.0}
    monkeypatch.setattr(engine, "_open_bodies", {})
    monkeypatch.setattr(engine, "list_precisions", lambda: ["coarse", "f32"])
    compiled = engine._compile

    def compile_body(body, spec, path, precision):
        exact, share = compiled(body, spec, path, "f32"), away[precision]
        opened.append(precision)
        return lambda inputs: (1 + share) * exact(inputs)

    opened = []
    monkeypatch.setattr(engine, "_compile", compile_body)
    monkeypatch.setitem(engine._BEARABLE, "coarse", 0.3)
    return away, opened


def test_a_precision_that_a_body_does_not_bear_gives_way_to_the_next(members, rounded):
    away, opened = rounded
    assert build_engine(members["resnet18"]).name == "openvino f32"
    engine._open_bodies.clear()  # as when the program starts again
    assert build_engine(members["resnet18"]).name == "openvino f32"
    assert opened == ["coarse", "f32", "f32"]
    away["f32"] = 0.06
    found = build_engine(members["vit_tiny"])
    assert (found.name, found.reason) == ("torch", "OpenVINO's features in f32 differ from torch's by 6.0%")


def test_rounding_that_a_body_bears_is_taken(members, rounded):
    rounded[0]["coarse"] = 0.01
    assert build_engine(members["resnet18"]).name == "openvino coarse"


def test_a_probability_that_differs_asks_for_more_precision(members, rounded, monkeypatch):
    rounded[0]["coarse"] = 0.01
    answers = iter([(0.2, True), (0.0, True)])
    monkeypatch.setattr(engine, "compare", lambda *_: next(answers))
    assert build_engine(members["resnet18"]).name == "openvino f32"


def test_a_fusion_has_each_member_in_the_precision_that_it_bears(members, rounded):
    first, second = members["resnet18"], members["vit_tiny"]
    rounded[0]["coarse"] = 0.01
    engine_folder().mkdir(parents=True)
    (engine_folder() / f"{hash_body(second.parts.body, first.spec)}-coarse.refused").write_text("10.0%")
    pair = FusedParts((first.parts, second.parts), torch.nn.Identity(), torch.nn.Linear(1, 1))
    parts, used = engine._open_parts(SimpleNamespace(parts=pair, spec=first.spec), ["coarse", "f32"])
    inputs = torch.zeros(1, 3, first.spec.height, first.spec.width)
    exact, found = pair.body(inputs), parts.body(inputs)
    assert used == "coarse+f32"
    torch.testing.assert_close(found[0], 1.01 * exact[0], rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(found[1], exact[1], rtol=1e-3, atol=1e-3)


def test_a_body_without_features_is_not_rounded(members):
    dark = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.Threshold(1e9, 0.0))
    assert engine._measure_rounding(dark, dark, members["simple_cnn"].spec) == 0.0


def test_a_converted_body_is_kept_under_its_weights(members, monkeypatch):
    first = members["simple_cnn"]
    build_engine(first, "openvino")
    path = engine_folder() / f"{hash_body(first.parts.body, first.spec)}.xml"
    assert path.is_file()
    engine._open_bodies.clear()
    monkeypatch.setattr("openvino.convert_model", lambda *_, **__: pytest.fail("converted again"))
    build_engine(first, "openvino")


def test_a_damaged_body_is_converted_anew(members):
    assert build_engine(members["simple_cnn"]).name.startswith("openvino")
    for path in engine_folder().glob("*.bin"):
        whole = path.read_bytes()
        path.unlink()  # the old one may be open
        path.write_bytes(whole[:100])
    engine._open_bodies.clear()
    assert build_engine(members["simple_cnn"]).name.startswith("openvino")


def test_a_body_whose_weights_were_damaged_unseen_is_converted_anew(members):
    member = members["simple_cnn"]
    assert build_engine(member).name.startswith("openvino")
    path = engine_folder() / f"{hash_body(member.parts.body, member.spec)}.bin"
    whole = path.read_bytes()
    path.unlink()
    path.write_bytes(whole[:200] + bytes(len(whole) - 200))  # OpenVINO opens it
    engine._open_bodies.clear()
    assert build_engine(member).name.startswith("openvino")
    assert path.read_bytes() == whole
    assert not list(engine_folder().glob(f"{path.stem}-*.refused"))


def test_a_network_that_cannot_be_converted_stays_on_torch_and_stops_no_other(untrained, monkeypatch, caplog):
    class Odd(torch.nn.Module):
        def forward(self, inputs):
            return whole(inputs) + torch.special.bessel_j0(inputs).mean() * 0

    panel = Panel.load(untrained, ["simple_cnn", "resnet18"], device="cpu")
    first = panel.checkpoints["simple_cnn"]
    whole = first.parts.body
    panel.members = (dataclasses.replace(first, parts=first.parts._replace(body=Odd())), *panel.members[1:])
    panel.choose_engines("auto")
    assert panel.engines["simple_cnn"] == "torch" and panel.engines["resnet18"].startswith("openvino")
    assert "simple_cnn runs on torch: " in caplog.text


def test_a_cache_that_cannot_be_used_is_said_without_its_place(untrained, monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    engine._open_bodies.clear()
    panel = Panel.load(untrained, ["simple_cnn"], device="cpu", engine="openvino")
    assert panel.engines == {}
    assert "Not a directory" in panel.members[0].reason and str(tmp_path) not in panel.members[0].reason


def test_without_a_place_for_converted_bodies_auto_is_torch(members, monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    engine._open_bodies.clear()
    found = build_engine(members["simple_cnn"])
    assert (found.name, "Not a directory" in found.reason) == ("torch", True)


def test_other_weights_are_another_body(members):
    member = members["simple_cnn"]
    before = hash_body(member.parts.body, member.spec)
    weight = next(member.parts.body.parameters())
    with torch.no_grad():
        weight[0] += 1
    changed = hash_body(member.parts.body, member.spec)
    with torch.no_grad():
        weight[0] -= 1
    assert changed != before
    assert hash_body(member.parts.body, dataclasses.replace(member.spec, height=96)) != before


def test_auto_falls_back_to_torch_and_says_so(members, monkeypatch, caplog):
    monkeypatch.setattr(engine, "compare", lambda *_: (0.2, True))
    found = build_engine(members["simple_cnn"], "auto")
    assert found.name == "torch"
    assert "differs from torch by 2.0e-01" in found.reason
    assert "simple_cnn runs on torch" in caplog.text
    with pytest.raises(TaskError, match="does not run on OpenVINO"):
        build_engine(members["simple_cnn"], "openvino")


def test_without_openvino_auto_is_torch(members, monkeypatch):
    monkeypatch.setattr(engine, "is_installed", lambda: False)
    assert "not installed" in build_engine(members["simple_cnn"], "auto").reason
    with pytest.raises(TaskError, match="pip install openvino"):
        build_engine(members["simple_cnn"], "openvino")


def test_an_unknown_engine_names_the_valid_ones(members):
    with pytest.raises(TaskError, match="auto, torch, openvino"):
        build_engine(members["simple_cnn"], "onnx")


def test_threads_do_not_mix_their_answers(members):
    member = members["simple_cnn"]
    body = build_engine(member, "openvino").parts.body
    inputs = [torch.randn(1, 3, member.spec.height, member.spec.width) for _ in range(4)]
    expected = [body(x) for x in inputs]
    wrong = []

    def ask(place):
        for _ in range(20):
            if not torch.equal(body(inputs[place]), expected[place]):
                wrong.append(place)

    threads = [threading.Thread(target=ask, args=(place,)) for place in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_a_panel_reads_and_explains_alike_on_both(untrained, image):
    slow, fast = (Panel.load(untrained, engine=kind) for kind in ("torch", "openvino"))
    assert all(name.startswith("openvino") for name in fast.engines.values())
    compared = []
    for ours, theirs in zip(fast.read(image).opinions, slow.read(image).opinions, strict=True):
        assert ours.label == theirs.label
        assert list(ours.probs.values()) == pytest.approx(list(theirs.probs.values()), abs=TOLERANCE)
        maps = [
            explain(panel.checkpoints[ours.model], image, untrained.labels[0]).values.ravel() for panel in (fast, slow)
        ]
        if all(values.any() for values in maps):
            compared.append(ours.model)
            assert np.corrcoef(maps)[0, 1] > 0.99
    assert "resnet18" in compared  # a map that is empty on both sides tells nothing
