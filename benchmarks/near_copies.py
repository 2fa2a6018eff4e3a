"""How fast near-copies are found, and how many: `python -m benchmarks.near_copies [--count N ...] [--answers]`.

Speed: images per second of processor time (other work on the machine does not count), on synthetic pictures that
share a structure, as radiographs of one view do, with copies planted among them; against comparing all hashes with
all. Answers: near-copies in the data below $XRAY_DATA against a `manifest.csv` that knows them.
"""

from __future__ import annotations

import sys

if __name__ == "__main__":  # answers --help before what follows is imported
    from benchmarks.commands import near_copies

    sys.exit(near_copies())

import argparse
import importlib.util
import os
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from PIL import Image
from scipy.ndimage import gaussian_filter

from xray_models import arrays, phantom
from xray_models.datasets import data_folder, open_dataset
from xray_models.grouping import HASH_DISTANCE, find_alike, find_near_copies, hash_pictures, join_groups
from xray_models.images import InputSpec
from xray_models.layouts import DataError, name_below
from xray_models.tasks import load_task

TASKS = ("covid", "brain", "fracture", "pneumonia")
THUMBNAIL = InputSpec(height=64, width=64, resample="bilinear")


class Answers(NamedTuple):
    """How near-copies that were found compare with those that are known.

    Attributes:
        known: pairs in one `near_dup_cluster`.
        found: pairs of near-copies found upright, and mirrored where mirrored pairs are known.
        recall: share of the known pairs that lie in one cluster of ours.
        precision: share of the found pairs that are known, or in one known group (looser near-copies).
        strict: share of the found pairs that are known, the groups not counted.
        mirrored: known mirrored pairs; 0 where none are listed.
        mirrored_recall: share of them that lie in one cluster of ours; NaN where none are listed.
    """

    known: int
    found: int
    recall: float
    precision: float
    strict: float
    mirrored: int
    mirrored_recall: float


def judge(name: str, folder: Path) -> Answers:
    """Compares the near-copies of a task's data with its `manifest.csv` and, if there is one, `near_duplicates.csv`.

    Raises:
        DataError: when the data come without a `manifest.csv` that says what is known.
    """
    if not (folder / "manifest.csv").is_file():
        raise DataError(
            f"There is no manifest.csv in {folder} that says which images are near-copies (columns path, group and "
            "near_dup_cluster). Leave --answers out, or put one there."
        )
    manifest = open_dataset(load_task(name), folder)
    place = {name_below(path, folder): index for index, path in enumerate(manifest.rows["path"])}
    book = pd.read_csv(folder / "manifest.csv")
    book = book[book["path"].isin(list(place))].set_index("path").loc[list(place)]
    cluster, group = book["near_dup_cluster"].to_numpy(), book["group"].astype(str).to_numpy()
    known = list_pairs(cluster)
    listed = folder / "near_duplicates.csv"
    mirrored = np.empty((0, 2), np.int64)
    if listed.is_file():
        table = pd.read_csv(listed)
        table = table[(table["kind"] == "mirrored") & table["a"].isin(list(place)) & table["b"].isin(list(place))]
        mirrored = np.sort(np.stack([table[side].map(place) for side in "ab"], axis=1), axis=1)
    pairs = manifest.copies.pairs[~manifest.copies.mirrored | bool(len(mirrored))]
    ours = join_groups(len(place), manifest.copies.pairs, [""] * len(place))
    a, b = pairs.T
    certain = (cluster[a] == cluster[b]) | np.isin(a * len(place) + b, mirrored @ (len(place), 1))
    return Answers(
        len(known),
        len(pairs),
        np.mean(ours[known[:, 0]] == ours[known[:, 1]]),
        np.mean(certain | (group[a] == group[b])),
        np.mean(certain),
        len(mirrored),
        np.mean(ours[mirrored[:, 0]] == ours[mirrored[:, 1]]) if len(mirrored) else np.nan,
    )


def list_pairs(clusters: np.ndarray) -> np.ndarray:
    """(N,) cluster of each image -> (P, 2) all pairs of images in one cluster."""
    counts = pd.Series(clusters).value_counts()
    members = [np.flatnonzero(clusters == cluster) for cluster in counts.index[counts > 1]]
    return np.concatenate([np.stack([own[side] for side in np.triu_indices(len(own), 1)], axis=1) for own in members])


def compare_all(left: np.ndarray, right: np.ndarray, block: int = 2048) -> np.ndarray:
    """What `grouping.find_alike` does, by comparing all with all: +-1 vectors in blocks of a matrix product."""
    first, second = (np.where(side, 1, -1).astype(np.float32) for side in (left, right))
    found = []
    for start in range(0, len(first), block):
        distance = (first.shape[1] - first[start : start + block] @ second.T) / 2
        row, column = np.nonzero(distance <= HASH_DISTANCE)
        row += start
        found.append(np.stack([row, column], axis=1)[row < column])
    return np.concatenate(found)


def draw_thumbnails(count: int, seed: int = 0) -> np.ndarray:
    """(count, 64, 64) uint8 of one anatomy; each twentieth copies the one before, every other copy mirrored."""
    rng = np.random.default_rng(seed)
    base = np.asarray(Image.fromarray(phantom.draw_phantom("Normal", 0, 128).pixels).resize((64, 64)), np.float32)
    own = gaussian_filter(rng.normal(size=(count, 64, 64)).astype(np.float32), (0, 4, 4))
    pictures = np.clip(base + own * (25 / own.std()), 0, 255)
    copies = np.arange(19, count, 20)
    pictures[copies] = np.clip(pictures[copies - 1] * 0.95 + 4, 0, 255)
    pictures[copies[::2]] = pictures[copies[::2], :, ::-1]
    return pictures.astype(np.uint8)


def time_search(count: int) -> None:
    """Prints images per second for one number of images, and whether every planted copy was found."""
    thumbnails = draw_thumbnails(count)
    started = time.process_time()
    pairs = find_near_copies(thumbnails).pairs
    seconds = time.process_time() - started
    planted = np.stack([np.arange(18, count - 1, 20), np.arange(19, count, 20)], axis=1)
    hit = np.isin(planted @ (count, 1), pairs @ (count, 1))
    found = f"{hit.mean():.1%} of {len(planted)} planted copies found" if len(hit) else "no copy planted in so few"
    print(f"{count:6} images: {count / seconds:8.0f} images/s, {found}")
    hashes = hash_pictures(thumbnails)
    for name, search in (("shared parts", find_alike), ("all with all", compare_all)):
        started = time.process_time()
        alike = search(hashes, hashes)
        print(f"       hashes, {name}: {time.process_time() - started:7.2f} s, {len(alike)} pairs")


def time_decoding(count: int = 500, side: int = 299) -> None:
    """Prints images per second with decoding, from PNG files of the size that the COVID-19 database has."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_CACHE_HOME"] = folder
        for index, thumbnail in enumerate(draw_thumbnails(count)):
            Image.fromarray(thumbnail).resize((side, side)).save(Path(folder) / f"{index:05d}.png")
        paths = [str(path) for path in sorted(Path(folder).glob("*.png"))]
        started = time.process_time()
        find_near_copies(np.asarray(arrays.load_arrays(paths, THUMBNAIL).pixels))
        seconds = time.process_time() - started
    print(f"{count:6} images of {side} x {side} px with decoding: {count / seconds:.0f} images/s")


def time_imagehash(count: int = 2000) -> None:
    """Prints images per second of the package ImageHash, all with all, where it is installed."""
    if importlib.util.find_spec("imagehash") is None:
        print("       ImageHash is not installed: not compared")
        return
    import imagehash

    pictures = [Image.fromarray(thumbnail) for thumbnail in draw_thumbnails(count)]
    started = time.process_time()
    hashes = [imagehash.dhash(picture, hash_size=16) for picture in pictures]
    pairs = sum(first - second <= HASH_DISTANCE for i, first in enumerate(hashes) for second in hashes[i + 1 :])
    print(f"{count:6} images: {count / (time.process_time() - started):8.0f} images/s with ImageHash, {pairs} pairs")


def run(options: argparse.Namespace) -> None:
    """Prints the speed, or the answers."""
    if not options.answers:
        for count in options.count:
            time_search(count)
        time_decoding()
        time_imagehash()
        return
    print("task        known  recall   found  precision  strict  mirrored  recall")
    for name in TASKS:
        found = judge(name, data_folder(load_task(name)))
        print(
            f"{name:10} {found.known:6} {found.recall:7.3f} {found.found:7} {found.precision:10.3f} "
            f"{found.strict:7.3f} {found.mirrored:9} {found.mirrored_recall:7.3f}"
        )
