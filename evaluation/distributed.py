"""Asks a panel about a data set on a Ray cluster: one panel in each worker, the answers as files, then as arrays.

The rows of the manifest are dealt out in parts. A worker reads a part as one process would, writes its answers to
Parquet files and tells only how many there are; at no time does any process hold all of them as objects. A worker that
dies is started again and its part done again, into the same files. Every machine of a cluster must see this project,
the data, the checkpoints and the results' folder under the same paths.

Ray is an extra: `pip install -r requirements-ray.txt`. It is told to report nothing to its makers.
"""

from __future__ import annotations

import logging
import os
import socket
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import pandas as pd
import pyarrow as pa
from tqdm import tqdm

from evaluation.cache import OpinionCache
from evaluation.cases import collect_cases, load_panel
from evaluation.parts import Part, clear_parts, list_unavailable, read_faults, scan_parts, tabulate_parts, write_part
from evaluation.predictions import Table
from xray_models.commands import writing
from xray_models.panel import Panel
from xray_models.tasks import ROOT, Task, TaskError

_KNOCK = 10.0  # seconds in which a cluster must answer
_RETRIES = 5  # times that a part is done again; an image that kills whoever reads it must not be read for ever
_STORE = 2**28  # bytes that a cluster on this machine may keep of what lies between its processes


class ClusterError(TaskError):
    """The cluster cannot be had, or stopped; the message says what to do."""


class Cluster(NamedTuple):
    """How the work is dealt out.

    Attributes:
        address: host:port of a cluster that runs, as `ray start --head` prints it; None for one on this machine alone.
        workers: processes, each with a panel; None for one a GPU, or else one a processor core.
        images: of a part, which is done again when its worker dies.
        cache: folder of each machine's own cache of opinions; None for none.
    """

    address: str | None = None
    workers: int | None = None
    images: int = 512
    cache: Path | None = None


class Collected(NamedTuple):
    """What the workers found.

    Attributes:
        table: all answers.
        faults: images that cannot be read: image, label, reason.
        unavailable: models that answered on no image, with the reason.
    """

    table: Table
    faults: pd.DataFrame
    unavailable: dict[str, str]


class Job(NamedTuple):
    """What every worker is told."""

    task: Task
    models: tuple[str, ...] | None
    folder: Path
    out: Path
    cluster: Cluster


class Worker:
    """A panel in a process of its own; called with a part's rows it writes their answers and returns their count."""

    def __init__(self, job: Job):
        self.job = job
        self.panel = Panel.load(job.task, job.models)

    def __call__(self, rows: pa.Table) -> pa.Table:
        """Rows of one part or several (path, label, group, sha256, part) to one row a part (part, images)."""
        frame, job = rows.to_pandas(), self.job
        counts = []
        with OpinionCache(job.cluster.cache) if job.cluster.cache else nullcontext() as cache:
            for number, own in frame.groupby("part"):
                cases, faults = collect_cases(self.panel, own, job.folder, cache)
                write_part(job.task, Part(int(number), int(number) * job.cluster.images), cases, faults, job.out)
                counts.append({"part": int(number), "images": len(own)})
        return pa.Table.from_pylist(counts)


def collect_cases_ray(
    task: Task, models: Sequence[str] | None, rows: pd.DataFrame, folder: Path, out: Path, cluster: Cluster
) -> Collected:
    """Asks a panel about every image of a manifest, on a cluster.

    Args:
        task: the task.
        models: names of its models; None for all.
        rows: of a manifest: path, label, group, sha256.
        folder: the data folder.
        out: folder of the results; the parts of an earlier run in its `parts/` are removed first.
        cluster: how the work is dealt out.

    Returns:
        What `collect_cases` and `tabulate` give in one process, to the digits that `settle` keeps.

    Raises:
        TaskError: when no model of the task is available, Ray is not installed, there is no room for the results, or
            `parts/` holds something else.
        ClusterError: when the cluster cannot be reached, or a worker fails for another reason than its death.
        PredictionError: when no model answered on any image.
    """
    load_panel(task, models)  # what is wrong with it is said here and now, not by every worker
    parts = out / "parts"
    with writing(out):
        clear_parts(parts)
        parts.mkdir(parents=True)
    job = Job(task, None if models is None else tuple(models), folder.resolve(), parts.resolve(), cluster)
    with _join_cluster(cluster) as ray:
        _deal(ray, job, rows)
    return Collected(tabulate_parts(task, scan_parts(parts)), read_faults(parts), list_unavailable(scan_parts(parts)))


def _deal(ray: Any, job: Job, rows: pd.DataFrame) -> None:
    """Has every part read by one of the workers."""
    cluster, resources = job.cluster, ray.cluster_resources()
    gpus = int(resources.get("GPU", 0))
    tables = _cut(rows, cluster.images)
    workers = min(cluster.workers or gpus or int(resources.get("CPU", 1)), len(tables))
    done = ray.data.from_arrow(tables).map_batches(
        Worker,
        fn_constructor_args=(job,),
        batch_size=None,
        batch_format="pyarrow",
        compute=ray.data.ActorPoolStrategy(size=workers),
        num_gpus=1 if gpus >= workers else 0,
        max_restarts=-1,
        max_task_retries=_RETRIES,
    )
    done.context.enable_progress_bars = False
    done.context.print_on_execution_start = False
    done.context.raise_original_map_exception = True
    try:
        with tqdm(desc="reading", total=len(rows), unit="image", disable=None) as bar:
            for batch in done.iter_batches(batch_size=None, batch_format="pyarrow"):
                bar.update(sum(batch["images"].to_pylist()))
    except ray.exceptions.RayError as error:
        reason = str(error).strip().splitlines()[-1]  # above it lies the worker's traceback
        raise ClusterError(f"The cluster stopped: {reason}. Mend that and give the same command again.") from error


def _cut(rows: pd.DataFrame, images: int) -> list[pa.Table]:
    """The rows in parts of so many images, each with its number."""
    kept = rows[["path", "label", "group", "sha256"]].reset_index(drop=True)
    kept["part"] = kept.index // images
    return [pa.Table.from_pandas(part, preserve_index=False) for _, part in kept.groupby("part")]


@contextmanager
def _join_cluster(cluster: Cluster) -> Iterator[Any]:
    """Ray, connected to a cluster that runs or to one that is started for as long as this lasts."""
    ray = _import_ray(cluster)
    if ray.is_initialized():
        yield ray
        return
    here = {"num_cpus": cluster.workers, "include_dashboard": False, "object_store_memory": _STORE}
    there = {"address": cluster.address, "runtime_env": {"env_vars": {"PYTHONPATH": str(ROOT)}}}
    try:
        _knock(cluster.address)
        with warnings.catch_warnings(action="ignore", category=FutureWarning):  # of what Ray will do one day
            ray.init(logging_level=logging.ERROR, log_to_driver=False, **(there if cluster.address else here))
    except (ConnectionError, OSError, RuntimeError, ValueError) as error:
        where = f"at {cluster.address}" if cluster.address else "on this machine"
        raise ClusterError(
            f"There is no Ray cluster {where}: {error}. Start one with `ray start --head` and give the address that it "
            "prints, or leave the address out."
        ) from error
    try:
        yield ray
    finally:
        ray.shutdown()


def _knock(address: str | None) -> None:
    """Raises `OSError` or `ValueError` where nobody listens at an address; Ray itself would try for minutes."""
    if address not in (None, "auto"):
        place = urlsplit(address if "://" in str(address) else f"//{address}")
        if not place.hostname or not place.port:
            raise ValueError(f"{address!r} is not host:port")
        socket.create_connection((place.hostname, place.port), timeout=_KNOCK).close()


def _import_ray(cluster: Cluster) -> Any:
    """Ray with its data library, told not to report its use, and alone to listen on 127.0.0.1."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    if cluster.address is None:  # workers inherit all this
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"  # on every system: a cluster of this machine alone
        paths = [str(ROOT), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
        os.environ["PYTHONPATH"] = os.pathsep.join(dict.fromkeys(filter(None, paths)))
    try:
        import ray
        import ray.data
        import ray.exceptions
    except ImportError as error:
        raise TaskError(
            f"The engine 'ray' needs Ray, which is not installed ({error}). Install it: "
            "pip install -r requirements-ray.txt; or use the local engine."
        ) from error
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # an error is said once, by `_deal`
    return ray
