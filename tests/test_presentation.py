import numpy as np
import pytest
from pydicom.dataset import Dataset

from tests.dicom_samples import RAMP, SMALL, build, build_table, read, write
from xray_models.images import (
    encode_png,
    read_image,
)


def test_a_window_maps_to_the_full_output_range():
    radiograph = read(WindowCenter=2048, WindowWidth=2001)
    expected = np.clip((RAMP - 2047.5) / 2000 + 0.5, 0, 1) * 65535  # PS3.3, C.11.2.1.2.1
    np.testing.assert_allclose(radiograph.pixels, expected, atol=0.51)
    assert (radiograph.format, radiograph.bits, radiograph.warnings) == ("DICOM", 16, ())


def test_a_window_is_not_stretched_again():
    radiograph = read(RAMP // 4, WindowCenter=2048, WindowWidth=4096)
    np.testing.assert_allclose(radiograph.pixels, (RAMP // 4) * (65535 / 4095), atol=0.51)
    assert read_image(encode_png(radiograph)).sha256 == radiograph.sha256


@pytest.mark.parametrize(
    "function, expected",
    [
        ("LINEAR", lambda x: np.clip((x - 999.5) / 799 + 0.5, 0, 1)),
        ("LINEAR_EXACT", lambda x: np.clip((x - 1000) / 800 + 0.5, 0, 1)),
        ("SIGMOID", lambda x: 1 / (1 + np.exp(-4 * (x - 1000) / 800))),
    ],
)
def test_window_functions(function, expected):
    pixels = read(WindowCenter=[1000, 7], WindowWidth=[800, 9], VOILUTFunction=function).pixels
    np.testing.assert_allclose(pixels, expected(RAMP.astype(float)) * 65535, atol=0.51)


@pytest.mark.parametrize(
    "window",
    [
        {"WindowWidth": 0},
        {"WindowWidth": 0.5},
        {"WindowWidth": -4, "VOILUTFunction": "SIGMOID"},
        {"WindowWidth": 100, "VOILUTFunction": "OTHER"},
        {"WindowWidth": None},
    ],
)
def test_a_bad_window_is_ignored_with_a_warning(window):
    radiograph = read(WindowCenter=1000, **window)
    assert (radiograph.pixels.min(), radiograph.pixels.max()) == (0, 65535)
    assert any("window is not valid" in warning for warning in radiograph.warnings)


def test_an_empty_window_is_none():
    assert read(WindowCenter="", WindowWidth="").warnings == read().warnings


def test_without_a_window_lowest_to_highest_with_a_warning():
    radiograph = read(RAMP // 2 + 500)
    expected = (RAMP // 2) * (65535 / (RAMP // 2).max())
    np.testing.assert_allclose(radiograph.pixels, expected, atol=0.51)
    assert any("no window" in warning for warning in radiograph.warnings)


def test_8_bits_without_a_window_stay_as_they_are():
    radiograph = read(SMALL // 2 + 20, bits=8)
    np.testing.assert_array_equal(radiograph.pixels, SMALL // 2 + 20)
    assert (radiograph.bits, radiograph.warnings) == (8, ())


@pytest.mark.parametrize("elements", [{"WindowCenter": 2000, "WindowWidth": 3000}, {}])
def test_monochrome1_is_the_negative(elements):
    positive = read(**elements).pixels
    for inverted in (
        {"PhotometricInterpretation": "MONOCHROME1"},
        {"PresentationLUTShape": "INVERSE"},
        {"PhotometricInterpretation": "MONOCHROME1", "PresentationLUTShape": "INVERSE"},
    ):
        np.testing.assert_allclose(read(**elements, **inverted).pixels, 65535.0 - positive, atol=1)


def test_padding_is_black_and_does_not_count():
    pixels = RAMP // 2 + 100
    pixels[:5] = 4000
    for kind in ("MONOCHROME1", "MONOCHROME2"):
        shown = read(pixels, PixelPaddingValue=4000, PhotometricInterpretation=kind).pixels
        assert set(np.unique(shown[:5])) == {0}
        assert (shown[5:].min(), shown[5:].max()) == (0, 65535)
    pixels[0] = 4090
    assert not read(pixels, PixelPaddingValue=4000, PixelPaddingRangeLimit=4095).pixels[:5].any()


@pytest.mark.parametrize("vr, value", [("US", 65536 - 2000), ("SS", -2000)])
def test_padding_is_found_whichever_sign_its_element_has(vr, value):
    pixels = RAMP.astype(np.int16)
    pixels[:5] = -2000
    ds = build(pixels, bits=16)
    ds.add_new("PixelPaddingValue", vr, value)
    shown = read_image(write(ds)).pixels
    assert not shown[:5].any()
    assert (shown[5:].min(), shown[5:].max()) == (0, 65535)
    pixels = RAMP + np.uint16(50_000)
    pixels[:5] = 65536 - 2000
    ds = build(pixels, bits=16)
    ds.add_new("PixelPaddingValue", vr, value)
    assert not read_image(write(ds)).pixels[:5].any()


@pytest.mark.parametrize("pixels, first", [(RAMP.astype(np.int16) - 2048, -2048), (RAMP + np.uint16(40_000), 40_000)])
@pytest.mark.parametrize("keyword", ["VOILUTSequence", "ModalityLUTSequence"])
def test_a_table_is_found_whichever_sign_its_descriptor_has(pixels, first, keyword):
    window = {"WindowCenter": 2048, "WindowWidth": 4096} if keyword == "ModalityLUTSequence" else {}
    for vr, written in (("US", first % 65536), ("SS", (first + 32768) % 65536 - 32768)):
        (item,) = table = build_table(np.arange(4096)[::-1], bits=12)
        item.add_new("LUTDescriptor", vr, [4096, written, 12])
        shown = read(pixels, bits=16, **{keyword: table}, **window).pixels
        np.testing.assert_allclose(shown, (4095 - RAMP) * (65535 / 4095), atol=0.51)


def test_signed_pixels_and_rescaling():
    pixels = RAMP.astype(np.int16) - 1000
    window = {"WindowCenter": 1000.5, "WindowWidth": 2001}
    shown = read(pixels, bits=13, RescaleSlope=0.5, RescaleIntercept=500, **window).pixels
    np.testing.assert_allclose(shown, np.clip((RAMP * 0.5) / 2000, 0, 1) * 65535, atol=1)


@pytest.mark.parametrize("slope", ["0", "1e308"])
@pytest.mark.parametrize("window", [{"WindowCenter": 2048, "WindowWidth": 4096}, {}])
def test_a_rescale_slope_that_leaves_nothing_to_see_is_ignored_with_a_warning(slope, window):
    radiograph, plain = read(RescaleSlope=slope, RescaleIntercept=9, **window), read(**window)
    np.testing.assert_array_equal(radiograph.pixels, plain.pixels)
    assert radiograph.warnings == ("The file's rescale slope is not valid and was ignored.", *plain.warnings)
    assert (radiograph.stored.slope, radiograph.stored.intercept) == (1, 0)


def test_modality_table_then_voi_table():
    modality = build_table(np.arange(4096)[::-1], bits=12)
    shown = read(ModalityLUTSequence=modality, WindowCenter=2048, WindowWidth=4096).pixels
    np.testing.assert_allclose(shown, (4095 - RAMP) * (65535 / 4095), atol=0.51)
    voi = build_table(np.linspace(0, 255, 1001).astype(int), first=1000, bits=8)
    shown = read(VOILUTSequence=voi, WindowCenter=1, WindowWidth=1).pixels  # a table goes before a window
    expected = np.floor(np.clip((RAMP - 1000.0) / 1000, 0, 1) * 255) * 257
    np.testing.assert_allclose(shown, expected, atol=258)
    assert (shown[RAMP < 1000] == 0).all()
    assert (shown[RAMP >= 2000] == 65535).all()


@pytest.mark.parametrize("count", [256, 255, 65536])
def test_a_table_of_8_bits_may_be_packed(count):
    entries = np.arange(count)[::-1] % 256
    item = Dataset()
    item.add_new("LUTDescriptor", "US", [count % 65536, 0, 8])
    item.add_new("LUTData", "OW", entries.astype(np.uint8).tobytes() + bytes(count % 2))
    packed = read(SMALL, bits=8, VOILUTSequence=[item]).pixels
    np.testing.assert_array_equal(packed, entries[np.minimum(SMALL.astype(int), count - 1)])
    np.testing.assert_array_equal(packed, read(SMALL, bits=8, VOILUTSequence=build_table(entries, bits=8)).pixels)


def test_other_data_in_the_unused_bits_is_cleared():
    window = {"WindowCenter": 2048, "WindowWidth": 4096}
    np.testing.assert_array_equal(read(RAMP | 0x8000, **window).pixels, read(**window).pixels)


def test_colour_becomes_luma():
    grey = np.repeat(SMALL[..., None], 3, axis=2)
    np.testing.assert_array_equal(read(grey, bits=8).pixels, SMALL)
    red = np.zeros((40, 40, 3), np.uint8)
    red[..., 0] = 255
    assert set(np.unique(read(red, bits=8).pixels)) == {76}
    ybr = np.full((40, 40, 3), 128, np.uint8)
    ybr[..., 0] = 200
    assert set(np.unique(read(ybr, bits=8, PhotometricInterpretation="YBR_FULL").pixels)) == {200}
    deep = np.repeat(RAMP[..., None], 3, axis=2)
    np.testing.assert_allclose(read(deep, bits=12).pixels, RAMP * (65535 / 4095), atol=1)


def test_palette_colour():
    ds = build(SMALL, bits=8, PhotometricInterpretation="PALETTE COLOR")
    for name in ("Red", "Green", "Blue"):
        ds.add_new(f"{name}PaletteColorLookupTableDescriptor", "US", [256, 0, 16])
        ds.add_new(f"{name}PaletteColorLookupTableData", "OW", (np.arange(256, dtype="<u2") * 200).tobytes())
    np.testing.assert_array_equal(read_image(write(ds)).pixels, SMALL.astype(np.uint16) * 200)


@pytest.mark.parametrize("kind", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize("slope, intercept", [(1, 0), (0.5, 500), (3, -1024)])
def test_what_a_window_clips_is_kept(kind, slope, intercept):
    pixels = RAMP.astype(np.int16) - 700
    elements = {"RescaleSlope": slope, "RescaleIntercept": intercept, "PhotometricInterpretation": kind}
    radiograph = read(pixels, bits=13, WindowCenter=900, WindowWidth=301, **elements)
    stored = radiograph.stored
    np.testing.assert_allclose(stored.values * stored.slope + stored.intercept, pixels * slope + intercept)
    shown = np.clip((stored.values - (stored.centre - 0.5)) / (stored.width - 1) + 0.5, 0, 1)
    np.testing.assert_allclose(1 - shown if stored.inverted else shown, radiograph.pixels / 65535, atol=1e-5)
    assert not stored.values.flags.writeable


@pytest.mark.parametrize("elements", [{}, {"WindowCenter": 9, "WindowWidth": 0}, {"WindowCenter": 9}])
def test_deep_values_without_a_window_are_kept_with_the_window_from_the_lowest_to_the_highest(elements):
    pixels = RAMP.astype(np.int16) - 700
    radiograph = read(pixels, bits=13, RescaleSlope=0.5, RescaleIntercept=20, **elements)
    stored = radiograph.stored
    np.testing.assert_allclose(stored.values * stored.slope + stored.intercept, pixels * 0.5 + 20)
    shown = np.clip((stored.values - (stored.centre - 0.5)) / (stored.width - 1) + 0.5, 0, 1)
    np.testing.assert_allclose(shown, radiograph.pixels / 65535, atol=1e-5)
    assert stored.bits == 13
    assert any("window is not valid" in said for said in radiograph.warnings) == bool(elements)


def test_a_window_of_width_one_is_a_step():
    shown = read(WindowCenter=1000, WindowWidth=1).pixels
    np.testing.assert_array_equal(shown, np.where(RAMP > 999.5, 65535, 0))


def test_values_of_eight_bits_without_a_window_are_shown_as_they_are():
    assert read(SMALL, bits=8).stored is None


@pytest.mark.parametrize(
    "elements",
    [
        {"PixelPaddingValue": 0},
        {"WindowCenter": 9, "WindowWidth": 9, "VOILUTFunction": "SIGMOID"},
        {"WindowCenter": 9, "WindowWidth": 9, "PixelPaddingValue": 0},
        {"WindowCenter": 9, "WindowWidth": 9, "RescaleSlope": -1},
        {"WindowCenter": 9, "WindowWidth": 9, "VOILUTSequence": build_table(np.arange(256))},
    ],
)
def test_values_are_kept_only_where_a_window_alone_makes_them_grey(elements):
    assert read(**elements).stored is None
