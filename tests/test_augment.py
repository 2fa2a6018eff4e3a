import numpy as np
import pytest
import torch
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as reference

from xray_models.augment import AUTO, DRAWS, move, vary
from xray_models.policies import POLICIES, Policy

MOVED = (  # degrees, shift to the right and downwards, scale across and down, shear
    (0, (0, 0), (1, 1), 0),
    (8, (0, 0), (1, 1), 0),
    (0, (0.05, -0.1), (1, 1), 0),
    (0, (0, 0), (1.1, 1.1), 0),
    (0, (0, 0), (1, 1), 5),
    (7, (0.05, 0.03), (0.9, 0.9), 4),
    (-15, (-0.06, 0.02), (1.08, 1.08), -4),
)


def draw(count, seed=0):
    return np.random.default_rng(seed).random((count, DRAWS))


def smooth(count=1, height=120, width=100):
    rough = 255 * torch.rand(count, 1, 12, 10, generator=torch.Generator().manual_seed(0))
    return torch.nn.functional.interpolate(rough, (height, width), mode="bilinear").to(torch.uint8)


def move_all(images, rows):
    degrees, shift, scale, shear = zip(*rows, strict=True)
    pairs = [tuple(np.array(part, float) for part in zip(*both, strict=True)) for both in (shift, scale)]
    return move(images, np.array(degrees, float), *pairs, np.array(shear, float))


@pytest.mark.parametrize("name", POLICIES)
def test_a_policy_keeps_size_and_range_and_follows_each_images_own_numbers(name):
    images, draws = smooth(8, 96, 80), draw(8)
    varied = vary(images, draws, POLICIES[name])
    assert varied.shape == images.shape and varied.dtype == torch.float32
    assert varied.min() >= 0 and varied.max() <= 255
    assert torch.equal(varied, vary(images.clone(), draws, POLICIES[name]))
    for place in (0, 5):  # whatever else is in the batch
        alone = vary(images[place : place + 1], draws[place : place + 1], POLICIES[name])
        assert torch.allclose(alone[0], varied[place], atol=1e-3)
    changed = [float((a - b).abs().max()) > 1 for a, b in zip(varied, images.float(), strict=True)]
    assert all(changed) if name not in ("none", "autoaugment") else not any(changed)
    assert torch.equal(images, smooth(8, 96, 80))  # what is kept for the next epoch is left alone


def test_every_part_has_its_own_random_numbers():
    """Changing one number of the row changes what a policy with everything does."""
    everything = Policy(True, 10, 0.1, (0.8, 1.2), 5, (0.7, 1.0), (0.8, 1.2), 0.2, 0.2, 0.1, 0.5)
    row = np.full((1, DRAWS), 0.3)
    before = vary(smooth(), row, everything)
    for number in range(DRAWS):
        other = row.copy()
        other[0, number] = 0.8
        after = vary(smooth(), other, everything)
        assert not torch.equal(before, after), number


def test_radiographs_are_not_mirrored_and_half_of_the_others_are():
    """The bright side stays on its side, however often it is drawn."""
    images = torch.zeros(200, 1, 64, 64, dtype=torch.uint8)
    images[:, :, 16:48, 44:60] = 200

    def stay(name):
        columns = vary(images, draw(200), POLICIES[name]).sum(dim=(1, 2))
        return (columns[:, 32:].sum(dim=1) > columns[:, :32].sum(dim=1)).float().mean()

    assert stay("radiograph") == 1
    for name in ("light", "covid", "brain"):
        assert stay(name) == pytest.approx(0.5, abs=0.12)


def test_images_are_moved_as_torchvision_moves_them():
    image = smooth()
    moved = move_all(image.expand(len(MOVED), -1, -1, -1), MOVED)
    for (degrees, shift, scale, shear), found in zip(MOVED, moved, strict=True):
        wanted = reference.affine(
            image[0],
            angle=degrees,
            translate=[shift[0] * 100, shift[1] * 120],
            scale=scale[0],
            shear=[shear, 0.0],
            interpolation=InterpolationMode.BILINEAR,
        )
        assert (found - wanted).abs().max() <= 1.01


def test_an_image_is_mirrored_and_stretched_after_it_is_turned():
    (found,) = move_all(smooth(), [(12, (0.1, 0.0), (-1.25, 1.0), 0)])
    turned = reference.affine(smooth()[0].float(), 12, [0, 0], 1.0, [0.0, 0.0], InterpolationMode.BILINEAR)
    part = reference.resized_crop(turned, 0, 10, 120, 80, [120, 100], InterpolationMode.BILINEAR, antialias=False)
    wanted = torch.zeros_like(part)
    wanted[..., 10:] = reference.horizontal_flip(part)[..., :-10]
    near = (found - wanted).abs()[..., 12:] < 3
    assert near.float().mean() > 0.97  # but at the edges, since it is interpolated once in place of twice


@pytest.mark.parametrize("across", [True, False])
@pytest.mark.parametrize(
    ("policy", "number", "reach"),
    [(Policy(shift=0.1), 3, 0.1), (Policy(crop=(0.25, 0.25)), 8, 0.25), (Policy(scale=(0.5, 2.0), shift=0.1), 3, 0.08)],
    ids=["shift", "crop", "shift of the magnified"],
)
def test_images_are_shifted_and_cropped_as_far_as_they_may(policy, number, reach, across):
    """The place that comes to the middle, told by a ramp of grey."""
    ramp = (255 * (torch.arange(101) + 0.5) / 101).expand(101, -1)
    images = (ramp if across else ramp.T)[None, None]
    for drawn, side in ((0.0, 1), (1.0, -1)):
        row = np.full((1, DRAWS), 0.5)
        row[0, number + (not across)] = drawn
        middle = vary(images, row, policy)[0, 0, 50, 50] / 255
        assert middle == pytest.approx(0.5 + side * reach, abs=0.001)


@pytest.mark.parametrize("number", [0.0, 0.25, 0.999])
def test_exposure_is_torchvisions(number):
    row = np.full((1, DRAWS), number)
    row[:, :10] = 0.5
    found = vary(smooth(), row, Policy(brightness=0.4, contrast=0.3))
    wanted = reference.adjust_brightness(smooth()[0] / 255, 1 + 0.4 * (2 * number - 1))
    wanted = reference.adjust_contrast(wanted, 1 + 0.3 * (2 * number - 1))
    assert (found[0] - 255 * wanted).abs().max() < 0.01


def test_a_crop_shows_the_share_of_the_area_that_was_asked_for_and_nothing_from_outside():
    images = torch.full((100, 1, 80, 80), 200, dtype=torch.uint8)
    images[:, :, 39:41] = 0
    found = vary(images, draw(100), Policy(crop=(0.5, 0.5)))
    shown = (found < 100).sum(dim=(1, 2, 3)) / 80  # rows of the line
    assert found.amax(dim=(1, 2, 3)).min() > 199 and found[:, :, [0, -1]].min() >= 0
    assert shown.mean() == pytest.approx(2 / 0.5**0.5, abs=0.4)
    assert (vary(torch.full((100, 1, 80, 80), 200), draw(100), Policy(crop=(0.5, 1.0)))[:, :, 2:-2, 2:-2] > 199).all()


def test_half_of_the_images_get_noise_each_its_own():
    grey = torch.full((400, 1, 48, 48), 128, dtype=torch.uint8)
    noise = vary(grey, draw(400), Policy(noise=0.04)) - 128
    spread = noise.std(dim=(1, 2, 3))
    noisy = spread > 0.01
    assert noisy.float().mean() == pytest.approx(0.5, abs=0.08)
    assert spread.max() <= 0.04 * 255 * 1.1 and spread[noisy].mean() == pytest.approx(0.02 * 255, rel=0.15)
    shapes = (noise[noisy] / spread[noisy][:, None, None, None]).flatten(1)
    alike = torch.corrcoef(shapes[:40])
    assert (alike - torch.eye(40)).abs().max() < 0.2
    assert shapes.abs().lt(1).float().mean() == pytest.approx(0.683, abs=0.01)  # Gaussian


def test_a_rectangle_is_cut_out_of_the_share_that_was_asked_for():
    grey = torch.full((400, 1, 60, 60), 100, dtype=torch.uint8)
    holes = (vary(grey, draw(400), Policy(cut=0.25)) == 0).float()
    area = holes.mean(dim=(1, 2, 3))
    assert (area > 0).float().mean() == pytest.approx(0.25, abs=0.07)
    assert area[area > 0].min() > 0.015 and area.max() < 0.115
    rows, columns = holes.amax(dim=3).sum(dim=(1, 2)), holes.amax(dim=2).sum(dim=(1, 2))
    assert torch.equal(rows * columns, holes.sum(dim=(1, 2, 3)))


def test_autoaugment_takes_a_grey_image():
    torch.manual_seed(0)
    changed = [AUTO(smooth()[0]) for _ in range(8)]
    assert all(image.shape == (1, 120, 100) and image.dtype == torch.uint8 for image in changed)
    assert any(not torch.equal(image, smooth()[0]) for image in changed)
