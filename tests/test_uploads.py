"""What was sent goes after minutes, also where more is sent meanwhile, and with the app."""

import threading
import time
import types
from pathlib import Path

import httpx
from gradio_client import Client, handle_file

from reading_room import uploads
from reading_room.app import build_app, launch_options
from reading_room.scratch import make_folder
from xray_models.images import encode_png


def app_of(*sets, kept=()):
    parts = {1: types.SimpleNamespace(keep_in_cache=set(kept)), 2: types.SimpleNamespace()}
    return types.SimpleNamespace(blocks=parts, temp_file_sets=list(sets))


def list_names(folder):
    return sorted(path.name for path in folder.iterdir())


def make(folder, *names):
    paths = [folder / name for name in names]
    for path in paths:
        path.write_bytes(b"an upload")
    return list(map(str, paths))


def test_old_files_go_and_young_ones_stay(tmp_path):
    first, second, logo = make(tmp_path, "a.png", "b.png", "logo.png")
    sent, made = {first, logo, str(tmp_path / "gone.png")}, {second}
    app = app_of(sent, made, kept=[logo])
    uploads.forget(app, 3600)
    assert list_names(tmp_path) == ["a.png", "b.png", "logo.png"]
    assert sent == {first, logo}  # what is gone is known no more
    uploads.forget(app, 0)
    assert list_names(tmp_path) == ["logo.png"]
    assert (sent, made) == ({logo}, set())
    assert uploads.KEPT <= 600 and uploads.PAUSE <= 60


def test_what_no_set_knows_goes_from_the_rooms_own_folder_and_from_no_other(tmp_path, monkeypatch):
    own = make_folder("uploads", str(tmp_path / "given"))
    (own / "hash").mkdir()
    _, logo = make(own / "hash", "file.dcm", "logo.png")
    make(tmp_path / "given", "others.png")
    for folder in (own, own.parent):
        monkeypatch.setenv("GRADIO_TEMP_DIR", str(folder))
        uploads.forget(app_of(kept=[logo]), 3600)
        assert list_names(own / "hash") == ["file.dcm", "logo.png"]
    uploads.forget(app_of(kept=[logo]), 0)
    assert list_names(own / "hash") == ["file.dcm", "logo.png"]
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(own))
    uploads.forget(app_of(kept=[logo]), 0)
    assert list_names(own / "hash") == ["logo.png"]
    assert (own.parent / "others.png").exists()


def test_a_file_that_cannot_be_removed_keeps_no_other(tmp_path, monkeypatch, caplog):
    sent = set(make(tmp_path, *(f"DOE_{number}.png" for number in range(5))))
    remove = Path.unlink

    def refuse(path, **options):
        if path.name == "DOE_2.png":
            raise PermissionError(13, "Permission denied", str(path))
        remove(path, **options)

    monkeypatch.setattr(Path, "unlink", refuse)
    uploads.forget(app_of(sent), 0)
    assert list_names(tmp_path) == ["DOE_2.png"]
    assert "Permission denied" in caplog.text
    assert "DOE" not in caplog.text


def test_uploads_may_come_while_old_ones_go(tmp_path):
    """Gradio's own task ended here with "Set changed size during iteration", and nothing was removed from then on."""
    sent, ended = set(make(tmp_path, *(f"{number}.png" for number in range(300)))), threading.Event()

    def come_and_go():
        while not ended.is_set():
            more = {str(tmp_path / f"more-{number}.png") for number in range(3000)}
            sent.update(more)
            sent.difference_update(more)

    sender = threading.Thread(target=come_and_go)
    sender.start()
    try:
        for _ in range(20):
            uploads.forget(app_of(sent), 0)
    finally:
        ended.set()
        sender.join()
    assert not list_names(tmp_path)


def test_an_upload_goes_while_the_app_is_served_and_the_last_with_it(untrained, tmp_path, image, monkeypatch):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "uploads"))
    monkeypatch.setattr("reading_room.panels.load_tasks", lambda: {"phantom": untrained})
    monkeypatch.setattr(uploads, "PAUSE", 0.1)
    monkeypatch.setattr(uploads, "KEPT", 0.0)
    (tmp_path / "image.png").write_bytes(encode_png(image))
    app = build_app(tmp_path / "flags", "phantom")
    _, url, _ = app.launch(prevent_thread_lock=True, quiet=True, server_name="127.0.0.1", **launch_options())

    def names():
        return [path.name for path in (tmp_path / "uploads").rglob("*.png")]

    try:
        client = Client(url, verbose=False)
        assert send(url, tmp_path / "image.png") == 200
        deadline = time.monotonic() + 20
        while names() and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not names()
        monkeypatch.setattr(uploads, "KEPT", 3600.0)
        time.sleep(0.3)
        assert client.predict(handle_file(tmp_path / "image.png"), "phantom", api_name="/read")["opinions"]
        assert names() == ["image.png"]
    finally:
        app.close(verbose=False)
    deadline = time.monotonic() + 20
    while names() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not names()


def send(url, path):
    return httpx.post(f"{url}gradio_api/upload", files={"files": (path.name, path.read_bytes())}).status_code
