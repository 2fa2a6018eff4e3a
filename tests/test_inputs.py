import io
import tracemalloc

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from timm.data.transforms_factory import transforms_imagenet_eval
from transformers import ViTImageProcessor

from xray_models.images import (
    InputSpec,
    OversizedImage,
    encode_png,
    from_input,
    from_pixels,
    normalise,
    to_input,
    to_uint8,
)

IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
FITS = [{"fit": "squash"}, {"fit": "crop"}, {"fit": "crop", "crop": 0.875}, {"fit": "pad"}]


def paint(height, width):
    """A smooth picture with some noise."""
    y, x = np.mgrid[:height, :width]
    wave = 110 + 60 * np.sin(x / 17) + 50 * np.cos(y / 23)
    noise = np.random.default_rng(height * width).normal(0, 12, wave.shape)
    return from_pixels(np.clip(wave + noise, 0, 255).astype(np.uint8))


def open_rgb(radiograph):
    return Image.open(io.BytesIO(encode_png(radiograph))).convert("RGB")


@pytest.mark.parametrize("shape", [(512, 512), (301, 433), (1100, 640), (120, 97)])
@pytest.mark.parametrize("resample, code", [("bilinear", 2), ("bicubic", 3)])
def test_squash_equals_the_vit_image_processor(shape, resample, code):
    spec = InputSpec(resample=resample, **IMAGENET)
    processor = ViTImageProcessor(
        size={"height": 224, "width": 224}, resample=code, image_mean=spec.mean, image_std=spec.std
    )
    radiograph = paint(*shape)
    theirs = processor(open_rgb(radiograph), return_tensors="pt")["pixel_values"][0]
    difference = (to_input(radiograph, spec) - theirs).abs() * torch.tensor(spec.std).view(3, 1, 1)
    assert difference.max() <= 1.001 / 255


@pytest.mark.parametrize("shape", [(512, 512), (301, 433), (1100, 640), (120, 97), (225, 1000)])
@pytest.mark.parametrize("size", [(224, 224), (160, 224)])
@pytest.mark.parametrize(
    "fit, crop, mode",
    [("squash", 1.0, "squash"), ("squash", 0.95, "squash"), ("crop", 0.875, "center"), ("crop", 1.0, "center")],
)
def test_input_equals_timm(shape, size, fit, crop, mode):
    spec = InputSpec(*size, fit=fit, crop=crop, **IMAGENET)
    transform = transforms_imagenet_eval(
        img_size=size, crop_pct=crop, crop_mode=mode, interpolation="bicubic", mean=spec.mean, std=spec.std
    )
    radiograph = paint(*shape)
    theirs = transform(open_rgb(radiograph))
    difference = (to_input(radiograph, spec) - theirs).abs() * torch.tensor(spec.std).view(3, 1, 1)
    assert difference.max() <= 1.001 / 255


def test_to_input_is_normalise_of_to_uint8():
    radiograph = paint(300, 200)
    for spec in (InputSpec(), InputSpec(96, 64, mean=(0.2,), std=(0.7,), fit="pad", resample="lanczos")):
        pixels = to_uint8(radiograph, spec)
        assert pixels.shape == (spec.height, spec.width)
        assert pixels.dtype == np.uint8
        made = to_input(radiograph, spec)
        assert made.shape == (len(spec.mean), spec.height, spec.width)
        assert made.dtype == torch.float32
        assert torch.equal(made, normalise(pixels, spec))
        by_hand = (pixels / 255 - spec.mean[0]) / spec.std[0]
        np.testing.assert_allclose(made[0].numpy(), by_hand, atol=1e-6)


def test_normalise_keeps_leading_axes():
    batch = np.random.default_rng(0).integers(0, 256, (4, 2, 8, 6), dtype=np.uint8)
    spec = InputSpec(8, 6, **IMAGENET)
    made = normalise(batch, spec)
    assert made.shape == (4, 2, 3, 8, 6)
    assert torch.equal(made, normalise(torch.from_numpy(batch), spec))
    assert torch.equal(made[3, 1], normalise(batch[3, 1], spec))


def test_16_bits_are_scaled_to_8_first():
    shallow = paint(150, 170)
    deep = from_pixels(shallow.pixels.astype(np.uint16) * 257)
    np.testing.assert_array_equal(to_uint8(deep, InputSpec()), to_uint8(shallow, InputSpec()))


def test_pad_keeps_the_aspect_on_black():
    pixels = to_uint8(from_pixels(np.full((400, 200), 90, np.uint8)), InputSpec(fit="pad"))
    assert set(np.unique(pixels[:, 56:168])) == {90}
    assert set(np.unique(pixels[:, :56])) == set(np.unique(pixels[:, 168:])) == {0}


@given(st.integers(1, 90), st.integers(1, 90), st.sampled_from(FITS), st.integers(1, 40), st.integers(1, 40))
@settings(max_examples=150, deadline=None)
def test_every_shape_fits(height, width, fit, rows, columns):
    spec = InputSpec(rows, columns, **fit)
    flat = from_pixels(np.full((height, width), 100, np.uint8))
    pixels = to_uint8(flat, spec)
    assert pixels.shape == (rows, columns)
    assert set(np.unique(pixels)) <= ({0, 100} if spec.fit == "pad" else {100})
    back = from_input(np.ones((7, 5)), (height, width), spec)
    assert back.shape == (height, width)
    assert back.dtype == np.float32
    assert np.all(np.isclose(back, 1) | ((back == 0) & (spec.fit == "crop")))


@pytest.mark.parametrize("fit", FITS, ids=str)
@pytest.mark.parametrize("shape", [(224, 224), (301, 433), (999, 501), (150, 75), (60, 900), (2000, 130)])
@pytest.mark.parametrize("cells", [224, 112, 75])
def test_a_spot_comes_back_to_its_place(fit, shape, cells):
    spec = InputSpec(224, 200, **fit)
    y, x = np.mgrid[: shape[0], : shape[1]]
    centre = (shape[0] / 2 - 0.05 * min(shape), shape[1] / 2 + 0.03 * min(shape))
    reach = 0.08 * min(shape)
    spot = 255 * np.exp(-(((y - centre[0]) / reach) ** 2 + ((x - centre[1]) / reach) ** 2) / 2)
    plane = to_uint8(from_pixels(np.rint(spot).astype(np.uint8)), spec).astype(np.float32)
    small = np.asarray(Image.fromarray(plane).resize((cells, cells), Image.Resampling.BOX))
    back = from_input(small, shape, spec)
    found = (np.sum(back * y) / back.sum(), np.sum(back * x) / back.sum())
    cell = max(*shape, 224) / cells  # in image pixels
    np.testing.assert_allclose(found, centre, atol=0.25 * cell)


def test_a_strip_of_a_million_pixels_needs_little_memory():
    tracemalloc.start()
    heatmap = np.random.default_rng(0).random((224, 224)).astype(np.float32)
    for shape in ((1, 1_000_000), (1_000_000, 1)):
        laid = from_input(heatmap, shape, InputSpec())
        assert laid.shape == shape and 0.4 < laid.mean() < 0.6
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 100e6


def test_identity_when_nothing_changes():
    heatmap = np.random.default_rng(0).normal(size=(50, 40)).astype(np.float32)
    for fit in FITS[:2] + FITS[3:]:
        np.testing.assert_allclose(from_input(heatmap, (50, 40), InputSpec(50, 40, **fit)), heatmap, atol=1e-6)


def test_bilinear_between_pixel_centres_as_torch_does():
    heatmap = np.random.default_rng(0).normal(size=(7, 9)).astype(np.float32)
    expected = torch.nn.functional.interpolate(
        torch.from_numpy(heatmap)[None, None], size=(301, 433), mode="bilinear", align_corners=False
    )
    np.testing.assert_allclose(from_input(heatmap, (301, 433), InputSpec()), expected[0, 0].numpy(), atol=1e-5)


@pytest.mark.parametrize("fit", FITS[1:3], ids=str)
def test_what_the_model_never_saw_is_zero(fit):
    spec = InputSpec(**fit)
    shape = (224, 448)
    back = from_input(np.ones((7, 7)), shape, spec)
    for place in range(0, 448, 7):
        marked = np.zeros(shape, np.uint8)
        marked[:, place : place + 7] = 255
        seen = to_uint8(from_pixels(marked), spec).max() > 128
        assert seen == (back[112, place : place + 7].mean() > 0.5), place


@pytest.mark.parametrize("heatmap", [np.ones((3, 4, 5)), np.full((4, 4), np.nan)])
def test_from_input_refuses_what_is_no_heatmap(heatmap):
    with pytest.raises(ValueError, match="heatmap"):
        from_input(heatmap, (50, 50), InputSpec())


def test_a_strip_is_not_blown_up():
    strip = from_pixels(np.zeros((1, 40_000), np.uint8))
    with pytest.raises(OversizedImage, match="40000 × 1"):
        to_uint8(strip, InputSpec(fit="crop"))
    assert to_uint8(strip, InputSpec()).shape == (224, 224)


@pytest.mark.parametrize(
    "values",
    [
        {"height": 0},
        {"width": 2.5},
        {"mean": (0.5, 0.5)},
        {"std": (0.5, 0.5, 0)},
        {"std": (0.5,)},
        {"resample": "cubic"},
        {"fit": "stretch"},
        {"crop": 1.2},
        {"crop": 0},
    ],
)
def test_a_spec_names_the_value_that_is_wrong(values):
    with pytest.raises(ValueError, match=next(iter(values))):
        InputSpec(**values)


def test_equal_specs_share_a_hash():
    assert len({InputSpec(), InputSpec(mean=[0.5, 0.5, 0.5]), InputSpec(fit="pad")}) == 2
