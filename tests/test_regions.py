import dataclasses
import json

import numpy as np
import pytest
from PIL import Image

from evaluation.regions import open_regions, resize_region
from xray_models.images import read_image
from xray_models.tasks import load_task


def save(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def test_phantoms_have_the_lesion_that_was_drawn(phantoms):
    regions = open_regions(load_task("phantom"), phantoms)
    assert regions.kind == "finding"
    for label in ("Normal", "Nodule"):
        path = sorted((phantoms / label).glob("*.png"))[0]
        region = regions.find(path, (96, 96))
        if label == "Normal":
            assert region is None
        else:
            assert (region == (read_image(phantoms / "masks" / label / path.name).pixels > 0)).all()
            assert 0 < region.mean() < 0.3


def test_lung_masks_lie_beside_the_images_at_their_own_size(tmp_path, caplog):
    mask = np.zeros((64, 64), dtype=np.uint8)
    mask[16:48, 8:24] = 255
    start = tmp_path / "COVID-19_Radiography_Dataset" / "COVID"
    save(start / "masks" / "COVID-1.png", np.stack([mask] * 3, axis=2))
    regions = open_regions(load_task("covid"), tmp_path)
    assert regions.kind == "lungs"
    region = regions.find(start / "images" / "COVID-1.jpg", (128, 128))
    assert (region == (mask.repeat(2, axis=0).repeat(2, axis=1) > 0)).all()
    assert regions.find(start / "images" / "COVID-2.jpg", (128, 128)) is None
    (start / "masks" / "COVID-2.png").write_bytes(b"no image")
    assert regions.find(start / "images" / "COVID-2.jpg", (128, 128)) is None
    assert "COVID-2.png is left out: The file is not an image" in caplog.text


def test_without_lung_masks_there_are_no_regions(tmp_path):
    (tmp_path / "COVID" / "images").mkdir(parents=True)
    regions = open_regions(load_task("covid"), tmp_path)
    assert regions.kind == ""
    assert regions.find(tmp_path / "COVID" / "images" / "a.png", (9, 9)) is None


@pytest.fixture
def fractures(tmp_path):
    save(tmp_path / "FracAtlas" / "images" / "Fractured" / "a.png", np.zeros((60, 80), dtype=np.uint8))
    content = {
        "images": [{"id": 0, "file_name": "a.png", "width": 160, "height": 120}],
        "annotations": [
            {"image_id": 0, "bbox": [20, 40, 30, 10], "segmentation": []},
            {"image_id": 0, "bbox": [150, 110, 20, 20], "segmentation": []},
        ],
    }
    folder = tmp_path / "FracAtlas" / "Annotations" / "COCO JSON"
    folder.mkdir(parents=True)
    (folder / "boxes.json").write_text(json.dumps(content))
    return tmp_path


def test_boxes_become_regions_inside_the_picture(fractures):
    regions = open_regions(load_task("fracture"), fractures)
    region = regions.find(fractures / "FracAtlas" / "images" / "Fractured" / "a.png", (60, 80))
    expected = np.zeros((60, 80), dtype=bool)
    expected[20:25, 10:25] = True
    expected[55:60, 75:80] = True
    assert regions.kind == "finding"
    assert (region == expected).all()
    assert regions.find(fractures / "b.png", (60, 80)) is None


def test_a_box_outside_the_picture_covers_nothing_of_it(fractures):
    file = fractures / "FracAtlas" / "Annotations" / "COCO JSON" / "boxes.json"
    content = json.loads(file.read_text())
    path = fractures / "FracAtlas" / "images" / "Fractured" / "a.png"
    for outside in ([-20, -20, 10, 10], [20, -20, 30, 10], [400, 40, 10, 10]):
        content["annotations"] = [{"image_id": 0, "bbox": outside, "segmentation": []}]
        file.write_text(json.dumps(content))
        assert open_regions(load_task("fracture"), fractures).find(path, (60, 80)) is None


def test_missing_boxes_are_said_and_stop_nothing(tmp_path, caplog):
    assert open_regions(load_task("fracture"), tmp_path).kind == ""
    assert "holds no annotations" in caplog.text


def test_a_layout_without_annotations_has_no_regions(tmp_path):
    task = load_task("pneumonia")
    assert open_regions(task, tmp_path).kind == ""
    other = dataclasses.replace(task, dataset=dataclasses.replace(task.dataset, layout="label_folders"))
    assert open_regions(other, tmp_path).kind == ""


def test_a_small_region_survives_shrinking():
    region = np.zeros((900, 1200), dtype=bool)
    region[400:403, 700:704] = True
    small = resize_region(region, (90, 120))
    assert small.sum() == 1
    assert small[40, 70]
    half = np.zeros((100, 100), dtype=bool)
    half[:, :50] = True
    assert resize_region(half, (33, 40)).mean() == 0.5
    assert not resize_region(np.zeros((50, 50), dtype=bool), (20, 20)).any()
