"""Images as cached uint8 arrays: every file is decoded once for each geometry, and read from the cache after that."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import os
import shutil
import tempfile
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from xray_models.images import ImageError, InputSpec, UnopenedImage, read_image, to_uint8
from xray_models.layouts import DataError

_FORMAT = 2  # of the cached arrays; raise it when their making changes


@dataclasses.dataclass(frozen=True)
class Arrays:
    """Decoded images.

    Attributes:
        pixels: (N, H, W) uint8, a read-only memory map; rows of unreadable files are zero.
        sha256: (N,) names of the pictures; "" where a file could not be read and resized.
        faults: (N,) reason why a file could not; "" where it could.
    """

    pixels: np.ndarray
    sha256: Sequence[str]
    faults: Sequence[str]


def cache_folder() -> Path:
    """Where decoded arrays and phantoms are kept: `$XDG_CACHE_HOME/second-read`, or below `~/.cache`."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "second-read"


def load_arrays(paths: Iterable[str], spec: InputSpec) -> Arrays:
    """Decodes images to the geometry of a model's input, once; later calls read the cache.

    Args:
        paths: N image files.
        spec: height, width, fit and resampling of the arrays.

    Returns:
        The arrays, in the order of the paths.

    Raises:
        DataError: when the cache has no room for them.
    """
    paths = list(paths)
    folder = cache_folder() / "arrays" / _cache_key(paths, spec)
    if not folder.is_dir():
        _decode(paths, spec, folder)
    index = json.loads((folder / "index.json").read_text(encoding="utf-8"))
    if any(_opens(paths[place]) for place in index["unopened"]):  # what kept it shut has passed
        shutil.rmtree(folder)
        _decode(paths, spec, folder)
        index = json.loads((folder / "index.json").read_text(encoding="utf-8"))
    return Arrays(np.load(folder / "pixels.npy", mmap_mode="r"), index["sha256"], index["faults"])


def _cache_key(paths: list[str], spec: InputSpec) -> str:
    stats = [(path, *_stamp(path)) for path in paths]
    geometry = [_FORMAT, spec.height, spec.width, spec.fit, spec.crop, spec.resample, spec.corner]
    return hashlib.sha256(json.dumps([geometry, stats]).encode()).hexdigest()[:32]


def _stamp(path: str) -> tuple[int, int]:
    """Size and time of a file; (-1, 0) for one that is not there, such as a broken link."""
    try:
        stat = Path(path).stat()
    except OSError:
        return -1, 0
    return stat.st_size, stat.st_mtime_ns


def _opens(path: str) -> bool:
    """Whether a file can be read now."""
    try:
        with Path(path).open("rb") as file:
            while file.read(1 << 20):
                pass
    except OSError:
        return False
    return True


def _is_special(path: str) -> bool:
    """Whether a path is there and is no file: to read a pipe would wait for whoever fills it, for ever."""
    return Path(path).exists() and not Path(path).is_file()


def _decode(paths: list[str], spec: InputSpec, folder: Path) -> None:
    """Decodes into a folder beside `folder`, then renames it: a cache is whole or absent."""
    shape = (len(paths), spec.height, spec.width)
    draft = None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(dir=folder.parent))
        pixels = _allocate(draft / "pixels.npy", shape)
        index = _fill(pixels, paths, spec)
        (draft / "index.json").write_text(json.dumps(index), encoding="utf-8")
        draft.rename(folder)
    except OSError as error:
        if not folder.is_dir():  # else another process was first
            raise DataError(
                f"The decoded images need {math.prod(shape):,} bytes in {folder.parent}, which refuses: "
                f"{error.strerror or error}. Make room there, or name another folder in XDG_CACHE_HOME."
            ) from error
    finally:
        if draft:
            shutil.rmtree(draft, ignore_errors=True)


def _allocate(file: Path, shape: tuple[int, int, int]) -> np.memmap:
    """A memory map whose blocks are on the disk: to write where there are none would end the process."""
    pixels = np.lib.format.open_memmap(file, mode="w+", dtype=np.uint8, shape=shape)
    if hasattr(os, "posix_fallocate"):  # not on every system
        with file.open("r+b") as opened:
            os.posix_fallocate(opened.fileno(), 0, file.stat().st_size)
    return pixels


def _fill(pixels: np.memmap, paths: list[str], spec: InputSpec) -> dict[str, list[Any]]:
    """Decodes into `pixels`; returns the pictures' names, the faults, and the places of files that did not open."""
    unopened: list[int] = []

    def decode(index: int) -> tuple[str, str]:
        if _is_special(paths[index]):
            return "", "It is no file, but a pipe, socket or device. Take it out of the folder."
        try:
            radiograph = read_image(paths[index])
            pixels[index] = to_uint8(radiograph, spec)
        except UnopenedImage as error:
            unopened.append(index)
            return "", str(error)
        except ImageError as error:
            return "", str(error)
        return radiograph.sha256, ""

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        try:
            decoded = pool.map(decode, range(len(paths)))
            done = list(tqdm(decoded, "decoding", len(paths), unit="image", disable=None))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)  # who stops the process waits for no other image
            raise
    pixels.flush()
    return {"sha256": [name for name, _ in done], "faults": [fault for _, fault in done], "unopened": unopened}
