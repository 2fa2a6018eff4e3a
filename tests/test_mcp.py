"""The API as MCP tools, asked by the protocol's own client."""

import asyncio
import base64
from urllib.parse import quote

import httpx
import pytest
import safehttpx

from reading_room import panels
from reading_room.app import build_app, launch_options
from reading_room.scratch import make_folder
from reading_room.uploads import forget
from xray_models.images import encode_png

mcp = pytest.importorskip("mcp", reason="the extra for MCP is not installed: requirements-mcp.txt")


@pytest.fixture(scope="module")
def uploads(tmp_path_factory):
    """Where gradio puts what is sent."""
    from gradio import mcp

    folder = make_folder("uploads", str(tmp_path_factory.mktemp("uploads")))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADIO_TEMP_DIR", str(folder))
        patch.setattr(mcp, "DEFAULT_TEMP_DIR", str(folder))  # as it was when gradio was imported
        yield folder


@pytest.fixture(scope="module")
def app(untrained, tmp_path_factory, uploads):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(panels, "load_tasks", lambda: {"phantom": untrained})
        app = build_app(tmp_path_factory.mktemp("ledger"), "phantom")
    app.launch(prevent_thread_lock=True, quiet=True, server_name="127.0.0.1", mcp_server=True, **launch_options())
    yield app
    app.close()


@pytest.fixture(scope="module")
def address(app):
    return f"{app.local_url}gradio_api/mcp/"


@pytest.fixture
def data_uri(image):
    return f"data:image/png;base64,{base64.b64encode(encode_png(image)).decode()}"


def ask(address, *call):
    """The names of the tools, and the answer to one call."""
    from mcp.client.streamable_http import streamablehttp_client

    async def go():
        async with streamablehttp_client(address) as (read, write, _), mcp.ClientSession(read, write) as session:
            await session.initialize()
            tools = (await session.list_tools()).tools
            return {tool.name for tool in tools}, await session.call_tool(*call)

    return asyncio.run(go())


def test_every_public_action_is_a_tool_and_nothing_of_the_page_is(address, untrained):
    tools, answer = ask(address, "tasks", {})
    assert (
        {"tasks", "read", "explain", "rank", "flag", "flags"}
        <= tools
        <= {
            *("tasks", "read", "explain", "rank", "flag", "flags", "withdraw"),
            *("upload_file_to_gradio",),  # gradio's own
        }
    )
    assert not answer.isError
    assert all(label in answer.content[0].text for label in untrained.labels)


def test_files_are_ranked(address, data_uri, image):
    _, answer = ask(address, "rank", {"files": [data_uri], "task": "phantom"})
    assert not answer.isError, answer.content[0].text
    assert image.sha256 in answer.content[0].text


def test_the_address_of_an_upload_is_the_upload(app, address, image):
    sent = httpx.post(f"{app.local_url}gradio_api/upload", files={"files": ("DOE JANE.png", encode_png(image))})
    file = f"{app.local_url}gradio_api/file={quote(sent.json()[0])}"
    for tool, named in (("read", {"file": file}), ("rank", {"files": [file]})):
        _, answer = ask(address, tool, {**named, "task": "phantom"})
        assert not answer.isError, answer.content[0].text
        assert image.sha256 in answer.content[0].text


@pytest.mark.parametrize("path", ["", "gradio_api/file=/etc/passwd", "gradio_api/file={uploads}/../x"])
def test_another_local_address_is_refused_in_words(app, address, uploads, monkeypatch, capfd, path):
    async def know_none(_):
        return []

    monkeypatch.setattr(safehttpx, "async_resolve_hostname_google", know_none)
    _, answer = ask(address, "read", {"file": app.local_url + path.format(uploads=uploads), "task": "phantom"})
    assert answer.isError
    assert "The room cannot fetch this file" in answer.content[0].text
    assert "Traceback" not in capfd.readouterr().err


def test_what_is_no_file_in_a_list_is_refused_in_words(address):
    for sent in ("/etc/passwd", "data:image/png;base64,A"):
        _, answer = ask(address, "rank", {"files": [sent], "task": "phantom"})
        assert answer.isError
        assert "This is not a file" in answer.content[0].text


def test_what_is_wrong_reaches_the_caller(address):
    record = {"task": "phantom", "image_sha256": "none", "reader": "ann", "corrected_label": "Nodule"}
    _, answer = ask(address, "flag", {"record": record})
    assert answer.isError
    assert "is not at hand" in answer.content[0].text


def test_an_image_sent_as_data_is_read_and_goes_after_minutes(app, address, uploads, data_uri, image):
    _, answer = ask(address, "read", {"file": data_uri, "task": "phantom"})
    assert not answer.isError
    assert image.sha256 in answer.content[0].text
    assert list(uploads.rglob("*.png"))
    forget(app, 0.0)
    assert not [path for path in uploads.rglob("*") if path.is_file()]
