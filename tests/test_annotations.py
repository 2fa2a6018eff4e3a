import json

import numpy as np
import pytest
from PIL import Image

from xray_models.annotations import Box, read_boxes, read_masks
from xray_models.layouts import DataError

TRIANGLE = [100, 60, 180, 60, 100, 140]  # in a picture of 400 x 200


@pytest.fixture
def fracatlas(tmp_path):
    """One fracture, annotated on 400 x 200 pixels; the file has half of that. The other picture has no fracture."""
    notes = tmp_path / "FracAtlas" / "Annotations"
    for name in ("COCO JSON", "PASCAL VOC", "YOLO"):
        (notes / name).mkdir(parents=True)
    for label, name in (("Fractured", "a"), ("Non_fractured", "b")):
        (tmp_path / "FracAtlas" / "images" / label).mkdir(parents=True)
        Image.new("L", (200, 100), 9).save(tmp_path / "FracAtlas" / "images" / label / f"{name}.jpg")
        box = "<object><bndbox><xmin>100</xmin><ymin>60</ymin><xmax>180</xmax><ymax>140</ymax></bndbox></object>"
        size = "<size><width>400</width><height>200</height></size>"
        xml = f"<annotation><filename>{name}.jpg</filename>{size}{box if name == 'a' else ''}</annotation>"
        (notes / "PASCAL VOC" / f"{name}.xml").write_text(xml)
        (notes / "YOLO" / f"{name}.txt").write_text("0 0.35 0.5 0.2 0.4\n" if name == "a" else "")
    (notes / "YOLO" / "labels.txt").write_text("fractured\n")
    write_coco(tmp_path, 400, 200, "a.jpg")
    return tmp_path


def write_coco(folder, width, height, name):
    content = {
        "images": [{"id": 1, "width": width, "height": height, "file_name": name}],
        "annotations": [{"image_id": 1, "bbox": [100, 60, 80, 80], "segmentation": [TRIANGLE]}],
    }
    file = folder / "FracAtlas" / "Annotations" / "COCO JSON" / "COCO_fracture_masks.json"
    file.write_text(json.dumps(content))


@pytest.mark.parametrize("source", ["", "coco", "voc", "yolo"])
def test_all_sources_give_the_box_in_pixels_of_the_file(fracatlas, source):
    for folder in (fracatlas, fracatlas / "FracAtlas"):
        boxes = read_boxes(folder, source)
        assert list(boxes) == ["a.jpg"]
        assert boxes["a.jpg"][0] == pytest.approx(Box(50, 30, 40, 40))


def test_an_outline_becomes_a_mask(fracatlas):
    ((name, mask),) = read_masks(fracatlas)
    assert name == "a.jpg"
    assert mask.shape == (100, 200)
    assert mask.dtype == bool
    rows, columns = np.nonzero(mask)
    assert (rows.min(), columns.min()) == (30, 50) or (rows.min(), columns.min()) == (29, 49)
    assert rows.max() <= 70
    assert columns.max() <= 90
    assert mask.sum() == pytest.approx(40 * 40 / 2, rel=0.12)  # the outline itself counts as inside
    assert mask[40, 55]
    assert not mask[68, 88]


def test_a_run_length_mask_is_refused_by_name(fracatlas):
    file = fracatlas / "FracAtlas" / "Annotations" / "COCO JSON" / "COCO_fracture_masks.json"
    content = json.loads(file.read_text())
    content["annotations"][0]["segmentation"] = {"counts": [1, 2], "size": [200, 400]}
    file.write_text(json.dumps(content))
    with pytest.raises(DataError, match="json: a.jpg has a run-length mask; only outlines are read"):
        list(read_masks(fracatlas))


def test_a_picture_annotated_on_its_side_is_turned_back(fracatlas):
    file = fracatlas / "FracAtlas" / "images" / "Fractured" / "a.jpg"
    upright = np.zeros((200, 100), np.uint8)
    upright[40:80, 20:50] = 255  # what was annotated, in the file
    Image.fromarray(upright).save(file, quality=95)
    turned = np.rot90(upright)  # what the annotators saw: 200 x 100, here twice as large
    rows, columns = np.nonzero(turned > 0)
    write_coco(fracatlas, 400, 200, "a.jpg")
    path = fracatlas / "FracAtlas" / "Annotations" / "COCO JSON" / "COCO_fracture_masks.json"
    content = json.loads(path.read_text())
    x, y = 2 * int(columns.min()), 2 * int(rows.min())
    content["annotations"][0]["bbox"] = [x, y, 2 * (int(columns.max()) + 1) - x, 2 * (int(rows.max()) + 1) - y]
    path.write_text(json.dumps(content))
    assert read_boxes(fracatlas)["a.jpg"][0] == pytest.approx(Box(20, 40, 30, 40))


def test_an_annotation_of_another_picture_is_refused(fracatlas):
    write_coco(fracatlas, 300, 290, "a.jpg")
    with pytest.raises(DataError, match=r"a\.jpg is for a picture of 300 x 290 pixels, but the file has 200 x 100"):
        read_boxes(fracatlas)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("COCO JSON/COCO_fracture_masks.json", "{"),
        ("COCO JSON/COCO_fracture_masks.json", '{"images": []}'),
        ("PASCAL VOC/a.xml", "<annotation>"),
        ("PASCAL VOC/a.xml", "<annotation><object><bndbox><xmin>1</xmin></bndbox></object></annotation>"),
        ("YOLO/a.txt", "0 left right up down"),
        ("YOLO/a.txt", "0 0.1 0.1 0.9 0.1 0.9 0.9"),
        ("YOLO/a.txt", "0 0.35 0.5"),
    ],
)
def test_damaged_annotations_are_named(fracatlas, name, text):
    (fracatlas / "FracAtlas" / "Annotations" / name).write_text(text)
    source = {"C": "coco", "P": "voc", "Y": "yolo"}[name[0]]
    with pytest.raises(DataError, match=r"annotations in .*Annotations cannot be read \(.*\). Copy them again"):
        read_boxes(fracatlas, source)


@pytest.mark.parametrize("size", [(0, 0), (400, 0), (-400, -200)])
def test_a_picture_without_a_size_is_named(fracatlas, size):
    write_coco(fracatlas, *size, "a.jpg")
    file = fracatlas / "FracAtlas" / "Annotations" / "PASCAL VOC" / "a.xml"
    width, height = (f"<{side}>{pixels}</{side}>" for side, pixels in zip(("width", "height"), size, strict=True))
    written = file.read_text().replace("<width>400</width>", width).replace("<height>200</height>", height)
    file.write_text(written)
    for source in ("coco", "voc"):
        with pytest.raises(DataError, match=f"a.jpg has the size {size[0]} x {size[1]}.*Copy them again"):
            read_boxes(fracatlas, source)


@pytest.mark.parametrize("outline", [[], [10, 20], [10, 20, 30, 40], [10, 20, 30]])
def test_an_outline_that_encloses_nothing_is_named(fracatlas, outline):
    file = fracatlas / "FracAtlas" / "Annotations" / "COCO JSON" / "COCO_fracture_masks.json"
    content = json.loads(file.read_text())
    content["annotations"][0]["segmentation"] = [outline]
    file.write_text(json.dumps(content))
    with pytest.raises(DataError, match="annotations in .* cannot be read .*Copy them again"):
        list(read_masks(fracatlas))


def test_an_annotated_image_that_cannot_be_read_has_no_box(fracatlas, caplog):
    (fracatlas / "FracAtlas" / "images" / "Fractured" / "a.jpg").write_bytes(b"\xff\xd8\xff")
    assert read_boxes(fracatlas) == {}
    assert "a.jpg is left out: The JPEG file ends early" in caplog.text


def test_annotations_without_their_image_are_counted(fracatlas, caplog):
    write_coco(fracatlas, 400, 200, "held_back.jpg")
    assert read_boxes(fracatlas) == {}
    assert "1 annotated images are not there" in caplog.text


def test_no_annotations_is_an_error(tmp_path):
    (tmp_path / "images").mkdir()
    with pytest.raises(DataError, match="expected the folders Annotations and images.*found images"):
        read_boxes(tmp_path)


@pytest.mark.data
def test_the_publishers_sources_agree(published):
    folder = published / "fracture"
    if not (folder / "FracAtlas" / "Annotations").is_dir():
        pytest.skip("the published data lack FracAtlas' annotations")
    coco, voc = read_boxes(folder, "coco"), read_boxes(folder, "voc")
    assert len(coco) > 600
    assert set(coco) == set(voc)
    for name, boxes in coco.items():
        assert np.allclose(sorted(boxes), sorted(voc[name]), atol=3), name
