"""What assistants send for a file, in gradio's terms."""

from __future__ import annotations

from typing import Any

from gradio.processing_utils import save_base64_to_cache
from gradio.utils import get_upload_folder
from gradio_client import handle_file
from gradio_client.utils import is_http_url_like


def settle_files(sent: Any) -> Any:
    """Turns addresses into files as gradio takes them; its MCP server does that for a single file, not in a list.

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
        return handle_file(sent)
    return sent
