import unicodedata

import pandas as pd
import pytest

from tests.test_layouts import touch
from xray_models.corrections import relabel
from xray_models.layouts import DataError, list_label_folders
from xray_models.tasks import load_task


@pytest.fixture
def bones(tmp_path):
    task = load_task("bone")
    touch(tmp_path, "healthy/1.jpg", "healthy/2.jpg", "healthy/-é=1.jpg", "fractured/1.jpg", "beyond repair/3.jpg")
    files = pd.DataFrame(list_label_folders(task, tmp_path)).sort_values("path", ignore_index=True)
    files["sha256"] = files["path"].str[-12:]  # a picture of its own each

    def correct(text):
        (tmp_path / "new.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
        return relabel(files, tmp_path / "new.csv", task, tmp_path)

    return correct


def test_corrections_replace_labels(bones):
    changed = bones("file_name,label\nhealthy/1.jpg,fractured\n3.jpg,healthy\n")
    labels = dict(zip(changed["path"].str.split("/").str[-2:].str.join("/"), changed["label"], strict=True))
    assert labels == {
        "healthy/1.jpg": "fractured",
        "healthy/2.jpg": "healthy",
        "healthy/-é=1.jpg": "healthy",
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
        ("name,label\n2.jpg,healthy\n", "no column 'file_name', but 'name', 'label'"),
        ("", "cannot be read"),
        ("file_name,label,label\n2.jpg,healthy,fractured\n", "two columns 'label'"),
        ("file_name,label\n2.jpg,healthy,\n", "Expected 2 fields in line 2, saw 3. Give every row as many cells as"),
        ("file_name;label\n2.jpg;healthy\n", "'file_name;label'. It needs file_name, label, with commas between"),
        ("file_name,label\né.jpg,healthy\n".encode("cp1252"), "not in UTF-8. Save it as CSV in UTF-8"),
        ("file_name,label\n2.jpg,\n", r"unknown labels: \(none\)\. Valid"),
    ],
)
def test_corrections_that_do_not_fit_are_named(bones, text, says):
    with pytest.raises(DataError, match=says):
        bones(text)


@pytest.mark.parametrize(
    "text",
    [
        "\ufefffile_name,label,,\r\nhealthy/2.jpg,fractured,,\r\n",
        "file_name,label\nhealthy\\2.jpg, fractured \n",
        "file_name,label\n'-é=1.jpg,fractured\nhealthy/2.jpg,fractured\n",
        unicodedata.normalize("NFD", "file_name,label\n-é=1.jpg,fractured\n2.jpg,fractured\n"),
    ],
)
def test_corrections_as_spreadsheets_and_other_systems_write_them(bones, text):
    changed = bones(text).set_index("path")["label"]
    changed.index = changed.index.str.split("/").str[-2:].str.join("/")
    assert changed["healthy/2.jpg"] == "fractured"
    assert changed["healthy/-é=1.jpg"] == ("fractured" if "1.jpg" in text else "healthy")


def test_corrections_of_nothing_change_nothing(bones):
    assert "fractured/1.jpg" in bones("file_name,label\n")["path"].str[-15:].tolist()
