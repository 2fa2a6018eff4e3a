import re
from pathlib import Path

import pytest

from xray_models import train, training
from xray_models.imagesets import read_rows
from xray_models.tasks import load_task

SMALL = ["--task", "phantom", "--model", "simple_cnn", "--epochs", "1", "--width", "0.25", "--image-size", "48"]


def test_a_training_does_not_go_on_with_other_labels(phantoms, tmp_path, monkeypatch, capsys):
    """Two images of the same split swap their labels: every count stays."""
    words = [*SMALL, "--data", str(phantoms), "--out", str(tmp_path / "m")]
    rows = read_rows(load_task("phantom"), phantoms)
    learned = rows[rows["split"] == "train"].drop_duplicates("label")[:2]
    names = [Path(path).relative_to(phantoms.resolve()) for path in learned["path"]]
    swapped = [f"{name},{label}" for name, label in zip(names, learned["label"][::-1], strict=True)]
    (tmp_path / "new.csv").write_text("\n".join(["file_name,label", *swapped]))

    def stop(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(training, "calibrate", stop)
        with pytest.raises(KeyboardInterrupt):
            train.main(words)
    assert train.main([*words, "--resume", "--labels", str(tmp_path / "new.csv")]) == 2
    said = capsys.readouterr().err
    assert re.search(r"data \(digest of pictures, labels and splits\) '\w{12}' then, '\w{12}' now\. Give", said)
    assert "images {" not in said
    assert train.main([*words, "--resume"]) == 0
