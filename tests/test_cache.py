"""What was said once is found again, exactly; a model that changed in any way is another; damage stops nothing."""

import dataclasses
import json
import logging
import multiprocessing
import shutil
import sqlite3

import numpy as np
import pytest
import torch

from evaluation.cache import CacheError, OpinionCache, Voice, know_voice, model_key
from xray_models.checkpoints import load_checkpoint
from xray_models.readings import Opinion
from xray_models.tasks import ModelRef

LABELS = ("Normal", "Nodule")
VOICE = Voice("net", "abc", "k" * 64, LABELS)
PROBS = {"Normal": 0.1 + 0.2, "Nodule": 1.23457e-7}
SAID = Opinion("net", "abc", label="Normal", probs=PROBS, prediction_set=("Normal",), novelty=0.25)


def test_what_was_stored_is_found_exactly(tmp_path):
    bare = dataclasses.replace(SAID, prediction_set=None, novelty=None)
    empty = dataclasses.replace(SAID, prediction_set=(), novelty=7.125)
    with OpinionCache(tmp_path) as cache:
        cache.store([(VOICE, "a", SAID), (VOICE, "b", bare), (VOICE, "c", empty)])
    with OpinionCache(tmp_path) as cache:
        assert cache.find(VOICE, ["a", "b", "c", "d"]) == {"a": SAID, "b": bare, "c": empty}
        assert cache.find(VOICE._replace(key="other"), ["a"]) == {}
        renamed = cache.find(VOICE._replace(model="mine", revision="def"), ["a"])["a"]
    assert renamed == dataclasses.replace(SAID, model="mine", revision="def")


def test_many_images_are_found(tmp_path):
    with OpinionCache(tmp_path) as cache:
        cache.store((VOICE, str(number), SAID) for number in range(1200))
        found = cache.find(VOICE, map(str, range(1100, 2400)))
    assert sorted(found, key=int) == [str(number) for number in range(1100, 1200)]


def test_who_did_not_answer_is_asked_again(tmp_path):
    with OpinionCache(tmp_path) as cache:
        cache.store([(VOICE, "a", Opinion("net", status="unavailable", reason="no answer within 60 s"))])
        assert cache.find(VOICE, ["a"]) == {}


def test_a_batch_is_kept_whole_or_not_at_all(tmp_path):
    def answers():
        yield VOICE, "a", SAID
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), OpinionCache(tmp_path) as cache:
        cache.store([(VOICE, "first", SAID)])
        cache.store(answers())
    with OpinionCache(tmp_path) as cache:
        assert set(cache.find(VOICE, ["first", "a"])) == {"first"}


def test_the_key_is_that_of_the_model_not_of_its_place(untrained, tmp_path):
    ref = untrained.models[0]
    first = load_checkpoint(untrained, ref)
    shutil.copytree(ref.path, tmp_path / "elsewhere")
    second = load_checkpoint(untrained, ModelRef("other", checkpoint=str(tmp_path / "elsewhere")))
    assert model_key(first) == model_key(second)
    assert know_voice(second) == ("other", second.revision, model_key(first), untrained.labels)
    assert len({model_key(load_checkpoint(untrained, ref)) for ref in untrained.models}) == 3


@pytest.mark.parametrize("what", ["weights", "norm", "input", "conformal", "threshold", "embeddings", "labels"])
def test_whatever_could_change_an_answer_changes_the_key(untrained, what):
    model = load_checkpoint(untrained, untrained.models[1])
    before = model_key(model)
    with torch.no_grad():
        if what == "weights":
            model.parts.classifier.weight[0, 0] += 1e-3
        elif what == "norm":  # a buffer, not a parameter
            next(buffer for name, buffer in model.model.named_buffers() if name.endswith("running_mean"))[0] += 1e-3
    reference = model.reference
    moved = reference.embeddings + np.float32(1e-3)
    other = {
        "input": {"spec": dataclasses.replace(model.spec, mean=(0.4, 0.5, 0.5))},
        "conformal": {"conformal": 0.21},
        "threshold": {"reference": dataclasses.replace(reference, threshold=reference.threshold + 1e-6)},
        "embeddings": {"reference": dataclasses.replace(reference, embeddings=moved)},
    }
    if what == "labels":
        model.model.config.id2label = dict(enumerate(reversed(untrained.labels)))
    assert model_key(dataclasses.replace(model, **other.get(what, {}))) != before


def test_a_release_or_another_engine_changes_the_key(untrained, monkeypatch):
    model = load_checkpoint(untrained, untrained.models[0])
    before = model_key(model)
    monkeypatch.setattr("importlib.metadata.version", lambda name: f"{name} 1")
    assert model_key(model, "openvino bf16") not in (before, model_key(model, "openvino f32"))
    monkeypatch.setattr("evaluation.cache.__version__", "99")
    assert model_key(model) != before


@pytest.mark.parametrize("where", ["head", "page"])
def test_a_damaged_file_is_set_aside_and_said(tmp_path, caplog, where):
    with OpinionCache(tmp_path) as cache:
        cache.store((VOICE, str(number), SAID) for number in range(300))
        path = cache.path
    raw = bytearray(path.read_bytes())
    if where == "head":
        raw[:100] = b"x" * 100
    else:
        raw[4096:] = b"\xff" * (len(raw) - 4096)
    path.write_bytes(raw)
    with caplog.at_level(logging.WARNING), OpinionCache(tmp_path) as cache:
        assert cache.find(VOICE, ["7"]) == {}
        cache.store([(VOICE, "7", SAID)])
        assert set(cache.find(VOICE, ["7"])) == {"7"}
    assert "opinions.sqlite is damaged" in caplog.text
    assert (tmp_path / "opinions.damaged.sqlite").read_bytes() == bytes(raw)


def test_a_file_of_another_version_begins_anew(tmp_path):
    with OpinionCache(tmp_path) as cache:
        cache.store([(VOICE, "a", SAID)])
        path = cache.path
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    with OpinionCache(tmp_path) as cache:
        assert cache.find(VOICE, ["a"]) == {}
        cache.store([(VOICE, "b", SAID)])
        assert set(cache.find(VOICE, ["b"])) == {"b"}


def test_a_cache_that_cannot_be_used_says_what_to_do(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CacheError, match="XDG_CACHE_HOME"), OpinionCache(tmp_path / "file" / "below"):
        pass


def write(folder, who):
    with OpinionCache(folder) as cache:
        for batch in range(30):
            cache.store((VOICE._replace(key=who), f"{batch}-{number}", SAID) for number in range(16))


def test_several_processes_write_at_once(tmp_path):
    context = multiprocessing.get_context("fork")
    running = [context.Process(target=write, args=(tmp_path, who)) for who in ("one", "two", "three")]
    for process in running:
        process.start()
    for process in running:
        process.join(60)
        assert process.exitcode == 0
    names = [f"{batch}-{number}" for batch in range(30) for number in range(16)]
    with OpinionCache(tmp_path) as cache:
        for who in ("one", "two", "three"):
            assert len(cache.find(VOICE._replace(key=who), names)) == 480


def test_the_file_names_no_file_and_keeps_json(tmp_path):
    with OpinionCache(tmp_path) as cache:
        cache.store([(VOICE, "a", SAID)])
        path = cache.path
    with sqlite3.connect(path) as connection:
        columns = [row[1] for row in connection.execute("PRAGMA table_info(opinions)")]
        answer = connection.execute("SELECT answer FROM opinions").fetchone()[0]
    connection.close()
    assert columns == ["model", "image", "answer"]
    assert json.loads(answer) == [[*PROBS.values()], ["Normal"], 0.25]
