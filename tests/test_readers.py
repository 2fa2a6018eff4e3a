"""Who reads: names of log-ins sign flags, and nobody signs for another."""

import base64
import hashlib
import json
import time
import types

import gradio as gr
import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from itsdangerous import TimestampSigner

from reading_room import panels, readers
from reading_room.app import build_app, launch_options
from reading_room.browsers import COOKIE
from xray_models import phantom
from xray_models.images import encode_png, from_pixels, read_image

BROWSER = f"{COOKIE}={'b' * 32}"


def signed_in(name, expires_in=86_400.0):
    return {"oauth_info": {"userinfo": {"preferred_username": name}, "expires_at": time.time() + expires_in}}


def request_of(session=None, username=None, cookie=""):
    scope = {"session": session or {}, "headers": [(b"cookie", cookie.encode())]}
    return gr.Request(types.SimpleNamespace(scope=scope), username, "page")


@pytest.mark.parametrize(
    ("request_", "login", "name"),
    [
        (request_of(username="ann"), "ann", "ann"),
        (request_of(signed_in("bob")), "bob", "bob"),
        (request_of(signed_in("bob", expires_in=-1)), "", "session page"),
        (request_of(), "", "session page"),
        (request_of(cookie=BROWSER), "", f"browser {'b' * 32}"),
        (request_of(signed_in("bob"), cookie=BROWSER), "bob", "bob"),
        (request_of(cookie=f"{COOKIE}=bob"), "", "session page"),
        (gr.Request(None, None, "page"), "", "session page"),
        (None, "", ""),
    ],
)
def test_a_login_names_the_reader(request_, login, name):
    assert readers.find_login(request_) == login
    assert readers.name_reader(request_) == name


def test_a_typed_name_says_so_where_readers_could_sign_in(monkeypatch):
    ann, nobody = request_of(username="ann"), request_of()
    assert readers.sign(ann, "bob") == "ann"
    assert readers.sign(nobody, "bob") == "bob"
    monkeypatch.setattr(readers, "offers_sign_in", lambda: True)
    assert readers.sign(ann, "bob") == "ann"
    assert readers.sign(nobody, "bob") == readers.sign(nobody, "bob (not signed in)") == "bob (not signed in)"
    assert [readers.sign(nobody, typed) for typed in (" ", "", None, 7)] == [" ", "", None, 7]


def test_signing_in_is_offered_on_a_space_with_oauth_alone(monkeypatch, caplog):
    monkeypatch.setenv("OAUTH_CLIENT_ID", "x")
    assert not readers.offers_sign_in()
    monkeypatch.setattr(readers, "get_space", lambda: "ann/second-read")
    assert readers.offers_sign_in()
    monkeypatch.setattr(readers, "_NEEDED", ("no_such_package",))
    assert not readers.offers_sign_in()
    assert "no_such_package is not installed" in caplog.text
    monkeypatch.delenv("OAUTH_CLIENT_ID")
    assert not readers.offers_sign_in()


def test_a_space_knows_its_readers_by_their_accounts_of_the_hub(untrained, tmp_path, monkeypatch):
    for name in ("OAUTH_CLIENT_ID", "OAUTH_CLIENT_SECRET", "OAUTH_SCOPES", "OPENID_PROVIDER_URL"):
        monkeypatch.setenv(name, "https://127.0.0.1:9")
        monkeypatch.setattr(gr.oauth, name, "https://127.0.0.1:9")
    for module in (readers, gr.oauth):
        monkeypatch.setattr(module, "get_space", lambda: "ann/second-read")
    monkeypatch.setattr(panels, "load_tasks", lambda: {"phantom": untrained})
    app = build_app(tmp_path / "flags", "phantom")
    _, url, _ = app.launch(prevent_thread_lock=True, quiet=True, server_name="127.0.0.1", **launch_options())
    try:
        file = tmp_path / "image.png"
        file.write_bytes(encode_png(from_pixels(phantom.draw_phantom("Normal", 1, 64).pixels)))
        assert save(url, file, {}) == "typed (not signed in)"
        assert save(url, file, cookie("bob", "https://127.0.0.1:9")) == "bob"
        assert save(url, file, cookie("bob", "forged")) == "typed (not signed in)"
        flag_id = app.room.history.find("phantom", read_image(file).sha256)[1].flag_id
        posing = Client(url, verbose=False)
        posing.session_hash = "bob"  # a client without a log-in names its session as it likes
        with pytest.raises(AppError, match="by the reader who saved it"):
            posing.predict(flag_id, api_name="/withdraw")
    finally:
        app.close()


def cookie(name, secret):
    key = hashlib.sha256(f"{secret}-v4".encode()).hexdigest()
    content = base64.b64encode(json.dumps(signed_in(name)).encode())
    return {"Cookie": f"session={TimestampSigner(key).sign(content).decode()}"}


def save(url, file, headers):
    """Saves a flag as "typed"; returns the name that it was signed with."""
    client = Client(url, headers=headers, verbose=False)
    reading = client.predict(handle_file(file), "phantom", api_name="/read")
    record = {"task": "phantom", "image_sha256": reading["image"]["sha256"], "corrected_label": "Nodule"}
    flag_id = client.predict({**record, "reader": "typed"}, api_name="/flag")
    rows = client.predict(api_name="/flags").splitlines()
    row = next(row for row in rows if flag_id in row)
    return next(name for name in ("typed", "typed (not signed in)", "bob") if f",{name}," in row)
