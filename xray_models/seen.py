"""Which images a model was made with, so that no evaluation takes them for new ones.

Kept beside the weights as 64-bit hashes. Those of pictures, of their pixels, tell who has a picture whether it is among
them, and nobody else anything. Those of file names are kept for published collections alone, where that is asked for:
they find the collection's copies at another resolution, but anybody can try names until one fits, and so find out which
names are among them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd

MADE_WITH = ("train", "validation")
"""Splits that a model is made with: it learns from one, and is chosen and calibrated by the other."""

PICTURES, NAMES = "seen_pictures", "seen_names"


def note_seen(rows: pd.DataFrame, named: bool = False) -> dict[str, np.ndarray]:
    """Numbers of the images that a model is made with.

    Args:
        rows: of a data set's manifest: `path`, `sha256` (of the pixels) and `split`.
        named: whether the names of files are noted, too, which anybody can guess then.

    Returns:
        `seen_pictures` and `seen_names`, sorted (N,) uint64, the latter empty unless `named`. A name of digits alone,
        or one that images of the test split bear as well, tells nothing, and is left out.
    """
    own = rows["split"].isin(MADE_WITH)
    names = rows["path"].map(_name)
    return {
        PICTURES: _sort(set(rows.loc[own, "sha256"])),
        NAMES: _sort({name for name in set(names[own]) - set(names[~own]) if named and not name.isdigit()}),
    }


def find_seen(rows: pd.DataFrame, seen: Mapping[str, np.ndarray], by_picture: bool = False) -> np.ndarray:
    """(N,) bool: which images a model was made with, as `note_seen` noted them; `by_picture`: whatever their names."""
    pictures = np.isin(_number(rows["sha256"]), seen[PICTURES])
    return pictures if by_picture else pictures | np.isin(_number(rows["path"].map(_name)), seen[NAMES])


def _name(path: str) -> str:
    return Path(path).stem


def _sort(texts: Iterable[str]) -> np.ndarray:
    return np.unique(_number(texts))


def _number(texts: Iterable[str]) -> np.ndarray:
    digests = [hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=8).digest() for text in texts]
    return np.frombuffer(b"".join(digests), "<u8").astype(np.uint64)
