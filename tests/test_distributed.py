"""Two workers of a cluster find what one process finds, also when one of them is killed on the way."""

import dataclasses
import importlib.util
import os
import signal
import sys
import time
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from evaluation import distributed
from evaluation.cache import OpinionCache
from evaluation.cases import collect_cases, find_unavailable
from evaluation.distributed import Cluster, ClusterError, collect_cases_ray
from evaluation.predictions import tabulate
from evaluation.scoring import score
from xray_models import datasets, phantom
from xray_models.panel import Panel
from xray_models.tasks import ModelRef, TaskError

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:ray.*")
SIZE = 16  # images of a part: a panel's batch, so that both engines batch alike


class Frail(distributed.Worker):
    """Is killed once, in the middle of the third part."""

    def __call__(self, rows):
        mark = self.job.out.parent / "killed"
        if rows["part"][0].as_py() == 2 and not mark.exists():
            mark.write_text(str(os.getpid()))
            os.kill(os.getpid(), signal.SIGKILL)
            time.sleep(60)
        return super().__call__(rows)


class Idle(distributed.Worker):
    """Has no panel, which takes long to load: it never gets as far as reading."""

    def __init__(self, job):
        self.job = job


class Doomed(Idle):
    """Is killed whenever it reads, as by an image that takes all memory."""

    def __call__(self, rows):
        os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(60)


class Clumsy(Idle):
    """Fails for a reason of its own."""

    def __call__(self, rows):
        raise OSError("No space left on device")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return phantom.write_dataset(tmp_path_factory.mktemp("distributed") / "phantom", 72, seed=3, size=64)


@pytest.fixture(scope="module")
def task(untrained):
    missing = ModelRef("densenet121", checkpoint="phantom/none")
    return dataclasses.replace(untrained, models=(*untrained.models[:2], missing))


@pytest.fixture(scope="module")
def rows(task, data):
    """A manifest of 72 images, of which one is damaged since."""
    rows = datasets.open_dataset(task, data).part("all")
    broken = data / "Nodule" / "broken.png"
    broken.write_bytes(b"\x89PNG\r\n\x1a\nand no more")
    rows.loc[71, "path"] = str(broken)
    return rows


@pytest.fixture(scope="module")
def local(task, rows, data):
    return collect_cases(Panel.load(task, device="cpu"), rows, data)


@pytest.fixture(scope="module")
def cluster():
    """A cluster with two processors, as urgent as the test; Ray is imported and ended here."""
    if importlib.util.find_spec("ray") is None:
        pytest.skip("Ray is not installed: pip install -r requirements-ray.txt")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_worker_niceness", "0")
        with distributed._join_cluster(Cluster(workers=2)) as ray:
            yield ray
    assert not ray.is_initialized()


def flatten(scores, name=""):
    """Names and values of nested scores."""
    pairs = scores.items() if isinstance(scores, dict) else enumerate(scores)
    for key, value in pairs:
        if isinstance(value, dict | list):
            yield from flatten(value, f"{name}/{key}")
        else:
            yield f"{name}/{key}", value


def check_same(found, task, local):
    cases, faults = local
    expected = tabulate(task, cases)
    assert list(found.table.answers) == ["simple_cnn", "resnet18", "consensus"]
    assert found.table.images == expected.images
    np.testing.assert_array_equal(found.table.truth, expected.truth)
    np.testing.assert_array_equal(found.table.groups, expected.groups)
    for name, own in expected.answers.items():
        np.testing.assert_allclose(found.table.answers[name].probs, own.probs, rtol=1e-5)
        np.testing.assert_array_equal(found.table.answers[name].sets, own.sets)
        np.testing.assert_array_equal(found.table.answers[name].novelty, own.novelty)
        assert found.table.answers[name].revision == own.revision
    pd.testing.assert_frame_equal(found.faults, faults.astype(found.faults.dtypes))
    assert found.unavailable == find_unavailable(cases)
    scores, ours = (dict(flatten(score(table, 20, 0))) for table in (found.table, expected))
    assert len(ours) > 100
    assert scores == pytest.approx(ours, abs=1e-6)


def test_a_killed_worker_costs_no_result(cluster, task, rows, data, local, tmp_path, monkeypatch):
    monkeypatch.setattr(distributed, "Worker", Frail)
    found = collect_cases_ray(task, None, rows, data, tmp_path, Cluster(workers=2, images=SIZE, cache=tmp_path))
    assert int((tmp_path / "killed").read_text()) != os.getpid()
    check_same(found, task, local)
    written = sorted((tmp_path / "parts").iterdir())
    assert [path.name for path in written[5:]] == [f"opinions-{number:06}.parquet" for number in range(5)]
    assert not any(str(data).encode() in path.read_bytes() for path in written)
    with OpinionCache(tmp_path) as cache:  # what the workers stored, one process finds
        cases, _ = collect_cases(Panel.load(task, device="cpu"), rows, data, cache)
    kept, ours = tabulate(task, cases).answers["resnet18"], found.table.answers["resnet18"]
    np.testing.assert_array_equal(kept.probs, ours.probs)


def test_a_part_that_kills_whoever_reads_it_is_given_up(cluster, task, rows, data, tmp_path, monkeypatch):
    monkeypatch.setattr(distributed, "Worker", Doomed)
    monkeypatch.setattr(distributed, "_RETRIES", 1)
    with pytest.raises(ClusterError, match="The cluster stopped: "):
        collect_cases_ray(task, ["simple_cnn"], rows.head(8), data, tmp_path, Cluster(workers=1, images=SIZE))


def test_nobody_else_can_reach_the_cluster(cluster):
    assert [node["NodeManagerAddress"] for node in cluster.nodes()] == ["127.0.0.1"]
    assert os.environ["RAY_USAGE_STATS_ENABLED"] == "0"


def test_what_stops_a_worker_is_said_in_a_sentence(cluster, task, rows, data, tmp_path, monkeypatch):
    monkeypatch.setattr(distributed, "Worker", Clumsy)
    with pytest.raises(ClusterError, match=r"The cluster stopped: OSError: No space left on device\. Mend"):
        collect_cases_ray(task, ["simple_cnn"], rows.head(8), data, tmp_path, Cluster(workers=1, images=SIZE))


def test_results_that_find_no_room_start_no_cluster(task, rows, data, tmp_path):
    (tmp_path / "parts").write_text("something else")
    with pytest.raises(TaskError, match=r"cannot be written to .* at parts: Not a directory"):
        collect_cases_ray(task, ["simple_cnn"], rows, data, tmp_path, Cluster("10.0.0.1:1"))


def test_a_folder_of_somebody_elses_is_not_emptied(task, rows, data, tmp_path, monkeypatch):
    monkeypatch.setattr(distributed, "_join_cluster", lambda cluster: pytest.fail("a cluster was started"))
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "my_only_copy.txt").write_text("x")
    with pytest.raises(TaskError, match=r"holds something else: my_only_copy\.txt"):
        collect_cases_ray(task, ["simple_cnn"], rows, data, tmp_path, Cluster())
    assert (tmp_path / "parts" / "my_only_copy.txt").read_text() == "x"


def test_a_panel_without_models_starts_no_cluster(task, rows, data, tmp_path, monkeypatch):
    monkeypatch.setattr(distributed, "_join_cluster", lambda cluster: pytest.fail("a cluster was started"))
    with pytest.raises(TaskError, match="densenet121: no weights"):
        collect_cases_ray(task, ["densenet121"], rows, data, tmp_path, Cluster())


@pytest.mark.parametrize("address", ["127.0.0.1:1", "nowhere", "127.0.0.1:port"])
def test_an_address_where_no_cluster_is_is_named(monkeypatch, address):
    """Before Ray is asked, which would wait for minutes."""
    ray = SimpleNamespace(is_initialized=lambda: False)
    monkeypatch.setattr(distributed, "_import_ray", lambda cluster: ray)
    with (
        pytest.raises(ClusterError, match=f"no Ray cluster at {address}: .*ray start --head"),
        distributed._join_cluster(Cluster(address)),
    ):
        pass


def test_without_ray_the_command_that_installs_it_is_named(task, rows, data, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(TaskError, match=r"pip install -r requirements-ray\.txt"):
        collect_cases_ray(task, ["simple_cnn"], rows, data, tmp_path, Cluster())
    assert os.environ["RAY_USAGE_STATS_ENABLED"] == "0"
