"""The API as MCP tools, asked by the protocol's own client."""

import asyncio

import pytest

from reading_room import panels
from reading_room.app import build_app, launch_options

mcp = pytest.importorskip("mcp", reason="the extra for MCP is not installed: requirements-mcp.txt")


@pytest.fixture(scope="module")
def address(untrained, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(panels, "load_tasks", lambda: {"phantom": untrained})
        app = build_app(tmp_path_factory.mktemp("ledger"), "phantom")
    _, url, _ = app.launch(
        prevent_thread_lock=True, quiet=True, server_name="127.0.0.1", mcp_server=True, **launch_options()
    )
    yield f"{url}gradio_api/mcp/"
    app.close()


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


def test_what_is_wrong_reaches_the_caller(address):
    record = {"task": "phantom", "image_sha256": "none", "reader": "ann", "corrected_label": "Nodule"}
    _, answer = ask(address, "flag", {"record": record})
    assert answer.isError
    assert "is not at hand" in answer.content[0].text
