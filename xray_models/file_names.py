"""Names of files, which may be a patient's: only a keyed hash of one is ever kept."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import hmac
import logging
import os
import secrets
from pathlib import Path

_log = logging.getLogger(__name__)


def hash_name(name: str) -> str:
    """Hashes a file's name with a key that stays on this machine.

    The key is made once, in `$XDG_CONFIG_HOME/second-read/name.key` (default below `~/.config`). Where that cannot be
    written or read, a key of this process takes its place.
    """
    path = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "second-read" / "name.key"
    try:
        key = _read_key(path)
    except OSError as error:
        key = _make_spare(path, error.strerror)
    return "name-" + hmac.new(key, name.encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()[:16]


def _read_key(path: Path) -> bytes:
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
        draft.touch(mode=0o600)
        draft.write_bytes(secrets.token_bytes(32))
        with contextlib.suppress(FileExistsError):  # another process was first: its key counts
            os.link(draft, path)
        draft.unlink()
    return path.read_bytes()


@functools.cache
def _make_spare(path: Path, reason: str | None) -> bytes:
    _log.warning(
        "%s cannot be used (%s): hashes of file names compare within this process alone. "
        "Let XDG_CONFIG_HOME name a folder that can be written to.",
        path,
        reason,
    )
    return secrets.token_bytes(32)
