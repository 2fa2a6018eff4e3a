from pathlib import Path

import numpy as np
import pandas as pd

from tests.test_flags import TASK, flag
from xray_models.flags import Ledger
from xray_models.images import from_pixels
from xray_models.relabels import apply_relabels


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
    rows.loc[0, "split"] = "test"
    assert apply_relabels(rows, tmp_path, TASK)["label"].iloc[0] == "Normal"


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
