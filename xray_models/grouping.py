"""Groups: what must not be split between train and test. Patients, and near-copies, mirrored ones too.

Near-copies are found by a 256-bit difference hash (Krawetz, 2013) and confirmed by the correlation of 64x64
thumbnails. Hashes are not compared all with all. Cut into 15 parts, two hashes that differ in at most 14 bits have
at least one part in common (pigeonhole principle; multi-index hashing: Norouzi et al., CVPR 2012). So only images
that share a part are compared, and nothing is missed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

HASH_DISTANCE = 14  # bits of 256 in which the hashes of near-copies may differ
CORRELATION = 0.97  # Pearson correlation that the thumbnails of near-copies reach
_CHUNK = 2**20  # candidates compared at once


class NearCopies(NamedTuple):
    """Images that show the same picture.

    Attributes:
        pairs: (P, 2) int64 indices of images, the first below the second, in order.
        mirrored: (P,) bool, whether the two are alike only after one is mirrored left to right.
    """

    pairs: np.ndarray
    mirrored: np.ndarray

    def keep(self, kept: np.ndarray) -> NearCopies:
        """The pairs among some of the images, (N,) bool, by their places among these."""
        whole = kept[self.pairs].all(axis=1)
        return NearCopies((np.cumsum(kept) - 1)[self.pairs[whole]], self.mirrored[whole])


NO_COPIES = NearCopies(np.empty((0, 2), np.int64), np.empty(0, bool))


def find_near_copies(thumbnails: np.ndarray) -> NearCopies:
    """Finds pairs of images that show the same picture, as it is or mirrored left to right.

    A blank picture is nobody's copy.

    Args:
        thumbnails: (N, 64, 64) uint8.

    Returns:
        The pairs.
    """
    shown = np.flatnonzero(thumbnails.min(axis=(1, 2), initial=255) < thumbnails.max(axis=(1, 2), initial=0))
    if len(shown) < 2:
        return NO_COPIES
    pictures = thumbnails[shown]
    plain, mirrored = hash_pictures(pictures), hash_pictures(pictures[:, :, ::-1])
    upright = _confirm(pictures, find_alike(plain, plain), mirror=False)
    turned = _confirm(pictures, find_alike(plain, mirrored), mirror=True)
    pairs, first = np.unique(np.concatenate([upright, turned]), axis=0, return_index=True)
    return NearCopies(shown[pairs], first >= len(upright))


def hash_pictures(thumbnails: np.ndarray) -> np.ndarray:
    """Difference hash: is each of 16x16 cells darker than the one to its right?

    Args:
        thumbnails: (N, 64, 64) uint8, N > 0.

    Returns:
        (N, 256) bool.
    """
    small = np.stack([np.asarray(Image.fromarray(t).resize((17, 16), Image.Resampling.BOX)) for t in thumbnails])
    return (small[:, :, 1:] > small[:, :, :-1]).reshape(len(small), -1)


def find_alike(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Finds i < j for which hashes `left[i]` and `right[j]` differ in at most `HASH_DISTANCE` bits.

    Args:
        left: (N, 256) bool.
        right: (N, 256) bool.

    Returns:
        (P, 2) int64 pairs, in order.
    """
    left_words, right_words = _pack(left), _pack(right)
    found = [np.empty((0, 2), np.int64)]
    for part in _deal_bits(left):
        value = 1 << np.arange(len(part))
        for pairs in _join(left[:, part] @ value, right[:, part] @ value):
            differing = left_words[pairs[:, 0]] ^ right_words[pairs[:, 1]]
            found.append(pairs[np.bitwise_count(differing).sum(axis=1) <= HASH_DISTANCE])
    return np.unique(np.concatenate(found), axis=0)


def _pack(hashes: np.ndarray) -> np.ndarray:
    """(N, 256) bool -> (N, 4) uint64."""
    return np.packbits(hashes, axis=1).view(np.uint64)


def _deal_bits(hashes: np.ndarray) -> list[np.ndarray]:
    """Deals the bits into one part more than may differ, so that every part has its share of telling bits.

    Bits that are the same in nearly all images (dark borders) would otherwise fill whole parts, and every image
    would share them.
    """
    parts = HASH_DISTANCE + 1
    telling_first = np.argsort(np.abs(hashes.mean(axis=0) - 0.5), kind="stable")
    return [telling_first[start::parts] for start in range(parts)]


def _join(left: np.ndarray, right: np.ndarray) -> Iterator[np.ndarray]:
    """Yields all i < j with `left[i] == right[j]`, (M, 2) a chunk; `left` and `right` are (N,) ints >= 0."""
    count = len(left)
    order = np.argsort(right, kind="stable")
    place = right[order] * count + order  # sorted by value, then by j
    start = np.searchsorted(place, left * count + np.arange(count), side="right")
    stop = np.searchsorted(place, (left + 1) * count)
    partners = np.maximum(stop - start, 0)
    ends = np.cumsum(partners)
    edges = np.searchsorted(ends, np.arange(_CHUNK, ends[-1], _CHUNK)) + 1
    for rows in np.split(np.arange(count), edges):
        own = partners[rows]
        offset = np.arange(own.sum()) - np.repeat(np.cumsum(own) - own, own)
        yield np.stack([np.repeat(rows, own), order[np.repeat(start[rows], own) + offset]], axis=1)


def _confirm(thumbnails: np.ndarray, pairs: np.ndarray, mirror: bool) -> np.ndarray:
    """Keeps the pairs whose pictures correlate, the second one mirrored if asked."""
    if len(pairs) == 0:
        return pairs
    used, place = np.unique(pairs, return_inverse=True)
    place = place.reshape(-1, 2)
    pictures = thumbnails[used]
    first = _standardise(pictures)
    second = _standardise(pictures[:, :, ::-1]) if mirror else first
    chunks = np.split(place, np.arange(1024, len(place), 1024))
    correlation = np.concatenate([np.einsum("ij,ij->i", first[c[:, 0]], second[c[:, 1]]) for c in chunks])
    return pairs[correlation >= CORRELATION]


def _standardise(thumbnails: np.ndarray) -> np.ndarray:
    """(N, 64, 64) -> (N, 4096) float32 of mean 0 and norm 1, so that a dot product is Pearson's correlation."""
    flat = thumbnails.reshape(len(thumbnails), -1).astype(np.float32)
    flat -= flat.mean(axis=1, keepdims=True)
    return flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-6)


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
