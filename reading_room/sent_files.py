"""What assistants send for a file, in gradio's terms."""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote, urlsplit

from gradio.processing_utils import save_base64_to_cache
from gradio.utils import get_upload_folder, is_in_or_equal
from gradio_client import handle_file
from gradio_client.utils import is_http_url_like

_SERVED = "/gradio_api/file="  # begins the path under which gradio serves an upload


def settle_files(sent: Any) -> Any:
    """Turns addresses into files as gradio takes them, and those of uploads to this room into the uploads.

    Gradio's MCP server does the former for a single file, not in a list, and fetches nothing from a local address.

    Args:
        sent: what came for a `gr.File`: web addresses and `data:` addresses, or gradio's own files, which stay.

    Raises:
        ValueError: for a `data:` address that holds no file.
    """
    if isinstance(sent, list):
        return [settle_files(one) for one in sent]
    if isinstance(sent, str) and sent.startswith("data:"):
        return handle_file(save_base64_to_cache(sent, get_upload_folder()))
    if is_http_url_like(sent):
        sent = handle_file(sent)
    if isinstance(sent, dict) and is_http_url_like(sent.get("path")):
        upload = _find_upload(sent["path"])
        return {**sent, "path": upload, "url": None} if upload else sent
    return sent


def _find_upload(address: str) -> str | None:
    """The file of this room's uploads that an address names, under whatever name the room goes; None for others."""
    _, served, path = unquote(urlsplit(address).path).partition(_SERVED)
    return path if served and is_in_or_equal(path, get_upload_folder()) else None
