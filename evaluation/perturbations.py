"""Seven ways to make a radiograph worse, each with five strengths: a new one is an entry of `PERTURBATIONS`.

They work on the radiograph itself, before any model's preparation. Their strengths are shares of its window, its side
or its quality, so that they mean the same for every size and depth.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from io import BytesIO

import numpy as np
from PIL import Image
from scipy import ndimage

from evaluation.samples import with_pixels
from xray_models.images import Radiograph, read_image

Change = Callable[[np.ndarray, float, np.random.Generator], np.ndarray]


@dataclasses.dataclass(frozen=True)
class Perturbation:
    """One way to make a radiograph worse.

    Attributes:
        title: what it is called.
        unit: what its strength counts.
        strengths: five, growing; 0 leaves the image as it is.
        change: `((H, W) float32 in [0, 1], strength, rng) -> (H, W)`; what lies outside [0, 1] is clipped.
        show: a strength as people read it, a bare number.
        phrase: what stands around that number in a table or a sentence.
    """

    title: str
    unit: str
    strengths: tuple[float, ...]
    change: Change
    show: Callable[[float], str]
    phrase: str

    def __call__(self, radiograph: Radiograph, strength: float, seed: int = 0) -> Radiograph:
        """Perturbs a radiograph; shape, depth and metadata stay.

        Args:
            radiograph: 8 or 16 bits; its window is its whole range of grey.
            strength: in `unit`, 0 for none.
            seed: of what is random. The same seed perturbs in the same way, only more at a larger strength.

        Raises:
            ValueError: for a negative strength.
        """
        if strength < 0:
            raise ValueError(f"strength {strength:g} of {self.title} is negative; give 0 or more, in {self.unit}.")
        if strength == 0:
            return radiograph
        top = 2**radiograph.bits - 1
        window = radiograph.pixels.astype(np.float32) / top
        return with_pixels(radiograph, self.change(window, strength, np.random.default_rng(seed)) * top)

    def say(self, strength: float) -> str:
        """A strength as people read it, in a table or a sentence."""
        return self.phrase.format(self.show(strength))


def _add_noise(window: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    return window + strength * rng.standard_normal(window.shape, dtype=np.float32)


def _blur(window: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    return ndimage.gaussian_filter(window, strength * min(window.shape), mode="nearest")


def _expose(window: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    return window + strength * rng.choice((-1, 1))


def _flatten(window: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    return window + strength * (window.mean() - window)


def _rotate(window: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    plane = Image.fromarray(window)
    return np.asarray(plane.rotate(strength * rng.choice((-1, 1)), Image.Resampling.BICUBIC))


def _compress(window: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    file = BytesIO()
    Image.fromarray(np.rint(255 * window).astype(np.uint8)).save(file, "JPEG", quality=round(100 - strength))
    return read_image(file.getvalue()).pixels.astype(np.float32) / 255


def _coarsen(window: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    ratio = strength * min(window.shape)  # pixels that become one
    if ratio <= 1:
        return window
    height, width = window.shape
    size = (max(1, round(width / ratio)), max(1, round(height / ratio)))
    small = Image.fromarray(window).resize(size, Image.Resampling.BOX)
    return np.asarray(small.resize((width, height), Image.Resampling.BILINEAR))


def _show_percent(strength: float) -> str:
    return f"{100 * strength:.3g}"


def _show_degrees(strength: float) -> str:
    return f"{strength:g}"


def _show_quality(strength: float) -> str:
    return f"{100 - strength:g}" if strength else "none"


_PERCENT: tuple[Callable[[float], str], str] = (_show_percent, "{}\N{NO-BREAK SPACE}%")

PERTURBATIONS: dict[str, Perturbation] = {
    "noise": Perturbation(
        "Noise", "standard deviation, % of the window", (0.01, 0.02, 0.04, 0.08, 0.16), _add_noise, *_PERCENT
    ),
    "blur": Perturbation(
        "Blur", "standard deviation, % of the side", (0.0025, 0.005, 0.01, 0.02, 0.04), _blur, *_PERCENT
    ),
    "exposure": Perturbation(
        "Exposure", "brighter or darker, % of the window", (0.05, 0.1, 0.2, 0.3, 0.4), _expose, *_PERCENT
    ),
    "contrast": Perturbation("Contrast", "contrast lost, %", (0.2, 0.4, 0.6, 0.8, 0.9), _flatten, *_PERCENT),
    "rotation": Perturbation("Rotation", "degrees, to either side", (2, 4, 8, 16, 32), _rotate, _show_degrees, "{}°"),
    "jpeg": Perturbation("JPEG", "JPEG quality", (30, 50, 70, 85, 95), _compress, _show_quality, "quality {}"),
    "resolution": Perturbation(
        "Lower resolution", "size of a pixel, % of the side", (0.01, 0.015, 0.02, 0.03, 0.04), _coarsen, *_PERCENT
    ),
}
"""Name to perturbation. JPEG's strength is 100 less its quality.

The seed draws the noise, and the side to which exposure and rotation go. Exposure adds a grey level to all pixels,
contrast draws them towards the image's mean, rotation fills with black, JPEG goes through 8 bits. "The side" is the
shorter one.
"""
