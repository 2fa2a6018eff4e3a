"""A Space holds what git tracks of the page, names the Hub models, and has a private place for flags."""

import dataclasses
import subprocess

import pytest
from huggingface_hub import RepoCard

from tests.hub_server import open_hub
from xray_models.hub_client import FileMissing, HubError, connect
from xray_models.spaces import FLAGS_VARIABLE, UPLOADED, publish_space
from xray_models.tasks import ModelRef, load_task

README = '---\ntitle: Page\nemoji: 🩻\nsdk: gradio\npython_version: "3.11"\n---\n\n# Page\n'


@pytest.fixture
def hub(tmp_path, monkeypatch):
    with open_hub(monkeypatch, tmp_path / "cache") as hub:
        yield hub


@pytest.fixture
def root(tmp_path):
    """A small checkout with a file at or below each name that is uploaded, and things that must stay."""
    root = tmp_path / "clone"
    root.mkdir()
    for name in UPLOADED:
        path = root / name if "." in name or name == "LICENSE" else root / name / "file.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(README if name == "README.md" else f"{name}\n")
    (root / "docs" / "page.png").write_bytes(b"\x89PNG\0")
    (root / "tests").mkdir()
    (root / "tests" / "test_page.py").write_text("tracked, and not for a Space\n")
    for words in (["init", "-q"], ["add", "-A"]):
        subprocess.run(["git", *words], cwd=root, check=True)
    (root / "checkpoints" / "secret.py").write_text("not tracked\n")
    return root


def test_a_space_is_private_holds_what_is_tracked_and_names_the_models(hub, root):
    ref = ModelRef("vit_tiny", repo="me/phantom-vit-tiny", revision="a" * 40)
    task = dataclasses.replace(load_task("phantom"), models=(ref, ModelRef("resnet18", checkpoint="phantom/resnet18")))
    space = publish_space(connect(), "me/reading-room", [task], root=root)
    assert space.address == f"{hub.url}/spaces/me/reading-room"
    repo = hub.repos["space", "me/reading-room"]
    assert (repo.private, repo.head) == (True, space.revision)
    folders = {f"{name}/file.py" for name in UPLOADED if (root / name).is_dir()}
    files = {name for name in UPLOADED if (root / name).is_file()}
    assert set(repo.files) == folders | files | {"docs/page.png", ".gitattributes"}
    card = RepoCard(repo.files["README.md"].content.decode())
    assert card.data["models"] == ["me/phantom-vit-tiny"]
    assert (card.data["emoji"], card.data["python_version"]) == ("🩻", "3.11")
    assert hub.repos["dataset", "me/reading-room-flags"].private
    assert repo.variables == {FLAGS_VARIABLE: "me/reading-room-flags"}


def test_an_update_takes_away_what_is_gone_and_flags_stay_private(hub, root):
    publish_space(connect(), "me/room", [], public=True, root=root)
    assert not hub.repos["space", "me/room"].private
    assert hub.repos["dataset", "me/room-flags"].private
    (root / "docs" / "page.png").unlink()
    (root / "dashboard.py").write_text("changed\n")
    add_file("me/room", "packages.txt")
    publish_space(connect(), "me/room", [], public=True, root=root)
    files = hub.repos["space", "me/room"].files
    assert "docs/page.png" not in files and "packages.txt" in files
    assert files["dashboard.py"].content == b"changed\n"
    assert ".gitattributes" in files
    assert files["README.md"].content.decode() == README.replace('"3.11"', "'3.11'")


def test_another_program_of_the_same_name_is_left_alone(hub, root):
    connect().create_repo("me/demo", repo_type="space", space_sdk="docker", private=True)
    add_file("me/demo", "app.py")
    with pytest.raises(HubError, match=r"holds another program \(app.py, ...\).* another --name"):
        publish_space(connect(), "me/demo", [], root=root)
    assert set(hub.repos["space", "me/demo"].files) == {"app.py", ".gitattributes"}
    assert ("dataset", "me/demo-flags") not in hub.repos


def test_flags_that_lie_open_are_no_reason_to_publish_the_page(hub, root):
    connect().create_repo("me/room-flags", repo_type="dataset", private=False)
    with pytest.raises(HubError, match="'me/room-flags' exists and is public: change its visibility"):
        publish_space(connect(), "me/room", [], root=root)


def add_file(repo, name):
    connect().upload_file(path_or_fileobj=b"mine", path_in_repo=name, repo_id=repo, repo_type="space")


def test_what_is_no_clone_is_not_published(hub, root, tmp_path):
    (root / "LICENSE").unlink()
    with pytest.raises(FileMissing, match="needs LICENSE"):
        publish_space(connect(), "me/room", [], root=root)
    (tmp_path / "plain").mkdir()
    with pytest.raises(HubError, match="plain is not a git checkout"):
        publish_space(connect(), "me/room", [], root=tmp_path / "plain")
    assert not hub.requests
