"""Models of the Hub on this machine: pulled at their pinned revision, checked, and found again without a connection.

The files lie in `huggingface_hub`'s own cache, so that other programs share them.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.errors import LocalEntryNotFoundError

from xray_models.hub_client import (
    FileMissing,
    HashDiffers,
    HubError,
    LabelsDiffer,
    NotPulled,
    PickleOnly,
    Place,
    ask,
)
from xray_models.tasks import ModelRef, Task, TaskError

FILES = ("config.json", "model.safetensors", "preprocessor_config.json", "reference.safetensors", "README.md")
"""Every file that a model's repository may give or get; nothing else is uploaded or downloaded but remote code."""

_PICKLES = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".joblib")


def name_model(repo: str, taken: Collection[str]) -> str:
    """What a model of the Hub is called in a panel: `name` of `owner/name`, or `name-2`, where that is taken."""
    short = repo.rpartition("/")[2]
    free, count = short, 2
    while free in taken:
        free, count = f"{short}-{count}", count + 1
    return free


def pin_model(api: HfApi, wanted: str, taken: Collection[str] = ()) -> ModelRef:
    """Finds a model's commit, and pins it.

    Args:
        api: the client.
        wanted: `owner/name`, whose newest commit is taken; or `owner/name@revision`, a commit, branch or tag.
        taken: names of other models, as in `name_model`.

    Raises:
        HubError: for what cannot be the name of a repository, one that is not there, or a revision that is not.
    """
    repo, _, revision = wanted.strip().partition("@")
    place = Place(repo, revision or "main")
    if repo.count("/") != 1:
        raise HubError(f"{repo!r} is no model of the Hub. Give owner/name, or owner/name@ and the digits of a commit.")
    info = ask(api, place, lambda: api.model_info(repo, revision=revision or None))
    return ModelRef(name_model(repo, taken), repo=repo, revision=info.sha)


def pull_model(api: HfApi, task: Task, ref: ModelRef, limit: int | None = None) -> Path:
    """Downloads one model at its pinned revision into the cache, and checks it.

    Args:
        api: the client.
        task: the model's task.
        ref: a model with `repo` and `revision`.
        limit: bytes that its files may have together; None for as many as they have.

    Returns:
        The folder with its files.

    Raises:
        HubError: when the revision, a file or the connection is missing, the weights are pickles or too large, a file
            is not the one that the Hub lists, the labels are not the task's, or the cache cannot be written to.
    """
    repo, revision = str(ref.repo), str(ref.revision)
    place = Place(repo, revision)
    listed = ask(api, place, lambda: {own.path: own for own in api.list_repo_tree(repo, revision=revision)})
    check_files(listed, repo)
    wanted = [name for name in FILES if name in listed]
    size = sum(getattr(listed[name], "size", 0) for name in wanted)
    if limit is not None and size > limit:
        have, may = (f"{amount / 1e6:.0f}" for amount in (size, limit))
        raise HubError(f"{repo} has {have} MB; a further model here may have {may} MB. Take a smaller one.")
    try:
        folder = ask(api, place, lambda: api.snapshot_download(repo, revision=revision, allow_patterns=wanted))
    except OSError as error:  # what the Hub had no part in
        raise say_unwritable(repo, error) from error
    _check_hashes(api, place, wanted)
    check_config(task, read_config(Path(folder)), listed, repo)
    return Path(folder)


def say_unwritable(repo: str, error: OSError) -> HubError:
    """Puts into words that the cache takes no file of a repository."""
    reason = error.strerror or type(error).__name__
    return HubError(
        f"{repo} cannot be pulled, since nothing can be written to the Hub's cache: {reason}. Make room there, or set "
        "HF_HOME to another folder."
    )


def resolve(task: Task, ref: ModelRef) -> Path:
    """Returns the folder of a model of the Hub on this machine, without a connection.

    Raises:
        NotPulled: when it is not there, or not whole; the message names the command that pulls it.
    """
    missing = NotPulled(
        f"{ref.repo} at {str(ref.revision)[:12]} is not on this machine. "
        f"Pull it: python -m xray_models.hub pull --task {task.name} --models {ref.name}"
    )
    try:
        found = snapshot_download(
            str(ref.repo), revision=ref.revision, local_files_only=True, allow_patterns=list(FILES)
        )
    except LocalEntryNotFoundError as error:
        raise missing from error
    folder = Path(found)
    if not all((folder / name).is_file() for name in ("config.json", "model.safetensors")):
        raise missing
    return folder


def find_folder(task: Task, ref: ModelRef) -> Path:
    """Where the files of a model lie that the panel asks: its checkpoint's folder, or the cache.

    Raises:
        TaskError: when a local model is not there; the message names the command that trains it.
        NotPulled: when one of the Hub is not; the message names the command that pulls it.
    """
    if ref.path is None:
        return resolve(task, ref)
    if not (ref.path / "config.json").is_file() or not (ref.path / "model.safetensors").is_file():
        raise TaskError(
            f"There are no weights in checkpoints/{ref.checkpoint}. Train them: python -m xray_models.train "
            f"--task {task.name} --model {ref.name} --out checkpoints/{ref.checkpoint}"
        )
    return ref.path


def check_files(names: Collection[str], where: str) -> None:
    """Raises `PickleOnly` or `FileMissing` unless a model's config and safetensors are among `names`."""
    if "model.safetensors" not in names:
        pickles = sorted(name for name in names if PurePosixPath(name).suffix in _PICKLES)
        if pickles:
            raise PickleOnly(
                f"{where} holds its weights only as {', '.join(pickles)}: a pickle can run code when it is opened, so "
                "it is not read. Ask its owner for model.safetensors, or convert it yourself and push that."
            )
    for name in ("config.json", "model.safetensors"):
        if name not in names:
            raise FileMissing(f"{where} has no {name}. Push the model again, or pin a revision that has it.")


def check_config(task: Task, config: Mapping[str, Any], names: Collection[str], where: str) -> None:
    """Checks what a `config.json` says against its task and against the files beside it.

    Raises:
        LabelsDiffer: unless it names the task's labels in the task's order.
        FileMissing: when it needs an image processor's file and there is none (timm models keep theirs in the config).
    """
    try:
        task.check_labels(list_config_labels(config), where)
    except TaskError as error:
        raise LabelsDiffer(str(error)) from error
    if config.get("model_type") != "timm_wrapper" and "preprocessor_config.json" not in names:
        raise FileMissing(f"{where} has no preprocessor_config.json, so its input is not known. Push the model again.")


def list_config_labels(config: Mapping[str, Any]) -> list[str]:
    """The labels of a `config.json` in the order of the logits (timm models call them `label_names`).

    Empty where they are not written as they should be: other people's files hold anything.
    """
    numbered, named = config.get("id2label"), config.get("label_names")
    if isinstance(numbered, dict) and all(index.isdecimal() for index in numbered):
        return [numbered[index] for index in sorted(numbered, key=int)]
    return list(named) if isinstance(named, list) else []


def read_config(folder: Path) -> dict[str, Any]:
    """Reads a model's `config.json`.

    Raises:
        HubError: when it is missing or not a JSON object.
    """
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise FileMissing(f"{folder.name} has no config.json; there is no model in it.") from error
    except ValueError as error:
        raise HubError(f"config.json of {folder.name} is not JSON: {error}") from error
    if not isinstance(config, dict):
        raise HubError(f"config.json of {folder.name} must hold a JSON object, not {type(config).__name__}.")
    return config


def _check_hashes(api: HfApi, place: Place, wanted: Collection[str]) -> None:
    """Compares files with the hashes that the Hub lists; removes those that differ, so that they load anew."""
    report = ask(api, place, lambda: api.verify_repo_checksums(place.repo, revision=place.revision))
    absent = sorted(set(wanted) & set(report.missing_paths))
    if absent:
        raise FileMissing(f"{place.repo} was not pulled whole: {', '.join(absent)} is missing. Pull it again.")
    wrong = [found["path"] for found in report.mismatches if found["path"] in wanted]
    for name in wrong:
        link = report.verified_path / name
        link.resolve().unlink()
        link.unlink(missing_ok=True)
    if wrong:
        raise HashDiffers(
            f"{', '.join(wrong)} of {place.repo} did not arrive as the Hub lists it and was removed. Pull it again."
        )
