import numpy as np
import pytest
from PIL import Image

from tests.dicom_samples import RAMP, SECRET, build, write
from xray_models.headers import measure_side, read_header, read_headers
from xray_models.images import ImageError, read_image

GREY = np.tile(np.arange(60, dtype=np.uint8), (40, 1))


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.tif", "a.bmp", "a.webp"])
def test_a_header_says_what_decoding_says(tmp_path, name):
    Image.fromarray(GREY).save(tmp_path / name)
    header, radiograph = read_header(tmp_path / name), read_image(tmp_path / name)
    assert (header.height, header.width) == radiograph.pixels.shape == (40, 60)
    assert header.format == radiograph.format.upper()
    assert header.size == len((tmp_path / name).read_bytes())
    assert (header.tables == "") == (header.coarseness == 0) == (name != "a.jpg")


def test_jpegs_of_two_qualities_have_other_tables_and_coarseness(tmp_path):
    for name, quality in (("a.jpg", 95), ("b.jpg", 95), ("c.jpg", 50)):
        Image.fromarray(GREY if name != "b.jpg" else GREY[::-1]).save(tmp_path / name, quality=quality)
    first, again, coarse = read_headers([str(tmp_path / name) for name in ("a.jpg", "b.jpg", "c.jpg")])
    assert first.tables == again.tables != coarse.tables
    # ITU-T T.81, table K.1, has a mean of 57.625; quality 50 uses it as it is
    assert coarse.coarseness == pytest.approx(57.625, abs=0.01)
    assert first.coarseness == again.coarseness < 10


def test_the_longer_side_is_that_of_the_files_that_have_one(tmp_path):
    for name, size in (("a.png", (40, 60)), ("b.png", (90, 20)), ("c.png", (100, 100))):
        Image.new("L", size).save(tmp_path / name)
    (tmp_path / "d.png").write_bytes(b"no picture")
    assert measure_side([str(tmp_path / f"{name}.png") for name in "abcdx"]) == 90
    assert measure_side([str(tmp_path / "d.png")]) is None


def test_only_the_kinds_of_metadata_are_named(tmp_path):
    exif = Image.Exif()
    exif[0x010E] = SECRET
    Image.fromarray(GREY).save(tmp_path / "a.jpg", exif=exif, comment=SECRET.encode(), progressive=True, dpi=(72, 72))
    header = read_header(tmp_path / "a.jpg")
    assert {"comment", "exif", "progressive", "dpi"} <= set(header.extras.split())
    assert SECRET not in repr(header)


def test_a_dicom_file_is_read_without_its_pixels(tmp_path):
    data = write(build())
    (tmp_path / "a.dcm").write_bytes(data[: len(data) - RAMP.nbytes])
    header = read_header(tmp_path / "a.dcm")
    assert (header.height, header.width, header.format, header.mode) == (48, 40, "DICOM", "MONOCHROME2")
    assert header.tables == "1.2.840.10008.1.2.1"
    assert header.size == len(data) - RAMP.nbytes
    assert SECRET not in repr(header)


@pytest.mark.parametrize("content", [b"", b"not an image", b"\x89PNG\r\n\x1a\nand no more"])
def test_a_file_without_a_header_is_an_error(tmp_path, content):
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(ImageError, match="no header"):
        read_header(tmp_path / "a.png")


def test_a_missing_file_is_an_error(tmp_path):
    with pytest.raises(ImageError, match="cannot be opened: No such file"):
        read_header(tmp_path / "a.png")


def test_nothing_of_the_picture_is_needed(tmp_path):
    Image.fromarray(GREY).save(tmp_path / "a.png")
    whole = read_header(tmp_path / "a.png")
    (tmp_path / "a.png").write_bytes((tmp_path / "a.png").read_bytes()[:60])
    assert read_header(tmp_path / "a.png") == whole._replace(size=60)
