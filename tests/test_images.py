import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from PIL import Image

from tests.picture_samples import DEEP, RAMP, encode
from xray_models.images import (
    ImageError,
    OversizedImage,
    UnopenedImage,
    UnsupportedImage,
    encode_png,
    from_pixels,
    read_image,
    to_display,
)


@pytest.mark.parametrize("format", ["PNG", "TIFF", "BMP", "WebP"])
def test_8_bit_pixels_survive_every_lossless_format(format):
    options = {"lossless": True} if format == "WebP" else {}
    radiograph = read_image(encode(Image.fromarray(RAMP), format, **options))
    np.testing.assert_array_equal(radiograph.pixels, RAMP)
    assert (radiograph.format, radiograph.bits, radiograph.warnings) == (format, 8, ())
    assert radiograph.sha256 == from_pixels(RAMP).sha256
    assert dict(radiograph.metadata) == {}


def test_an_image_for_which_memory_is_short_counts_as_unopened_not_as_damaged(monkeypatch):
    def decode(*_, **__):
        raise MemoryError

    monkeypatch.setattr(Image, "open", decode)
    with pytest.raises(UnopenedImage, match="not enough free memory to decode"):
        read_image(encode(Image.fromarray(RAMP), "PNG"))


@pytest.mark.parametrize(("shape", "strip"), [((60, 180), False), ((60, 181), True), ((400, 40), True)])
def test_a_strip_is_warned_of(shape, strip):
    pixels = np.arange(shape[0] * shape[1], dtype=np.uint16).reshape(shape)
    said = [text for text in from_pixels(pixels).warnings if "strip" in text]
    assert bool(said) == strip
    assert all(f"{shape[1]} × {shape[0]} pixels" in text for text in said)


def test_paths_bytes_and_files_give_the_same_picture(tmp_path):
    data = encode(Image.fromarray(RAMP), "PNG")
    path = tmp_path / "misleading.jpg"
    path.write_bytes(data)
    with path.open("rb") as file:
        digests = {read_image(source).sha256 for source in (path, str(path), data, io.BytesIO(data), file)}
    assert digests == {from_pixels(RAMP).sha256}


def test_jpeg_is_read_closely():
    pixels = read_image(encode(Image.fromarray(RAMP), "JPEG", quality=95)).pixels
    assert np.abs(pixels.astype(int) - RAMP).max() <= 4


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"Dear doctor, this is a letter.",
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        b"%PDF-1.7 ...",
        b"PK\x03\x04 ...",
        b"\x00\x00\x00\x18ftypmp42",
        encode(Image.fromarray(RAMP), "GIF"),
        bytes(500),
    ],
)
def test_what_is_not_a_picture_is_refused(data):
    with pytest.raises(UnsupportedImage, match="PNG, JPEG, TIFF, BMP, WebP and DICOM"):
        read_image(data)


def test_files_that_cannot_be_opened(tmp_path):
    with pytest.raises(ImageError, match="No such file") as raised:
        read_image(tmp_path / "Jane_Doe.png")
    assert "Jane" not in str(raised.value)
    with pytest.raises(ImageError, match="binary mode"):
        read_image(io.StringIO("text"))
    with pytest.raises(ImageError, match="ndarray is no image file.*`from_pixels` takes arrays"):
        read_image(RAMP)


def test_the_pixel_limit_is_checked_before_decoding():
    data = encode(Image.fromarray(RAMP), "PNG")
    with pytest.raises(OversizedImage, match=r"1,920 pixels. At most 1,919"):
        read_image(data, max_pixels=1919)
    assert read_image(data, max_pixels=1920)
    bomb = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 0, 0, 0, 0)
    chunk = b"IHDR" + bomb
    data = data[:8] + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk)) + data[33:]
    with pytest.raises(OversizedImage):
        read_image(data)


def test_the_file_size_limit(monkeypatch):
    monkeypatch.setattr("xray_models.images.MAX_BYTES", 100)
    with pytest.raises(OversizedImage, match="MiB"):
        read_image(encode(Image.fromarray(RAMP), "BMP"))


@given(st.sampled_from([np.uint8, np.uint16]).flatmap(lambda kind: arrays(kind, array_shapes(min_dims=2, max_dims=2))))
@settings(max_examples=100, deadline=None)
def test_encode_png_is_lossless(pixels):
    radiograph = from_pixels(pixels)
    again = read_image(encode_png(radiograph))
    np.testing.assert_array_equal(again.pixels, pixels)
    assert again.sha256 == radiograph.sha256


def test_encode_png_writes_nothing_but_pixels():
    data = encode_png(from_pixels(DEEP, "DICOM", metadata={"view": "PA"}))
    names, at = [], 8
    while at < len(data):
        names.append(data[at + 4 : at + 8])
        at += 12 + int.from_bytes(data[at : at + 4])
    assert set(names) == {b"IHDR", b"sBIT", b"IDAT", b"IEND"}


def test_the_digest_depends_on_shape_depth_and_pixels():
    variants = [RAMP, RAMP.T, RAMP.reshape(40, 48), RAMP.astype(np.uint16), RAMP + np.uint8(1)]
    assert len({from_pixels(pixels).sha256 for pixels in variants}) == len(variants)
    assert from_pixels(DEEP.astype(">u2")).sha256 == from_pixels(DEEP).sha256


def test_pixels_are_a_read_only_copy():
    own = RAMP.copy()
    radiograph = from_pixels(own)
    own[:] = 0
    np.testing.assert_array_equal(radiograph.pixels, RAMP)
    with pytest.raises(ValueError, match="read-only"):
        radiograph.pixels[0, 0] = 1


@pytest.mark.parametrize(
    "pixels", [RAMP.astype(float), RAMP.astype(np.int16), RAMP[None], np.zeros((0, 5), np.uint8), RAMP > 3]
)
def test_from_pixels_refuses_other_arrays(pixels):
    with pytest.raises(ImageError, match="uint8 or uint16"):
        from_pixels(pixels)


def test_to_display():
    np.testing.assert_array_equal(to_display(from_pixels(RAMP)), RAMP)
    np.testing.assert_array_equal(to_display(from_pixels(DEEP)), np.rint(DEEP / 257).astype(np.uint8))
    assert to_display(from_pixels(np.full((300, 100), 7, np.uint8)), 90).shape == (90, 30)
    assert to_display(from_pixels(RAMP), 1000).shape == RAMP.shape
    assert to_display(from_pixels(np.full((1, 500), 7, np.uint8)), 50).shape == (1, 50)
    stripes = np.tile(np.uint8([0, 255]), (128, 64))
    np.testing.assert_allclose(to_display(from_pixels(stripes), 32)[4:-4, 4:-4], 127.5, atol=2)
