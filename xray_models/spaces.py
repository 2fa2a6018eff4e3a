"""The reading room as a Space of the Hub, with a private data set repository for its flags."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, RepoCard
from huggingface_hub.hf_api import RepoFile

from xray_models.hub_client import FileMissing, HubError, Place, ask, create_repository
from xray_models.tasks import ROOT, Task

UPLOADED = (
    "dashboard.py",
    "xray_models",
    "evaluation",
    "reading_room",
    "hub_configs",
    "checkpoints",
    "requirements.txt",
    "README.md",
    "LICENSE",
    "docs",
)
"""Files and folders at the top of the repository that a Space gets; of these, only what git tracks."""

FLAGS_VARIABLE = "SECOND_READ_FLAGS_REPO"
"""The Space's variable that names the data set of its flags; `dashboard.py --sync` takes it as its default."""

_FRESH = {".gitattributes", "README.md"}  # what the Hub puts into a new Space


class Space(NamedTuple):
    """A published Space: its address, its commit, and the repository of its flags."""

    address: str
    revision: str
    flags: str


def publish_space(api: HfApi, repo: str, tasks: Iterable[Task], public: bool = False, root: Path = ROOT) -> Space:
    """Creates a Space from this repository, or brings it up to date; what is gone here goes there too.

    Files of the Space that are not below `UPLOADED` stay as they are.

    Args:
        api: the client.
        repo: `owner/name`.
        tasks: their Hub models are named in the Space's README.
        public: whether others may see it; its flags stay private either way.
        root: the repository's folder, a git checkout.

    Raises:
        HubError: when `root` is no checkout or lacks a file, the Space is there and another program's, or the Hub
            refuses.
    """
    files: dict[str, bytes | Path] = {name: root / name for name in list_tracked(root)}
    files["README.md"] = name_models((root / "README.md").read_text(encoding="utf-8"), tasks).encode()
    flags = f"{repo}-flags"
    address = create_repository(api, repo, public=public, repo_type="space", space_sdk="gradio")
    there = ask(api, Place(repo), lambda: _list_files(api, repo))
    foreign = there - _FRESH
    if foreign and UPLOADED[0] not in there:
        raise HubError(
            f"the Space {repo!r} exists and holds another program ({min(foreign)}, ...), which would be lost. Give "
            "another --name, or delete that Space on the Hub first."
        )
    create_repository(api, flags, public=False, asked=False, repo_type="dataset")
    ask(api, Place(repo), lambda: api.add_space_variable(repo, FLAGS_VARIABLE, flags))
    revision = ask(api, Place(repo), lambda: _commit(api, repo, files))
    return Space(address, revision, flags)


def list_tracked(root: Path) -> list[str]:
    """Lists the files below `UPLOADED` that git tracks and that are there, as paths relative to `root`.

    Raises:
        HubError: when `root` is no git checkout.
        FileMissing: when one of `UPLOADED` has no file at all.
    """
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--", *UPLOADED], cwd=root, capture_output=True, text=True, check=False
    )
    if listed.returncode:
        raise HubError(f"{root.name} is not a git checkout, so what belongs to it is not known. Publish from a clone.")
    names = [name for name in listed.stdout.split("\0") if name and (root / name).is_file()]
    for top in UPLOADED:
        if not any(name == top or name.startswith(f"{top}/") for name in names):
            raise FileMissing(f"a Space needs {top}, which git does not track here. Add it, or publish from a clone.")
    return sorted(names)


def name_models(readme: str, tasks: Iterable[Task]) -> str:
    """Returns a README whose front matter names the Hub models of all tasks under `models:`."""
    card = RepoCard(readme)
    repos = sorted({ref.repo for task in tasks for ref in task.models if ref.repo})
    if repos:
        card.data["models"] = repos
    return str(card.content)


def _list_files(api: HfApi, repo: str) -> set[str]:
    tree = api.list_repo_tree(repo, repo_type="space", recursive=True)
    return {entry.path for entry in tree if isinstance(entry, RepoFile)}


def _commit(api: HfApi, repo: str, files: Mapping[str, bytes | Path]) -> str:
    """Uploads files and deletes those of an earlier upload that are gone; returns the commit."""
    additions = [CommitOperationAdd(name, content) for name, content in files.items()]
    gone = (name for name in sorted(_list_files(api, repo) - set(files)) if name.partition("/")[0] in UPLOADED)
    deletions = [CommitOperationDelete(name) for name in gone]
    done = api.create_commit(
        repo, [*additions, *deletions], commit_message="Update from the repository", repo_type="space"
    )
    return str(done.oid)
