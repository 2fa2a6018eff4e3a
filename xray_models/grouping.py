"""Groups: what must not be split between train and test. Patients, and near-copies, mirrored ones too.

Near-copies are found by a 256-bit difference hash (Krawetz, 2013) and confirmed by the correlation of 64x64
thumbnails. Hashes are compared as +-1 vectors in blocks of a matrix product, so 20,000 images take seconds.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

HASH_DISTANCE = 12  # bits of 256 in which the hashes of near-copies may differ
CORRELATION = 0.97  # Pearson correlation that the thumbnails of near-copies reach
_BLOCK = 2048


def find_near_copies(thumbnails: np.ndarray) -> np.ndarray:
    """Finds pairs of images that show the same picture, as it is or mirrored left to right.

    Args:
        thumbnails: (N, 64, 64) uint8.

    Returns:
        (P, 2) int64 pairs of indices, the first below the second.
    """
    if len(thumbnails) == 0:
        return np.empty((0, 2), np.int64)
    plain, mirrored = _hash(thumbnails), _hash(thumbnails[:, :, ::-1])
    flat = _standardise(thumbnails)
    flipped = _standardise(thumbnails[:, :, ::-1])
    found = []
    for start in range(0, len(plain), _BLOCK):
        block = plain[start : start + _BLOCK]
        for hashes, pictures in ((plain, flat), (mirrored, flipped)):
            distance = (block.shape[1] - block @ hashes[start:].T) / 2  # rows start.., columns start..
            row, column = np.nonzero(distance <= HASH_DISTANCE)
            row, column = row + start, column + start
            keep = row < column
            row, column = row[keep], column[keep]
            close = np.einsum("ij,ij->i", flat[row], pictures[column]) >= CORRELATION
            found.append(np.stack([row[close], column[close]], axis=1))
    return np.unique(np.concatenate(found), axis=0)


def join_groups(count: int, pairs: np.ndarray, patients: Sequence[str]) -> np.ndarray:
    """Joins images that are near-copies of each other or show the same patient.

    Args:
        count: number of images.
        pairs: (P, 2) indices of near-copies.
        patients: patient id of each image; "" where it is not known.

    Returns:
        (count,) int64 group numbers from 0.
    """
    first: dict[str, int] = {}
    same = [(first.setdefault(patient, index), index) for index, patient in enumerate(patients) if patient]
    links = np.concatenate([np.asarray(pairs, np.int64).reshape(-1, 2), np.array(same, np.int64).reshape(-1, 2)])
    graph = coo_array((np.ones(len(links)), (links[:, 0], links[:, 1])), shape=(count, count))
    return connected_components(graph, directed=False)[1].astype(np.int64)


def split_groups(labels: Sequence[str], groups: np.ndarray, fractions: dict[str, float], seed: int) -> np.ndarray:
    """Divides images into splits, whole groups at a time, with each label in about the same proportion.

    Args:
        labels: label of each image.
        groups: (N,) group numbers.
        fractions: share of the images for each named split; the rest becomes "train".
        seed: of the order in which groups are dealt.

    Returns:
        (N,) array of split names.
    """
    label_of, groups = np.asarray(labels), np.asarray(groups)
    split = np.full(len(groups), "train", dtype=object)
    _, first, number = np.unique(groups, return_index=True, return_inverse=True)
    sizes = np.bincount(number)
    rng = np.random.default_rng(seed)
    for label in sorted(set(labels)):
        own = np.flatnonzero(label_of[first] == label)  # a group of two labels goes with its first image
        own = rng.permutation(own)
        middle = (np.cumsum(sizes[own]) - sizes[own] / 2) / max(1, sizes[own].sum())
        start = 0.0
        for name, fraction in fractions.items():
            chosen = own[(middle >= start) & (middle < start + fraction)]
            split[np.isin(number, chosen)] = name
            start += fraction
    return split


def _hash(thumbnails: np.ndarray) -> np.ndarray:
    """(N, 64, 64) uint8 -> (N, 256) float32 of +-1: is each of 16x16 cells darker than the one to its right?"""
    small = np.stack([np.asarray(Image.fromarray(t).resize((17, 16), Image.Resampling.BOX)) for t in thumbnails])
    brighter = small[:, :, 1:] > small[:, :, :-1]
    return np.where(brighter.reshape(len(small), -1), 1, -1).astype(np.float32)


def _standardise(thumbnails: np.ndarray) -> np.ndarray:
    """(N, 64, 64) -> (N, 4096) float32 of mean 0 and norm 1, so that a dot product is Pearson's correlation."""
    flat = thumbnails.reshape(len(thumbnails), -1).astype(np.float32)
    flat -= flat.mean(axis=1, keepdims=True)
    return flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-6)
