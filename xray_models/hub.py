"""The Hub: `python -m xray_models.hub push | pull | card | space`.

push     uploads a model's folder, to a private repository unless told otherwise
pull     downloads a task's Hub models at their pinned revisions, after which they load without a connection
card     prints a model's card
space    creates or updates a Space with the reading room

Log in with `hf auth login` or set HF_TOKEN; HF_ENDPOINT names another Hub.
"""

from __future__ import annotations

import sys

if __name__ == "__main__":  # answers --help before what follows is imported
    from xray_models.commands import leave
    from xray_models.hub_command import main

    leave(main)

import argparse
import logging
from collections.abc import Sequence
from typing import NamedTuple

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi

from xray_models.commands import read_metrics, refuse
from xray_models.hub_cache import FILES, pull_model, resolve
from xray_models.hub_client import HubError, Place, ask, connect, create_repository
from xray_models.hub_command import main
from xray_models.hub_files import compose_card, compose_files
from xray_models.spaces import publish_space
from xray_models.tasks import ModelRef, Task, TaskError, load_task, load_tasks

__all__ = ["HubError", "Pushed", "main", "pull_task", "push_model", "resolve", "run"]

_log = logging.getLogger(__name__)


class Pushed(NamedTuple):
    """An uploaded model: its repository, the commit, and the repository's address."""

    repo: str
    revision: str
    address: str


def push_model(api: HfApi, task: Task, ref: ModelRef, owner: str, public: bool = False) -> Pushed:
    """Uploads one model; pushing the same weights again makes no new commit.

    Args:
        api: the client.
        task: the model's task.
        ref: the model; its weights lie in its local folder.
        owner: user or organisation; the repository is `owner/<task>-<model>`.
        public: whether others may see it.

    Raises:
        HubError: when the folder is not fit to be uploaded, the repository's visibility is another, or the Hub refuses.
    """
    name = f"{task.name}-{ref.name}".replace("_", "-")
    repo = f"{owner}/{name}"
    files = compose_files(task, ref)
    address = create_repository(api, repo, public=public)

    def commit() -> str:
        operations: list[CommitOperationAdd | CommitOperationDelete]
        operations = [CommitOperationAdd(name, content) for name, content in files.items()]
        there = {entry.path for entry in api.list_repo_tree(repo)}  # an earlier model's must not pass for this one's
        operations += [CommitOperationDelete(name) for name in FILES if name in there and name not in files]
        return str(api.create_commit(repo, operations, commit_message=f"{task.name}: {ref.name}").oid)

    return Pushed(repo, ask(api, Place(repo), commit), address)


def pull_task(api: HfApi, task: Task, models: Sequence[str] | None = None) -> list[HubError]:
    """Downloads a task's Hub models; one that fails does not stop the others.

    Args:
        api: the client.
        task: the task.
        models: only these models; None for every one that has a `repo`.

    Returns:
        What failed.

    Raises:
        TaskError: for an unknown or a repeated model.
        HubError: for a model that is not on the Hub, or a task without any that is.
    """
    refs = task.pick(models) if models else [ref for ref in task.models if ref.repo]
    if not refs:
        raise HubError(
            f"no model of task {task.name!r} has a `repo:` in hub_configs/{task.name}.yaml; nothing to pull."
        )
    for ref in refs:
        if ref.repo is None:
            raise HubError(f"model {ref.name!r} is the local checkpoint {ref.checkpoint!r}; there is nothing to pull.")
    failures = []
    for ref in refs:
        try:
            _log.info("%s: %s", ref.name, pull_model(api, task, ref))
        except HubError as error:
            failures.append(HubError(f"{ref.name}: {error}"))
    return failures


def _push(options: argparse.Namespace) -> int:
    task = load_task(options.task)
    pushed = push_model(connect(), task, task.model(options.model), options.owner, options.public)
    _log.info("%s; for hub_configs/%s.yaml, in place of `checkpoint:`:", pushed.address, task.name)
    sys.stdout.write(f"{options.model}: {{repo: {pushed.repo}, revision: {pushed.revision}}}\n")
    return 0


def _pull(options: argparse.Namespace) -> int:
    failures = pull_task(connect(), load_task(options.task), options.models)
    for failure in failures:
        sys.stderr.write(f"error: {failure}\n")
    return 2 if failures else 0


def _card(options: argparse.Namespace) -> int:
    task = load_task(options.task)
    metrics = read_metrics(options.metrics) if options.metrics else None
    sys.stdout.write(compose_card(task, task.model(options.model), metrics))
    return 0


def _space(options: argparse.Namespace) -> int:
    space = publish_space(connect(), f"{options.owner}/{options.name}", load_tasks().values(), options.public)
    _log.info("flags: %s (private data set); add HF_TOKEN with write access to it to the Space's secrets", space.flags)
    sys.stdout.write(f"{space.address}\n")
    return 0


_RUN = {"push": _push, "pull": _pull, "card": _card, "space": _space}


def run(options: argparse.Namespace) -> int:
    """Does what the command line asks for; returns the exit status."""
    try:
        return _RUN[options.action](options)
    except (TaskError, HubError, OSError) as error:
        return refuse(error)
