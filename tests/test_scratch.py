import os
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from reading_room.scratch import make_folder, sweep

ROOT = Path(__file__).resolve().parents[1]


def names(folder):
    return sorted(path.name for path in folder.glob("second-read-*"))


@pytest.fixture
def scratch(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def start(folder, *command, **options):
    """Starts Python, with `folder` for its temporary files."""
    environment = {name: value for name, value in os.environ.items() if name != "GRADIO_TEMP_DIR"}
    return subprocess.Popen(
        [sys.executable, *command],
        env={**environment, "TMPDIR": str(folder)},
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        **options,
    )


def test_a_folder_is_for_this_user_alone_and_goes_with_its_process(tmp_path):
    making = "folder = make_folder('list'); (folder / 'a').touch(); print(oct(folder.stat().st_mode))"
    said, _ = start(tmp_path, "-c", f"from reading_room.scratch import make_folder; {making}").communicate(timeout=60)
    assert said.strip() == "0o40700"
    assert not names(tmp_path)


def test_folders_of_dead_processes_are_swept_and_no_others(scratch):
    own = make_folder("uploads")
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    for name in (f"list-{dead.pid}-x", "list-99999999999999999999-x", "list-1-x", "list-word-x", "others"):
        (scratch / f"second-read-{name}").mkdir()
    sweep()
    left = [f"second-read-{name}" for name in ("list-1-x", "list-word-x", "others")]
    assert names(scratch) == sorted([*left, own.name])


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_dashboard_that_is_told_to_end_leaves_no_upload(tmp_path, how):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    options = {"preexec_fn": lambda: signal.signal(how, signal.SIG_DFL)}  # `nohup make test` has it ignored
    run = start(
        tmp_path, "dashboard.py", "--task", "bone", "--port", port, "--flags", str(tmp_path / "flags"), **options
    )
    try:
        for line in run.stdout:
            if "http://" in line:
                break
        (folder,) = tmp_path.glob("second-read-uploads-*")
        (folder / "image.png").write_bytes(b"an upload")
        run.send_signal(how)
        assert run.wait(30) == 0
    finally:
        run.kill()
        run.stdout.close()
    assert not names(tmp_path)
