"""What tells one training of a model from another, where no commit does."""

from __future__ import annotations

import hashlib
from pathlib import Path


def hash_weights(folder: Path) -> str:
    """The first 12 digits of the sha256 of a model's weights: its revision, where it has no commit."""
    with (folder / "model.safetensors").open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:12]
