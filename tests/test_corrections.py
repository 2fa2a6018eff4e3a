import pandas as pd
import pytest

from tests.test_layouts import touch
from xray_models.corrections import relabel
from xray_models.layouts import DataError, list_label_folders
from xray_models.tasks import load_task


@pytest.fixture
def bones(tmp_path):
    task = load_task("bone")
    touch(tmp_path, "healthy/1.jpg", "healthy/2.jpg", "fractured/1.jpg", "beyond repair/3.jpg")
    files = pd.DataFrame(list_label_folders(task, tmp_path)).sort_values("path", ignore_index=True)
    files["sha256"] = files["path"].str[-12:]  # a picture of its own each

    def correct(text):
        (tmp_path / "new.csv").write_text(text)
        return relabel(files, tmp_path / "new.csv", task, tmp_path)

    return correct


def test_corrections_replace_labels(bones):
    changed = bones("file_name,label\nhealthy/1.jpg,fractured\n3.jpg,healthy\n")
    labels = dict(zip(changed["path"].str.split("/").str[-2:].str.join("/"), changed["label"], strict=True))
    assert labels == {
        "healthy/1.jpg": "fractured",
        "healthy/2.jpg": "healthy",
        "fractured/1.jpg": "fractured",
        "beyond repair/3.jpg": "healthy",
    }


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("file_name,label\n2.jpg,broken\n", r"unknown labels: broken\. Valid: beyond repair, fractured, healthy"),
        ("file_name,label\n9.jpg,healthy\n", r"not in .*9\.jpg.*beyond repair/3\.jpg"),
        ("file_name,label\n1.jpg,healthy\n", r"several files bear: 1\.jpg"),
        ("file_name,label\n2.jpg,healthy\n2.jpg,fractured\n", r"two labels to healthy/2\.jpg"),
        ("file_name,label\n2.jpg,healthy\nhealthy/2.jpg,fractured\n", r"two labels to healthy/2\.jpg"),
        ("name,label\n2.jpg,healthy\n", "expected file_name and label"),
        ("", "cannot be read"),
    ],
)
def test_corrections_that_do_not_fit_are_named(bones, text, says):
    with pytest.raises(DataError, match=says):
        bones(text)
