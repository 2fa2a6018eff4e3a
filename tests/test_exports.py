import logging

import pytest
from PIL import Image

from xray_models import phantom
from xray_models.exports import export_hub
from xray_models.layouts import DataError, list_hub_export
from xray_models.tasks import load_task


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """An image folder as `datasets` knows it, with a split for the test and twice the same file name."""
    folder = tmp_path_factory.mktemp("imagefolder")
    for split, count in (("train", 2), ("test", 1)):
        for k, label in enumerate(load_task("bone").labels):
            (folder / split / label).mkdir(parents=True)
            for i in range(count):
                pixels = phantom.draw_phantom("Normal", 10 * k + i, size=64).pixels
                Image.fromarray(pixels).save(folder / split / label / f"{i}.png")
    return folder


def list_names(task, export):
    return {(file.path.removeprefix(f"{export.resolve()}/"), file.official) for file in list_hub_export(task, export)}


def test_files_arrive_unchanged_and_once(folder, tmp_path):
    task = load_task("bone")
    export = export_hub(str(folder), task, tmp_path)
    assert list_names(task, export) == {
        *((f"train/{label}/{i}.png", "train") for label in task.labels for i in range(2)),
        *((f"test/{label}/0.png", "test") for label in task.labels),
    }
    for path in export.glob("*/*/*"):
        assert path.read_bytes() == (folder / path.relative_to(export)).read_bytes()
    stamp = export.stat().st_mtime_ns
    assert export_hub(str(folder), task, tmp_path) == export
    assert export.stat().st_mtime_ns == stamp
    assert list(tmp_path.iterdir()) == [export]  # no draft is left behind


def test_pictures_inside_tables_are_written_too(folder, tmp_path):
    from datasets import load_dataset

    task, tables = load_task("bone"), tmp_path / "tables"
    tables.mkdir()
    for split, part in load_dataset(str(folder)).items():
        part.to_parquet(tables / f"{split}.parquet")
    export = export_hub(str(tables), task, tmp_path / "cache")
    assert {name for name, _ in list_names(task, export)} == {
        path.relative_to(folder).as_posix() for path in folder.glob("*/*/*.png")
    }


def test_equal_names_do_not_replace_each_other(folder, tmp_path):
    from datasets import concatenate_datasets, load_dataset

    parts = load_dataset(str(folder))
    both = concatenate_datasets([parts["train"], parts["test"]])
    (tmp_path / "tables").mkdir()
    both.to_parquet(tmp_path / "tables" / "train.parquet")
    export = export_hub(str(tmp_path / "tables"), load_task("bone"), tmp_path / "cache")
    assert len(list(export.glob("train/*/*"))) == 9


def test_a_row_without_a_picture_is_left_out_and_said(folder, tmp_path, caplog):
    from datasets import Dataset, Features, Image, Value

    pictures = [str(next(folder.glob("train/healthy/*.png"))), None]
    features = Features({"image": Image(), "label": Value("string")})
    (tmp_path / "tables").mkdir()
    part = Dataset.from_dict({"image": pictures, "label": ["healthy", "healthy"]}, features)
    part.to_parquet(tmp_path / "tables" / "train.parquet")
    export = export_hub(str(tmp_path / "tables"), load_task("bone"), tmp_path / "cache")
    assert len(list(export.glob("train/*/*"))) == 1
    assert "row 1 of the split 'train' has no picture" in caplog.text


def test_a_cache_that_cannot_be_written_is_named(folder, tmp_path):
    (tmp_path / "cache").touch()
    with pytest.raises(DataError, match=r"cannot be written to .*cache: File exists.*XDG_CACHE_HOME"):
        export_hub(str(folder), load_task("bone"), tmp_path / "cache")


def test_labels_of_another_task_are_refused(folder, tmp_path):
    with pytest.raises(DataError, match="has the label 'beyond repair'; task 'covid' has COVID, Lung_Opacity"):
        export_hub(str(folder), load_task("covid"), tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_data_set_without_labels_is_refused(folder, tmp_path):
    (tmp_path / "flat").mkdir()
    for path in folder.glob("train/healthy/*.png"):
        (tmp_path / "flat" / path.name).write_bytes(path.read_bytes())
    with pytest.raises(DataError, match="expected an image and its `label`"):
        export_hub(str(tmp_path / "flat"), load_task("bone"), tmp_path / "cache")


def test_what_cannot_be_had_is_a_sentence(tmp_path, caplog):
    with (
        caplog.at_level(logging.ERROR),
        pytest.raises(DataError, match="'nobody/nothing' can be had neither from the Hub nor from its cache"),
    ):
        export_hub("nobody/nothing", load_task("bone"), tmp_path)
