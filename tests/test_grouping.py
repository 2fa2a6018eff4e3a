import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.ndimage import gaussian_filter

from benchmarks.near_copies import TASKS, compare_all, judge
from xray_models.grouping import NearCopies, find_alike, find_near_copies, hash_pictures, join_groups, split_groups


def pictures(count, seed=0):
    noise = np.random.default_rng(seed).normal(size=(count, 64, 64))
    smooth = np.stack([gaussian_filter(picture, 5) for picture in noise])
    smooth = (smooth - smooth.min()) / np.ptp(smooth)
    return (smooth * 255).astype(np.uint8)


def test_finds_copies_and_mirrored_copies_and_nothing_else():
    base = pictures(40)
    brighter = np.clip(base[3].astype(int) + 12, 0, 255).astype(np.uint8)
    resized = np.asarray(Image.fromarray(base[7]).resize((50, 50)).resize((64, 64)))
    mirrored = base[11][:, ::-1]
    found = find_near_copies(np.concatenate([base, [brighter, resized, mirrored]]))
    assert found.pairs.tolist() == [[3, 40], [7, 41], [11, 42]]
    assert found.mirrored.tolist() == [False, False, True]


def test_a_symmetric_picture_and_its_copy_are_not_called_mirrored():
    half = pictures(1)[0][:, :32]
    whole = np.concatenate([half, half[:, ::-1]], axis=1)
    assert find_near_copies(np.stack([whole, whole])).mirrored.tolist() == [False]


@pytest.mark.parametrize("chunk", [2**20, 7])
def test_shared_parts_miss_no_pair(monkeypatch, chunk):
    monkeypatch.setattr("xray_models.grouping._CHUNK", chunk)
    rng = np.random.default_rng(0)
    likely = rng.uniform(0, 1, 256) ** 4  # most bits are nearly always the same, as in dark borders
    seeds = rng.random((30, 256)) < likely
    hashes = np.repeat(seeds, 10, axis=0) ^ (rng.random((300, 256)) < rng.choice([0.01, 0.04, 0.05], (300, 1)))
    for right in (hashes, hashes[rng.permutation(300)]):
        expected = compare_all(hashes, right)
        assert len(expected) > 50
        assert find_alike(hashes, right).tolist() == sorted(expected.tolist())


def test_hashes_are_compared_up_to_fourteen_bits():
    hashes = np.random.default_rng(0).random((1, 256)) < 0.5
    for bits, pairs in ((14, [[0, 1]]), (15, [])):
        other = hashes.copy()
        other[0, np.linspace(0, 255, bits).astype(int)] ^= True
        both = np.concatenate([hashes, other])
        assert find_alike(both, both).tolist() == pairs


def test_the_hash_tells_where_it_gets_brighter():
    ramp = np.tile(np.linspace(0, 255, 64).astype(np.uint8), (1, 64, 1))
    assert hash_pictures(ramp).all()
    assert not hash_pictures(ramp[:, :, ::-1]).any()
    assert not hash_pictures(np.full((1, 64, 64), 7, np.uint8)).any()  # nowhere


@pytest.mark.parametrize("thumbnails", [np.empty((0, 64, 64), np.uint8), np.zeros((5, 64, 64), np.uint8)])
def test_no_picture_no_pair(thumbnails):
    found = find_near_copies(thumbnails)
    assert (found.pairs.shape, found.mirrored.shape) == ((0, 2), (0,))


def test_groups_join_copies_and_patients():
    groups = join_groups(6, np.array([[0, 1], [1, 2]]), ["", "", "p1", "p1", "", "p2"])
    assert len(set(groups[:4])) == 1
    assert len(set(groups)) == 3


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10_000), st.integers(60, 300))
def test_splits_keep_groups_whole_and_labels_in_proportion(seed, count):
    rng = np.random.default_rng(seed)
    groups = rng.integers(0, count // 2, count)
    labels = np.array(["a", "b"])[groups % 2]  # a group has one label
    split = split_groups(labels, groups, {"test": 0.2, "validation": 0.2}, seed)
    for group in set(groups):
        assert len(set(split[groups == group])) == 1
    for label in ("a", "b"):
        share = (split[labels == label] == "test").mean()
        largest = np.bincount(groups[labels == label]).max() / (labels == label).sum()
        assert abs(share - 0.2) <= largest + 1e-9


@pytest.mark.parametrize(("share", "groups"), [(0.24, 2), (0.26, 3), (0.34, 3), (0.36, 4)])
def test_a_group_belongs_to_the_split_in_which_its_middle_lies(share, groups):
    """Ten groups of two images: so the share is met as closely as whole groups can."""
    split = split_groups(["a"] * 20, np.arange(20) // 2, {"test": share, "validation": 0.2}, 0)
    assert (split == "test").sum() == 2 * groups
    assert (split == "validation").sum() == 4


def test_splits_depend_on_the_seed_alone():
    labels, groups = ["a"] * 50 + ["b"] * 50, np.arange(100)
    first = split_groups(labels, groups, {"test": 0.3}, 1)
    assert (first == split_groups(labels, groups, {"test": 0.3}, 1)).all()
    assert (first != split_groups(labels, groups, {"test": 0.3}, 2)).any()


@pytest.mark.data
@pytest.mark.parametrize("task", TASKS)
def test_known_near_copies_are_found(published, task):
    folder = published / task
    if not (folder / "manifest.csv").is_file():
        pytest.skip(f"the published data have no list of near-copies for {task}")
    answers = judge(task, folder)
    assert answers.recall >= 0.95
    assert answers.precision >= 0.95
    if answers.mirrored:
        assert answers.mirrored_recall >= 0.95


def test_pairs_are_kept_by_the_places_of_what_is_kept():
    copies = NearCopies(np.array([[0, 2], [1, 4], [2, 5]]), np.array([True, False, False]))
    kept = copies.keep(np.array([True, False, True, True, True, True]))
    assert (kept.pairs.tolist(), kept.mirrored.tolist()) == ([[0, 1], [1, 4]], [True, False])
