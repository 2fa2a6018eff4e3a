import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from tests.test_flags import TASK, flag, load_as_data_set
from xray_models import grouping, phantom
from xray_models.flags import Ledger, read_flags
from xray_models.images import from_pixels, read_image
from xray_models.layouts import DataError
from xray_models.relabels import apply_relabels, check_ledger, settle_flags
from xray_models.rows import from_cell


def test_relabels_reach_training_but_never_the_test_images(tmp_path, image):
    shas = [image.sha256, "b" * 64]
    rows = pd.DataFrame(
        {
            "path": ["a", "b"],
            "label": "Normal",
            "official": "",
            "sha256": shas,
            "group": [0, 1],
            "split": ["train", "test"],
        }
    )
    unseen = from_pixels(np.full((40, 40), 7, np.uint8))
    rejected = from_pixels(np.full((40, 40), 9, np.uint8))
    ledger = Ledger(tmp_path)
    ledger.append(flag(image, corrected_label="Effusion"), image, TASK)
    ledger.append(flag(image, corrected_label="Nodule"), image, TASK)
    ledger.append(flag(unseen, corrected_label="Consolidation"), unseen, TASK)
    wrong = ledger.append(flag(rejected), rejected, TASK)
    ledger.append(flag(rejected, decides=wrong, status="rejected"), rejected, TASK)
    out = apply_relabels(rows, tmp_path, TASK)
    assert list(out["label"]) == ["Nodule", "Normal", "Consolidation"]
    assert list(out["split"]) == ["train", "test", "train"]
    assert Path(out["path"].iloc[2]).is_file()
    assert list(out.index) == [0, 1, 2]
    rows.loc[0, "split"] = "test"
    assert apply_relabels(rows, tmp_path, TASK)["label"].iloc[0] == "Normal"


def test_a_flagged_image_that_cannot_be_read_is_left_out(tmp_path, image, caplog):
    rows = pd.DataFrame({"path": ["a"], "label": ["Normal"], "sha256": ["b" * 64], "group": [0], "split": ["train"]})
    ledger = Ledger(tmp_path)
    ledger.append(flag(image), image, TASK)
    (ledger.folder / f"{image.sha256}.png").unlink()
    assert apply_relabels(rows, tmp_path, TASK)["path"].tolist() == ["a"]
    assert f"the flagged image {ledger.folder / image.sha256}.png" in caplog.text


def test_a_copy_of_a_test_image_never_reaches_training(tmp_path, caplog):
    """Under another sha256 and without a name, as exported anew: other copies go with their image."""
    caplog.set_level("INFO", "xray_models")
    ledger, rows = Ledger(tmp_path / "flags"), []
    for number, split in enumerate(("train", "validation", "test", "none")):
        pixels = phantom.draw_phantom("Nodule", seed=number, size=160).pixels
        picture = Image.fromarray(pixels)
        picture.save(tmp_path / f"{split}.png")
        picture.save(tmp_path / f"{split}.jpg", quality=80)
        if split != "none":
            row = {"path": str(tmp_path / f"{split}.png"), "label": "Nodule", "official": "", "sha256": split}
            rows.append(row | {"group": number + 10, "split": split})
        exported = read_image(tmp_path / f"{split}.jpg")
        ledger.append(flag(exported, corrected_label="Normal"), exported, TASK)
    grouped = dataclasses.replace(TASK, split=dataclasses.replace(TASK.split, group="auto"))
    out = apply_relabels(pd.DataFrame(rows), tmp_path / "flags", grouped)
    assert out["split"].tolist() == ["train", "validation", "test", "train", "validation", "train"]
    assert out["group"].tolist()[:5] == [10, 11, 12, 10, 11] and out["group"].iloc[5] > 12
    assert out["label"].tolist()[3:] == ["Normal"] * 3
    assert "1 of 4 flagged images left out: near-copies of test images" in caplog.text


def find_pairs(*pairs):
    """As `grouping.find_near_copies`, of images of which the pairs are known."""
    return lambda *_: grouping.NearCopies(np.array(pairs).reshape(-1, 2), np.zeros(len(pairs), bool))


@pytest.fixture
def strange(tmp_path):
    """A function that flags an image of its own for each grey value; a ledger, and rows of three images."""
    ledger = Ledger(tmp_path / "flags")
    for grey in (60, 120, 180):
        Image.fromarray(np.full((40, 40), grey, np.uint8)).save(tmp_path / f"{grey}.png")
    rows = pd.DataFrame(
        {
            "path": [str(tmp_path / f"{grey}.png") for grey in (60, 120, 180)],
            "label": "Normal",
            "official": "",
            "sha256": ["a", "b", "c"],
            "group": [0, 1, 2],
            "split": ["train", "validation", "test"],
        }
    )

    def add(grey):
        own = from_pixels(np.full((40, 40), grey, np.uint8))
        ledger.append(flag(own), own, TASK)

    return ledger.root, rows, add


GROUPED = dataclasses.replace(TASK, split=dataclasses.replace(TASK.split, group="auto"))


@pytest.mark.parametrize(
    ("pairs", "split", "group"),
    [
        ([(0, 3)], "train", 0),
        ([(0, 3), (1, 3)], "validation", 1),  # a copy of two images goes where it flatters no figure
        ([(1, 3), (2, 3)], None, None),
        ([(0, 3), (2, 3)], None, None),
        ([], "train", 6),
    ],
)
def test_a_copy_goes_where_it_does_least_harm(strange, monkeypatch, pairs, split, group):
    root, rows, add = strange
    add(9)
    monkeypatch.setattr(grouping, "find_near_copies", find_pairs(*pairs))
    new = apply_relabels(rows, root, GROUPED).iloc[3:]
    assert new[["split", "group"]].to_numpy().tolist() == ([[split, group]] if split else [])


def test_new_images_are_groups_of_their_own_unless_they_are_copies_of_each_other(strange, monkeypatch):
    root, rows, add = strange
    for grey in (7, 8, 9):
        add(grey)
    monkeypatch.setattr(grouping, "find_near_copies", find_pairs((1, 2)))
    groups = apply_relabels(rows.iloc[:1], root, GROUPED)["group"].tolist()
    assert groups[1] == groups[2]
    assert len({*groups}) == 3


def test_copies_are_not_looked_for_where_the_task_says_so(strange, monkeypatch):
    root, rows, add = strange
    add(9)
    monkeypatch.setattr(grouping, "find_near_copies", find_pairs((2, 3)))
    alone = dataclasses.replace(TASK, split=dataclasses.replace(TASK.split, group="none"))
    assert apply_relabels(rows, root, alone)["split"].tolist()[3:] == ["train"]


def test_a_ledger_that_is_not_there_and_labels_that_are_no_more_are_refused(tmp_path, image):
    rows = pd.DataFrame({"path": ["a"], "label": "Normal", "sha256": image.sha256, "group": 0, "split": "train"})
    with pytest.raises(DataError, match="There are no flags in .*none"):
        apply_relabels(rows, tmp_path / "none", TASK)
    flag_id = Ledger(tmp_path).append(flag(image, corrected_label="Nodule"), image, TASK)
    renamed = dataclasses.replace(TASK, labels=("Normal", "Lump"), positive=())
    with pytest.raises(DataError, match=rf"{flag_id} \(Nodule\). Valid: Normal, Lump"):
        apply_relabels(rows, tmp_path, renamed)


def test_labels_that_only_a_later_program_understands_are_refused(tmp_path, image):
    rows = pd.DataFrame({"path": ["a"], "label": "Normal", "sha256": image.sha256, "group": 0, "split": "train"})
    ledger = Ledger(tmp_path)
    ledger.append(flag(image), image, TASK)
    file = ledger.folder / "metadata.csv"
    file.write_text(file.read_text().removesuffix(",1\n") + ",2\n")
    for work in (lambda: check_ledger(tmp_path), lambda: apply_relabels(rows, tmp_path, TASK)):
        with pytest.raises(DataError, match=r"Rows in .* \(1\) .* version 2 .* version 1.*Update"):
            work()


def test_what_was_accepted_and_then_rejected_is_rejected(tmp_path, image):
    rows = pd.DataFrame(
        {"path": ["a"], "label": ["Normal"], "sha256": [image.sha256], "group": [0], "split": ["train"]}
    )
    ledger = Ledger(tmp_path)
    first = ledger.append(flag(image, corrected_label="Nodule"), image, TASK)
    ledger.append(flag(image, corrected_label="Nodule", decides=first, status="accepted"), image, TASK)
    assert apply_relabels(rows, tmp_path, TASK)["label"].tolist() == ["Nodule"]
    ledger.append(flag(image, corrected_label="Nodule", decides=first, status="rejected"), image, TASK)
    assert apply_relabels(rows, tmp_path, TASK)["label"].tolist() == ["Normal"]
    ledger.append(flag(image, corrected_label="Effusion", decides=first, status="accepted"), image, TASK)
    assert apply_relabels(rows, tmp_path, TASK)["label"].tolist() == ["Effusion"]


def take_back(ledger, image, flag_id, label="Nodule"):
    given = flag(image, corrected_label=label, reason="withdrawn", status="rejected", decides=flag_id)
    return ledger.append(given, image, TASK)


def test_what_was_withdrawn_does_not_reach_training(tmp_path, image):
    """An image flagged twice goes back to its first flag, one flagged once to its own label."""
    other = from_pixels(np.full((40, 40), 7, np.uint8))
    unseen = from_pixels(np.full((40, 40), 9, np.uint8))
    ledger = Ledger(tmp_path)
    ledger.append(flag(image, corrected_label="Effusion"), image, TASK)
    for own in (image, other, unseen):
        take_back(ledger, own, ledger.append(flag(own, corrected_label="Nodule"), own, TASK))
    shas = [image.sha256, other.sha256]
    rows = pd.DataFrame({"path": ["a", "b"], "label": "Normal", "sha256": shas, "group": [0, 1], "split": "train"})
    assert apply_relabels(rows, tmp_path, TASK)["label"].tolist() == ["Effusion", "Normal"]


def test_the_ledger_with_a_withdrawal_is_a_data_set_that_says_so(tmp_path, image):
    """Loaded as anyone loads it, its rows say by themselves which label stands."""
    ledger = Ledger(tmp_path / "flags")
    ledger.append(flag(image, corrected_label="Effusion"), image, TASK)
    ledger.append(flag(image, reader="007"), image, TASK)
    wrong = ledger.append(flag(image, corrected_label="Normal"), image, TASK)
    take_back(ledger, image, wrong, "Normal")
    loaded = load_as_data_set(tmp_path / "flags", tmp_path)
    assert len(loaded) == 4 and {picture.size for picture in loaded["image"]} == {(160, 160)}
    frame = loaded.remove_columns("image").to_pandas().sort_values(["created_at", "flag_id"])
    texts = frame.select_dtypes(exclude="number").map(from_cell)
    settled = settle_flags(texts)
    assert settled.loc[settled["stands"], "corrected_label"].tolist() == ["Nodule"]
    assert settled["verdict"].tolist() == ["open", "open", "withdrawn", "decision"]
    read = settle_flags(read_flags(tmp_path / "flags"))
    for column in ("flag_id", "verdict", "current", "decided_by", "stands"):
        assert settled[column].tolist() == read[column].tolist()


def test_the_last_decision_counts(tmp_path, image):
    ledger = Ledger(tmp_path)
    first = ledger.append(flag(image), image, TASK)
    said = []
    for status, reason in (("accepted", "other"), ("rejected", "withdrawn"), ("accepted", "other")):
        ledger.append(flag(image, decides=first, status=status, reason=reason, reader=f"by {status}"), image, TASK)
        said.append(settle_flags(read_flags(tmp_path)).set_index("flag_id").loc[first, ["verdict", "decided_by"]])
    assert [tuple(one) for one in said] == [
        ("accepted", "by accepted"),
        ("withdrawn", "by rejected"),
        ("accepted", "by accepted"),
    ]


def test_no_flag_is_nothing_to_settle(tmp_path):
    settled = settle_flags(read_flags(tmp_path / "none"))
    assert settled.empty and {"current", "verdict", "decided_by", "stands"} <= set(settled.columns)
