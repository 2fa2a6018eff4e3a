"""Augmentation policies by name, without torch. A new policy is one entry of `POLICIES`."""

from __future__ import annotations

from typing import NamedTuple


class Policy(NamedTuple):
    """How much an image varies from epoch to epoch; what goes to either side is given as the most on one.

    Attributes:
        flip: whether half of the images are mirrored, left and right.
        degrees: of rotation.
        shift: in each direction, as a share of the side.
        scale: least and largest magnification.
        shear: of the rows, in degrees.
        crop: least and largest share of the area that is seen, enlarged to the whole.
        ratio: least and largest ratio of such a part's width to its height, as a share of the image's own.
        brightness: all grey levels are multiplied by 1 plus or minus at most this.
        contrast: the same for their distances from the mean level.
        noise: half of the images get Gaussian noise of at most this standard deviation, as a share of full scale.
        cut: share of the images in which a rectangle of 2 to 10 % of the area is set to 0.
        auto: whether each image goes through AutoAugment's ImageNet policy first (Cubuk et al., 2019).
    """

    flip: bool = False
    degrees: float = 0.0
    shift: float = 0.0
    scale: tuple[float, float] = (1.0, 1.0)
    shear: float = 0.0
    crop: tuple[float, float] = (1.0, 1.0)
    ratio: tuple[float, float] = (1.0, 1.0)
    brightness: float = 0.0
    contrast: float = 0.0
    noise: float = 0.0
    cut: float = 0.0
    auto: bool = False


POLICIES: dict[str, Policy] = {
    "none": Policy(),
    # Flips and little else: for a pretrained network and a few epochs. Only where no label depends on the side.
    "light": Policy(flip=True, degrees=6, shift=0.04, scale=(0.95, 1.08), brightness=0.08, contrast=0.1),
    # Small changes of position and exposure, as between two visits, noise, and cut-out. No flips: a mirrored chest is
    # another finding (situs inversus), and side markers would read backwards.
    "radiograph": Policy(
        degrees=8, shift=0.06, scale=(0.9, 1.1), shear=4, brightness=0.2, contrast=0.25, noise=0.04, cut=0.25
    ),
    # The COVID project's: rotation, flips, resized crops and exposure. Flips, since none of its four labels depends on
    # the side: viral and bacterial opacities come on both.
    "covid": Policy(flip=True, degrees=20, crop=(0.75, 1.0), ratio=(0.9, 1.1), brightness=0.2, contrast=0.25),
    # Shift, scale and rotation, brightness and contrast, and left-right flips: a slice has no side that matters.
    "brain": Policy(flip=True, degrees=15, shift=0.06, scale=(0.9, 1.1), brightness=0.15, contrast=0.15),
    "autoaugment": Policy(auto=True),
}
"""Name to policy."""
