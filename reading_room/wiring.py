"""What the pages' events have in common: how they are wired, and how a text becomes a file in the browser."""

from __future__ import annotations

from typing import Any

QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
"""How the page's own events are wired: no spinner over what fills step by step, and no place in the API."""

_DOWNLOAD = """(text) => {
  if (!text) return;
  const link = document.createElement('a');
  link.href = URL.createObjectURL(new Blob([text], {type: 'TYPE'}));
  link.download = 'NAME';
  link.click();
  URL.revokeObjectURL(link.href);
}"""


def download_as(name: str, kind: str) -> str:
    """The script that saves the text it is given as a file, of this name and media type."""
    return _DOWNLOAD.replace("NAME", name).replace("TYPE", kind)
