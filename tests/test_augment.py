import pytest
import torch

from xray_models.augment import POLICIES


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
