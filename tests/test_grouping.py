import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.ndimage import gaussian_filter

from xray_models.grouping import find_near_copies, join_groups, split_groups


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
    everything = np.concatenate([base, [brighter, resized, mirrored]])
    assert find_near_copies(everything).tolist() == [[3, 40], [7, 41], [11, 42]]


def test_copies_across_blocks_are_found(monkeypatch):
    monkeypatch.setattr("xray_models.grouping._BLOCK", 8)
    base = pictures(30)
    pairs = find_near_copies(np.concatenate([base, base[[2, 29]]]))
    assert pairs.tolist() == [[2, 30], [29, 31]]


def test_no_image_no_pair():
    assert find_near_copies(np.empty((0, 64, 64), np.uint8)).shape == (0, 2)


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


def test_splits_depend_on_the_seed_alone():
    labels, groups = ["a"] * 50 + ["b"] * 50, np.arange(100)
    first = split_groups(labels, groups, {"test": 0.3}, 1)
    assert (first == split_groups(labels, groups, {"test": 0.3}, 1)).all()
    assert (first != split_groups(labels, groups, {"test": 0.3}, 2)).any()


@pytest.mark.data
def test_no_known_near_copy_lies_across_the_splits(published):
    import pandas as pd

    from xray_models import datasets
    from xray_models.tasks import load_task

    rows = datasets.open_dataset(load_task("covid"), published / "covid").rows
    answers = pd.read_csv(published / "covid" / "manifest.csv")
    answers["path"] = [str((published / "covid" / path).resolve()) for path in answers["path"]]
    both = rows.merge(answers, on="path", validate="one_to_one")
    assert len(both) == len(rows)
    assert (both.groupby("near_dup_cluster")["split"].nunique() == 1).all()
