import dataclasses

import numpy as np
import pytest
from scipy import ndimage

from evaluation.perturbations import PERTURBATIONS
from xray_models.images import from_pixels
from xray_models.phantom import draw_phantom

KEPT = {"format": "DICOM", "warnings": ("A note.",), "metadata": {"modality": "DX"}}


@pytest.fixture(scope="module", params=[8, 16])
def radiograph(request):
    pixels = draw_phantom("Nodule", 3, size=160).pixels[:120]
    if request.param == 16:
        fine = np.random.default_rng(0).integers(0, 257, pixels.shape)
        pixels = (pixels * 257.0 * 255 / 256 + fine).clip(0, 65535).astype(np.uint16)
    return dataclasses.replace(from_pixels(pixels), **KEPT)


def distance(one, other):
    return np.sqrt(((one.pixels.astype(float) - other.pixels) ** 2).mean()) / (2**one.bits - 1)


@pytest.mark.parametrize("name", PERTURBATIONS)
def test_strength_0_is_the_image_itself(name, radiograph):
    assert PERTURBATIONS[name](radiograph, 0, seed=1) is radiograph


@pytest.mark.parametrize("name", PERTURBATIONS)
def test_more_strength_is_further_from_the_image(name, radiograph):
    way = PERTURBATIONS[name]
    assert len(way.strengths) == 5
    for seed in (0, 1, 2):
        far = [distance(way(radiograph, strength, seed), radiograph) for strength in (0, *way.strengths)]
        assert far == sorted(far), (name, seed, far)
        assert far[-1] > 1.5 * far[2] > 0
        assert far[-1] > 0.01


@pytest.mark.parametrize("name", PERTURBATIONS)
def test_shape_depth_and_metadata_stay(name, radiograph):
    way = PERTURBATIONS[name]
    changed = way(radiograph, way.strengths[2], seed=1)
    assert changed.pixels.shape == radiograph.pixels.shape
    assert changed.pixels.dtype == radiograph.pixels.dtype
    assert changed.bits == radiograph.bits
    assert {key: getattr(changed, key) for key in KEPT} == KEPT
    assert changed.sha256 == from_pixels(changed.pixels).sha256 != radiograph.sha256


@pytest.mark.parametrize("name", PERTURBATIONS)
def test_the_seed_decides(name, radiograph):
    way = PERTURBATIONS[name]
    found = {way(radiograph, way.strengths[3], seed).sha256 for seed in (1, 1, 2, 3, 4, 5)}
    expected = {"noise": 5, "exposure": 2, "rotation": 2}
    assert len(found) == expected.get(name, 1)


@pytest.mark.parametrize("name", PERTURBATIONS)
def test_8_and_16_bits_are_changed_alike(name):
    pixels = draw_phantom("Effusion", 5, size=128).pixels
    way = PERTURBATIONS[name]
    for strength in way.strengths[1::2]:
        low = way(from_pixels(pixels), strength, seed=4).pixels
        high = way(from_pixels(pixels.astype(np.uint16) * 257), strength, seed=4).pixels
        assert np.abs(high / 257 - low).max() <= 0.51


def test_noise_has_the_said_deviation():
    grey = from_pixels(np.full((200, 200), 30000, dtype=np.uint16))
    found = PERTURBATIONS["noise"](grey, 0.04, seed=0).pixels.astype(float)
    assert found.std() / 65535 == pytest.approx(0.04, rel=0.02)
    assert found.mean() == pytest.approx(30000, rel=0.01)


def test_blur_and_resolution_scale_with_the_image():
    small = draw_phantom("Normal", 2, size=128).pixels
    large = small.repeat(2, axis=0).repeat(2, axis=1)
    for name, strength in (("blur", 0.02), ("resolution", 0.04)):
        one, other = (PERTURBATIONS[name](from_pixels(pixels), strength).pixels for pixels in (small, large))
        shrunk = other.reshape(128, 2, 128, 2).mean(axis=(1, 3))
        assert np.abs(shrunk - one).mean() < 3, name


def test_blur_is_a_gaussian_of_the_side():
    pixels = np.zeros((101, 201), dtype=np.uint16)
    pixels[50, 100] = 65535
    found = PERTURBATIONS["blur"](from_pixels(pixels), 0.02).pixels / 65535
    expected = ndimage.gaussian_filter((pixels / 65535).astype(float), 2.02)
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_exposure_contrast_and_rotation_do_what_they_say():
    pixels = draw_phantom("Normal", 1, size=96).pixels.clip(60, 190)
    image = from_pixels(pixels)
    shift = PERTURBATIONS["exposure"](image, 0.2, seed=1).pixels.astype(float) - pixels
    assert abs(shift.mean()) == pytest.approx(51)
    assert shift.std() == 0
    flat = PERTURBATIONS["contrast"](image, 0.6).pixels.astype(float)
    assert flat.std() == pytest.approx(0.4 * pixels.std(), rel=0.02)
    assert flat.mean() == pytest.approx(pixels.mean(), abs=0.6)
    turned = {PERTURBATIONS["rotation"](image, 90, seed).sha256 for seed in range(6)}
    assert turned == {from_pixels(np.rot90(pixels, k)).sha256 for k in (1, 3)}


def test_a_negative_strength_is_refused(radiograph):
    with pytest.raises(ValueError, match=r"strength -0\.1 of Noise is negative; give 0 or more"):
        PERTURBATIONS["noise"](radiograph, -0.1)


def test_strengths_are_said_as_people_read_them():
    said = [way.say(way.strengths[0]) for way in PERTURBATIONS.values()]
    plain = [text.replace("\N{NO-BREAK SPACE}", " ") for text in said]
    assert plain == ["1 %", "0.25 %", "5 %", "20 %", "2°", "quality 70", "1 %"]
