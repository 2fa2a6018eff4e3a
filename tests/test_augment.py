import pytest
import torch
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as reference

from xray_models.augment import POLICIES, move


@pytest.mark.parametrize("name", POLICIES)
def test_a_policy_keeps_kind_and_size_and_follows_the_seed(name):
    image = (torch.arange(96 * 80).reshape(1, 96, 80) % 251).to(torch.uint8)
    policy = POLICIES[name]((96, 80))
    torch.manual_seed(3)
    first = [policy(image.clone()) for _ in range(8)]
    torch.manual_seed(3)
    again = [policy(image.clone()) for _ in range(8)]
    for a, b in zip(first, again, strict=True):
        assert a.shape == image.shape
        assert a.dtype == torch.uint8
        assert torch.equal(a, b)
    changed = [not torch.equal(a, image) for a in first]
    kept = {"none": 0, "autoaugment": 1}  # AutoAugment leaves some images as they are
    assert sum(changed) >= kept.get(name, len(changed))
    assert any(changed) == (name != "none")


def test_radiographs_are_not_mirrored():
    """The mean column of the bright side stays on its side, however often it is drawn."""
    image = torch.zeros(1, 64, 64, dtype=torch.uint8)
    image[:, 16:48, 44:60] = 200
    policy = POLICIES["radiograph"]((64, 64))
    torch.manual_seed(0)
    for _ in range(40):
        columns = policy(image)[0].float().sum(dim=0)
        assert columns[32:].sum() > columns[:32].sum()


@pytest.mark.parametrize(
    ("degrees", "shift", "scale", "shear"),
    [
        (0, (0, 0), 1, 0),
        (8, (0, 0), 1, 0),
        (0, (0.05, -0.1), 1, 0),
        (0, (0, 0), 1.1, 0),
        (0, (0, 0), 1, 5),
        (7, (0.05, 0.03), 0.9, 4),
        (-15, (-0.06, 0.02), 1.08, -4),
    ],
)
def test_an_image_is_moved_as_torchvision_moves_it(degrees, shift, scale, shear):
    rough = 255 * torch.rand(1, 1, 12, 10, generator=torch.Generator().manual_seed(0))
    image = torch.nn.functional.interpolate(rough, (120, 100), mode="bilinear")[0].to(torch.uint8)
    wanted = reference.affine(
        image,
        angle=degrees,
        translate=[shift[0] * 100, shift[1] * 120],
        scale=scale,
        shear=[shear, 0.0],
        interpolation=InterpolationMode.BILINEAR,
    )
    moved = move(image, degrees, shift, scale, shear)
    assert moved.dtype == torch.uint8 and moved.shape == image.shape
    assert (moved.int() - wanted.int()).abs().max() <= 1
