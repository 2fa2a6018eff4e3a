import json
import re
import shutil
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


@pytest.mark.parametrize("version", ["now", "before"])
def test_a_training_is_not_gone_on_with_as_a_search(version, phantoms, tmp_path, monkeypatch, capsys):
    """Nor the other way; what was interrupted stays as it was, also where the recipe says nothing of a search."""
    words = [*SMALL, "--data", str(phantoms), "--out", str(tmp_path / "m"), "--resume"]
    progress = tmp_path / "m" / ".training"

    def tell(kept, recipe):
        shutil.rmtree(progress, ignore_errors=True)
        kept = progress / kept
        kept.parent.mkdir(parents=True)
        kept.write_text("{}")
        if version == "now":
            (progress / "recipe.json").write_text(json.dumps(recipe))
        return kept

    monkeypatch.setattr(training, "read_rows", lambda *_: pytest.fail("it went on"))
    for stage in ("head", "all"):
        kept = tell(f"{stage}/checkpoint-2/trainer_state.json", {"epochs": 1})
        assert train.main([*words, "--search", "grid"]) == 2
        said = capsys.readouterr().err
        assert f"is a training, kept as .training/{stage}, and no search. To go on with it, leave --search out" in said
        assert kept.is_file()
    kept = tell("trials.db", {"epochs": 1, "search": "optuna"})
    assert train.main(words) == 2
    said = capsys.readouterr().err
    assert "is a search, kept as .training/trials.db, and no training." in said
    assert (
        "add --search optuna." if version == "now" else "add --search grid or --search optuna, whichever it was."
    ) in said
    assert kept.is_file()
