import os
import random
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms, PngImagePlugin

from tests.picture_samples import DEEP, RAMP, build_tiff, encode
from xray_models.images import (
    ImageError,
    Radiograph,
    TruncatedImage,
    read_image,
)

pytestmark = pytest.mark.filterwarnings("ignore:::PIL")  # on damaged files

DATA = Path(os.environ.get("XRAY_DATA", "data"))


def read_grey(image, format="PNG", **options):
    return read_image(encode(image, format, **options)).pixels


@pytest.mark.parametrize("mode", ["RGB", "YCbCr", "RGBA", "LA"])
def test_a_grey_picture_in_a_colour_mode_keeps_its_values(mode):
    image = Image.fromarray(RAMP).convert(mode)
    options = {"format": "TIFF", "compression": "jpeg", "quality": 95} if mode == "YCbCr" else {}
    pixels = read_grey(image, **options)
    assert np.abs(pixels.astype(int) - RAMP).max() <= (4 if mode == "YCbCr" else 0)


def test_colours_become_luma():
    colours = np.zeros((32, 96, 3), np.uint8)
    for channel in range(3):
        colours[:, 32 * channel : 32 * channel + 32, channel] = 255
    assert [int(value) for value in read_grey(Image.fromarray(colours))[0, ::32]] == [76, 150, 29]


def test_palette_and_one_bit_pictures():
    palette = Image.fromarray(RAMP // 128).convert("P")
    palette.putpalette([10, 10, 10, 200, 200, 200])
    assert set(np.unique(read_grey(palette))) == {10, 200}
    assert set(np.unique(read_grey(Image.fromarray(RAMP > 128)))) == {0, 255}


def test_transparent_pixels_are_black():
    image = Image.fromarray(np.full((40, 40), 200, np.uint8)).convert("LA")
    image.putalpha(Image.fromarray(np.repeat(np.uint8([[0, 255]]), 20, axis=1).repeat(40, axis=0)))
    for pixels in (read_grey(image), read_grey(image.convert("RGBA"), "WebP", lossless=True)):
        assert set(np.unique(pixels[:, :20])) == {0}
        assert set(np.unique(pixels[:, 20:])) == {200}
    keyed = read_grey(Image.fromarray(RAMP), transparency=50)
    assert not (keyed == 50).any()
    assert (keyed[RAMP == 50] == 0).all()
    deep = np.full((40, 40), 60000, np.uint16)
    deep[0, 0] = 40000
    assert read_grey(Image.fromarray(deep), transparency=40000)[0, 0] == 0


def test_cmyk_jpeg_is_not_a_negative():
    cmyk = Image.fromarray(RAMP).convert("RGB").convert("CMYK")
    data = encode(cmyk, "JPEG", quality=95)
    assert b"Adobe" in data
    assert np.abs(read_image(data).pixels.astype(int) - RAMP).max() <= 4


def test_lab_tiff():
    rgb = Image.fromarray(RAMP).convert("RGB")
    lab = ImageCms.profileToProfile(
        rgb, ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), outputMode="LAB"
    )
    assert np.abs(read_grey(lab, "TIFF").astype(int) - RAMP).max() <= 3


@pytest.mark.parametrize("format", ["PNG", "JPEG", "TIFF", "WebP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(format, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    marked = np.zeros((64, 96), np.uint8)
    marked[:16, :16] = 255  # top left
    pixels = read_grey(Image.fromarray(marked), format, exif=exif)
    corners = {1: (0, 0), 2: (0, 1), 3: (1, 1), 4: (1, 0), 5: (0, 0), 6: (0, 1), 7: (1, 1), 8: (1, 0)}
    bottom, right = corners[orientation]
    assert pixels.shape == ((64, 96) if orientation < 5 else (96, 64))
    assert pixels[-8 if bottom else 8, -8 if right else 8] > 200
    assert pixels.mean() == pytest.approx(marked.mean(), abs=3)


def test_16_bit_orientation_is_applied():
    exif = Image.Exif()
    exif[0x0112] = 6
    np.testing.assert_array_equal(read_grey(Image.fromarray(DEEP), exif=exif), np.rot90(DEEP, -1))


@pytest.mark.parametrize("order", ["<", ">"])
def test_16_bit_tiff_in_both_byte_orders(order):
    radiograph = read_image(build_tiff(DEEP, 1, order=order))
    np.testing.assert_array_equal(radiograph.pixels, DEEP)
    assert (radiograph.bits, radiograph.warnings) == (16, ())


def test_white_is_zero_is_inverted():
    np.testing.assert_array_equal(read_image(build_tiff(RAMP, 0)).pixels, 255 - RAMP)
    np.testing.assert_array_equal(read_image(build_tiff(DEEP, 0)).pixels, 65535 - DEEP)
    floats = read_image(build_tiff(RAMP.astype(np.float32), 0, sample_format=3)).pixels
    assert floats[0, 0] == 65535
    assert floats[-1, -1] == 0


@pytest.mark.parametrize("dtype, sample_format", [(np.int8, 2), (np.int16, 2), (np.int32, 2), (np.float32, 3)])
def test_values_without_a_known_white_are_spread(dtype, sample_format):
    values = (RAMP // 2).astype(dtype) - 60
    radiograph = read_image(build_tiff(values, 1, sample_format))
    expected = np.rint((RAMP // 2) * (65535 / (RAMP // 2).max()))
    np.testing.assert_allclose(radiograph.pixels, expected, atol=1)
    assert any("white" in warning for warning in radiograph.warnings)


def test_pixels_that_are_not_numbers_are_refused():
    values = RAMP.astype(np.float32)
    values[3, 3] = np.nan
    with pytest.raises(TruncatedImage, match="finite"):
        read_image(build_tiff(values, 1, 3))


def test_16_bit_colours_are_reduced_with_a_warning():
    colours = np.repeat(DEEP[..., None], 3, axis=2)
    tiff = read_image(build_tiff(colours, 2))
    header = struct.pack(">IIBBBBB", 40, 48, 16, 2, 0, 0, 0)
    rows = b"".join(b"\0" + row.tobytes() for row in colours.astype(">u2"))
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    png = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body)) for name, body in chunks
    )
    for radiograph in (tiff, read_image(png)):
        assert radiograph.bits == 8
        assert np.abs(radiograph.pixels - DEEP / 257).max() <= 1
        assert any("16-bit" in warning for warning in radiograph.warnings)


def test_12_bits_in_a_16_bit_file_are_stretched():
    pixels = np.linspace(0, 4095, 48 * 40).reshape(48, 40).astype(np.uint16)
    for data in (encode(Image.fromarray(pixels), "PNG"), build_tiff(pixels, 1)):
        radiograph = read_image(data)
        assert radiograph.pixels.max() == 65535
        np.testing.assert_allclose(radiograph.pixels, pixels * (65535 / 4095), atol=1)
        assert any("12 bits" in warning for warning in radiograph.warnings)


def test_12_bits_of_which_the_lowest_is_white_are_stretched_and_then_inverted():
    pixels = np.linspace(0, 4095, 48 * 40).reshape(48, 40).astype(np.uint16)
    shown = read_image(build_tiff(pixels, 0)).pixels
    np.testing.assert_allclose(shown, (4095 - pixels) * (65535 / 4095), atol=1)


def test_a_png_that_declares_its_depth_is_left_as_it_is():
    chunks = PngImagePlugin.PngInfo()
    chunks.add(b"sBIT", b"\x0c")
    np.testing.assert_array_equal(read_grey(Image.fromarray(DEEP // 4), pnginfo=chunks), DEEP // 4)


def test_blank_and_tiny_pictures_are_read_with_a_warning():
    blank = read_image(encode(Image.fromarray(np.zeros((64, 64), np.uint16)), "PNG"))
    assert blank.pixels.max() == 0
    assert [warning for warning in blank.warnings if "blank" in warning]
    tiny = read_image(encode(Image.fromarray(RAMP[:10, :31]), "PNG"))
    assert [warning for warning in tiny.warnings if "31 × 10" in warning]


@pytest.mark.parametrize("format", ["PNG", "TIFF", "WebP"])
def test_the_first_of_several_frames_is_read(format):
    options = {"lossless": True} if format == "WebP" else {}
    others = [Image.fromarray(255 - RAMP)]
    image = Image.fromarray(RAMP)
    radiograph = read_image(encode(image, format, save_all=True, append_images=others, **options))
    np.testing.assert_array_equal(radiograph.pixels, RAMP)
    assert [warning for warning in radiograph.warnings if "several" in warning]


def list_samples():
    noise = np.random.default_rng(0).integers(0, 256, (48, 40), dtype=np.uint8)
    image = Image.fromarray(noise)
    return {
        "PNG": encode(image, "PNG"),
        "JPEG": encode(image, "JPEG"),
        "JPEG progressive": encode(image.convert("RGB"), "JPEG", progressive=True),
        "TIFF": encode(image, "TIFF"),
        "TIFF deflate": encode(image, "TIFF", compression="tiff_adobe_deflate"),
        "TIFF 16": build_tiff(DEEP, 1),
        "BMP": encode(image, "BMP"),
        "WebP": encode(image, "WebP"),
        "WebP lossless": encode(image, "WebP", lossless=True),
    }


@pytest.mark.parametrize("name", list_samples())
@pytest.mark.parametrize("part", [0.1, 0.5, 0.9, 0.97])
def test_truncated_files_are_refused(name, part):
    data = list_samples()[name]
    with pytest.raises(TruncatedImage):
        read_image(data[: int(len(data) * part)])


def test_a_png_with_changed_pixels_is_refused():
    data = bytearray(list_samples()["PNG"])
    data[data.index(b"IDAT") + 200] ^= 4
    with pytest.raises(TruncatedImage):
        read_image(bytes(data))


@pytest.mark.parametrize("name", list_samples())
def test_damaged_files_give_a_picture_or_an_image_error(name):
    generator = random.Random(name)
    original = list_samples()[name]
    for _ in range(150):
        data = bytearray(original)
        for _ in range(generator.choice([1, 3, 20])):
            data[generator.randrange(min(len(data), generator.choice([64, len(data)])))] = generator.randrange(256)
        try:
            assert isinstance(read_image(bytes(data), max_pixels=1_000_000), Radiograph)
        except ImageError as error:
            assert str(error)


@given(
    st.sampled_from([b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"II*\0", b"MM\0*", b"BM", b"RIFF\0\0\0\0WEBPVP8 "]),
    st.binary(max_size=400),
)
@settings(max_examples=200, deadline=None)
def test_random_bytes_are_refused(start, rest):
    with pytest.raises(ImageError):
        read_image(start + rest)


@pytest.mark.data
def test_the_published_truncated_jpegs_are_refused():
    folder = DATA / "fracture" / "extras_truncated_originals"
    files = [path for path in folder.rglob("*") if path.is_file()]
    if not files:
        pytest.skip("needs fracture/extras_truncated_originals under $XRAY_DATA")
    for path in files:
        with pytest.raises(TruncatedImage):
            read_image(path)
