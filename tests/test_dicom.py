import io
import logging
import os
import random
import warnings
import zlib
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom import uid

from tests.dicom_samples import (
    COMPRESSED,
    RAMP,
    SECRET,
    SMALL,
    build,
    build_jpeg,
    build_table,
    compress,
    read,
    wrap,
    write,
)
from xray_models.dicom import NEEDED
from xray_models.images import (
    ImageError,
    OversizedImage,
    Radiograph,
    TruncatedImage,
    UnsupportedImage,
    read_image,
)

pytestmark = pytest.mark.filterwarnings("ignore:::pydicom")  # on damaged files

DATA = Path(os.environ.get("XRAY_DATA", "data")) / "cxr_extra" / "dicom"


def test_metadata_holds_short_codes_only():
    radiograph = read(Modality="DX", BodyPartExamined="CHEST", ViewPosition="PA", PixelSpacing=[0.2, 0.2])
    assert radiograph.metadata == {
        "modality": "DX",
        "body_part": "CHEST",
        "view": "PA",
        "photometric_interpretation": "MONOCHROME2",
        "spacing_mm": (0.2, 0.2),
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        radiograph = read(BodyPartExamined="Chest of Jane", Modality="A" * 17, PixelSpacing=[0, 0.2])
    assert radiograph.metadata == {"photometric_interpretation": "MONOCHROME2"}


@pytest.mark.parametrize(
    ("own", "imager", "calibration", "at_detector"),
    [
        (None, [0.2, 0.2], None, True),
        ([0.2, 0.2], None, None, False),
        ([0.2, 0.2], [0.2, 0.2], None, True),
        ([0.2, 0.2], ["0.200", "0.20"], None, True),
        ([0.2, 0.2], [0.2, 0.2], "FIDUCIAL", False),
        ([0.18, 0.18], [0.2, 0.2], None, False),
    ],
)
def test_a_spacing_says_whether_it_is_the_detectors(own, imager, calibration, at_detector):
    elements = {"PixelSpacing": own, "ImagerPixelSpacing": imager, "PixelSpacingCalibrationType": calibration}
    found = read(**{name: value for name, value in elements.items() if value}).metadata
    assert found["spacing_mm"] == tuple(own or imager)
    assert found.get("spacing_at_detector", False) is at_detector


@pytest.mark.parametrize("elements", [{"PixelSpacing": [0.1, 0.2]}, {"PixelAspectRatio": [2, 1]}])
def test_oblong_pixels_are_warned_of(elements):
    assert any("not square" in warning for warning in read(**elements).warnings)


def test_the_first_of_several_frames_is_read():
    frames = np.stack([RAMP, 4095 - RAMP])
    ds = build(RAMP, NumberOfFrames=2, WindowCenter=2048, WindowWidth=4096)
    ds.PixelData = frames.tobytes()
    radiograph = read_image(write(ds))
    np.testing.assert_array_equal(radiograph.pixels, read(WindowCenter=2048, WindowWidth=4096).pixels)
    assert any("several frames" in warning for warning in radiograph.warnings)


@pytest.mark.parametrize("syntax", COMPRESSED, ids=lambda syntax: syntax.name)
def test_lossless_compression(syntax):
    data = compress(syntax)
    assert pydicom.dcmread(io.BytesIO(data)).file_meta.TransferSyntaxUID == syntax
    np.testing.assert_array_equal(read_image(data).pixels, read(WindowCenter=2048, WindowWidth=4096).pixels)


@pytest.mark.parametrize("syntax", COMPRESSED, ids=lambda syntax: syntax.name)
def test_compressed_signed_pixels(syntax):
    pixels, window = RAMP.astype(np.int16) - 2048, {"WindowCenter": 0, "WindowWidth": 4096}
    expected = read(pixels, **window).pixels
    np.testing.assert_array_equal(read_image(compress(syntax, pixels, **window)).pixels, expected)


def test_12_bit_jpeg():
    pixels = read_image(compress(uid.JPEGExtended12Bit)).pixels
    np.testing.assert_allclose(pixels, RAMP * (65535 / 4095), atol=16 * 30)


def test_baseline_jpeg():
    assert np.abs(read_image(build_jpeg()).pixels.astype(int) - SMALL).max() <= 4


def test_a_frame_of_another_size_than_the_header_says_is_not_decoded():
    with pytest.raises(TruncatedImage, match="another size"):
        read_image(build_jpeg(rows=50))


@pytest.mark.parametrize("syntax", [uid.ImplicitVRLittleEndian, uid.ExplicitVRBigEndian])
def test_native_syntaxes(syntax):
    ds = build(WindowCenter=2048, WindowWidth=4096)
    if syntax == uid.ExplicitVRBigEndian:
        ds.PixelData = RAMP.astype(">u2").tobytes()
    ds.file_meta.TransferSyntaxUID = syntax
    np.testing.assert_array_equal(read_image(write(ds)).pixels, read(WindowCenter=2048, WindowWidth=4096).pixels)


@pytest.mark.parametrize("implicit", [True, False])
def test_files_without_a_header(implicit):
    ds = build(WindowCenter=2048, WindowWidth=4096)
    expected = read_image(write(ds)).sha256
    del ds.file_meta
    data = write(ds, implicit_vr=implicit, little_endian=True, enforce_file_format=False)
    assert data[:2] == b"\x08\x00"
    assert read_image(data).sha256 == expected


def test_a_syntax_that_is_not_decoded_is_named():
    with pytest.raises(UnsupportedImage, match=r"MPEG2.*1\.2\.840\.10008\.1\.2\.4\.100"):
        read_image(wrap(b"\x00\x00\x01\xb3", build(), uid.MPEG2MPML))
    with pytest.raises(UnsupportedImage, match="unknown") as raised:
        data = wrap(b"1234", build(), uid.RLELossless)
        read_image(data.replace(b"1.2.840.10008.1.2.5", b"1.2.840.10008.4567X"))
    assert "4567" not in str(raised.value)


def test_deflated_files_are_refused_before_inflating():
    ds = build()
    ds.file_meta.TransferSyntaxUID = uid.DeflatedExplicitVRLittleEndian
    data = write(ds)
    body = zlib.compressobj(wbits=-15)
    bomb = data[:400] + body.compress(bytes(10_000_000)) + body.flush()
    for content in (data, bomb):
        with pytest.raises(UnsupportedImage, match="Deflated"):
            read_image(content)


def test_files_without_a_picture_are_refused():
    ds = build()
    del ds.PixelData
    with pytest.raises(UnsupportedImage, match="no picture"):
        read_image(write(ds))


def test_the_pixel_limit_is_checked_before_decoding():
    with pytest.raises(OversizedImage, match="4,294,836,225"):
        read(Rows=65535, Columns=65535)


def test_frames_have_a_limit_of_their_own():
    for frames in (1_000_000, -2):
        with pytest.raises(OversizedImage, match=f"holds {frames:,} frames"):
            read(NumberOfFrames=frames)
    ds = build(RAMP, NumberOfFrames=200, WindowCenter=2048, WindowWidth=4096)
    ds.PixelData = RAMP.tobytes() * 200
    shown = read_image(write(ds), max_pixels=RAMP.size).pixels
    np.testing.assert_array_equal(shown, read(WindowCenter=2048, WindowWidth=4096).pixels)


def test_values_that_do_not_lie_in_the_lowest_bits_are_refused():
    with pytest.raises(UnsupportedImage, match="end at bit 15, not at bit 11"):
        read(RAMP << 4, HighBit=15)


@pytest.mark.parametrize(
    "elements",
    [
        {"Rows": 0},
        {"Columns": 41},
        {"BitsStored": 17},
        {"BitsStored": 0},
        {"SamplesPerPixel": 2},
    ],
)
def test_contradictory_headers_are_refused(elements):
    with pytest.raises(ImageError):
        read(**elements)


@pytest.mark.parametrize("keyword", NEEDED)
def test_a_picture_without_what_its_pixels_need_is_refused_by_name(keyword):
    ds = build()
    delattr(ds, keyword)
    with pytest.raises(TruncatedImage, match=f"does not say its {keyword}, without"):
        read_image(write(ds))


@pytest.mark.parametrize("kind", ["MONOCHROME3", "XYB", "YBR_PARTIAL_420"])
def test_unknown_photometric_interpretations_are_refused(kind):
    with pytest.raises(ImageError):
        read(PhotometricInterpretation=kind)


def list_samples():
    samples = {syntax.name: compress(syntax) for syntax in COMPRESSED}
    native = build(WindowCenter=2048, WindowWidth=4096, VOILUTSequence=build_table(range(4096), bits=12))
    return samples | {"native": write(native), "JPEG": build_jpeg()}


@pytest.mark.parametrize("part", [0.2, 0.6, 0.9, 0.98])
def test_truncated_files_are_refused(part):
    for name, data in list_samples().items():
        # A cut between two elements of the header looks like a file without a picture.
        with pytest.raises(TruncatedImage if part > 0.5 else ImageError):
            assert not read_image(data[: int(len(data) * part)]), name


def test_damaged_files_give_a_picture_or_an_image_error_without_patient_data(caplog):
    generator = random.Random(0)
    for original in list_samples().values():
        for _ in range(150):
            data = bytearray(original)
            for _ in range(generator.choice([1, 3, 20])):
                data[generator.randrange(132, len(data))] = generator.randrange(256)
            try:
                assert isinstance(read_image(bytes(data), max_pixels=1_000_000), Radiograph)
            except ImageError as error:
                assert "Jane" not in str(error)
    assert "Jane" not in caplog.text


def test_nothing_from_the_file_reaches_logs_or_warnings(caplog, recwarn):
    caplog.set_level(logging.DEBUG)
    data = write(build(Modality="DX", WindowCenter=2048, WindowWidth=4096))
    data = data.replace(b"LO\x08\x00" + SECRET.encode(), b"DS\x08\x00" + SECRET.encode())
    read_image(data.replace(b"CS\x02\x00DX", b"CS\x02\x00\xe9\xe9"))
    for start in range(132, len(data), 37):
        try:
            read_image(data[:start] + b"\xff\xff" + data[start + 2 :])
        except ImageError as error:
            assert "Jane" not in str(error)
    assert "Jane" not in caplog.text
    assert not [warning for warning in recwarn if "Jane" in str(warning.message)]


@pytest.mark.data
def test_published_files():
    if not DATA.is_dir():
        pytest.skip("needs cxr_extra/dicom under $XRAY_DATA")
    shapes, pictures = {}, {}
    for path in sorted(DATA.glob("*.dcm")):
        radiograph = read_image(path)
        name = "_".join(path.name.split("_")[:3])
        pictures[name] = radiograph.pixels / (2**radiograph.bits - 1)
        shapes[name] = (radiograph.pixels.shape, radiograph.bits)
    assert shapes == {
        "ankle_RG3_J2KR": ((1760, 1760), 16),
        "ankle_RG3_RLE": ((1760, 1760), 16),
        "chest_CR-MONO1-10-chest_monochrome1": ((440, 440), 16),
        "chest_RG1_J2KI": ((1955, 1841), 16),
        "chest_RSNA_FAKE": ((1024, 1024), 8),
        "chest_RSNA_monochrome2": ((1024, 1024), 8),
        "hip_RG2_J2KI": ((2140, 1760), 16),
        "hip_RG2_JPLY": ((2140, 1760), 16),
    }
    np.testing.assert_array_equal(pictures["ankle_RG3_J2KR"], pictures["ankle_RG3_RLE"])
    np.testing.assert_allclose(pictures["hip_RG2_JPLY"].mean(), pictures["hip_RG2_J2KI"].mean(), atol=0.01)
    np.testing.assert_allclose(pictures["chest_RSNA_FAKE"], 1 - pictures["chest_RSNA_monochrome2"])
    for name, picture in pictures.items():
        if name.startswith("chest"):
            height, width = picture.shape
            middle = slice(int(0.35 * height), int(0.5 * height))
            lung = picture[middle, int(0.2 * width) : int(0.35 * width)].mean()
            spine = picture[middle, int(0.47 * width) : int(0.53 * width)].mean()
            assert (lung < spine) == ("FAKE" not in name), name
