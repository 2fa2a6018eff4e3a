"""Synthetic frontal chest radiographs whose lesions lie at a known place.

A phantom serves as the demo task, as the tests' data, and as the yardstick for attribution: a heatmap can be
scored against the very pixels that make the label true. Everything but the lesion comes from the seed alone,
so nothing else in the picture can tell the label. Attenuation is summed organ by organ (`anatomy`) and turned
into grey levels by a film's characteristic curve (Hurter and Driffield, 1890), with quantum noise.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import tempfile
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.random import Generator
from PIL import Image, ImageFilter
from scipy import ndimage

from xray_models import anatomy
from xray_models.anatomy import REACH, Chest, draw_cloud, ellipse, ramp, soften

LABELS = ("Normal", "Consolidation", "Nodule", "Effusion")
SMALLEST = 64
MASK_LEVEL = 0.25
AIR_CONTRAST = 0.72  # attenuation that a full depth of aerated lung lacks against soft tissue
DETAIL = 0.75  # drawing pixels per film pixel: anatomy is smooth, only grain needs the film's own resolution
STEPS = 1024  # film table entries per unit of attenuation
LETTERS = {"R": (0x1E, 0x11, 0x11, 0x1E, 0x14, 0x12, 0x11), "L": (0x10, 0x10, 0x10, 0x10, 0x10, 0x10, 0x1F)}


@dataclass(frozen=True)
class Phantom:
    """A drawn radiograph.

    Attributes:
        pixels: `(size, size)` uint8 grey levels, bones bright and lungs dark.
        label: One of `LABELS`.
        mask: `(size, size)` bool, where the lesion attenuates more than a quarter of its peak; all False for
            Normal.
    """

    pixels: np.ndarray
    label: str
    mask: np.ndarray


def draw_phantom(label: str, seed: int, size: int = 256) -> Phantom:
    """Draw the patient of a seed with the finding of a label.

    Args:
        label: One of `LABELS`.
        seed: Zero or more. It fixes the patient, the exposure and the lesion's place; the same seed under two
            labels is the same picture but for the lesion.
        size: Height and width in pixels, at least 64.

    Raises:
        ValueError: If the label, the seed or the size is out of range.
    """
    if label not in LABELS:
        raise ValueError(f"unknown phantom label {label!r}: choose one of {', '.join(LABELS)}")
    if seed < 0:
        raise ValueError(f"phantom seed {seed} is negative: give 0 or more")
    if size < SMALLEST:
        raise ValueError(f"phantom size {size} is too small to draw a chest: give {SMALLEST} pixels or more")
    rng = np.random.default_rng([seed, 0])
    chest = anatomy.build_chest(round(size * DETAIL), rng)
    vessels = anatomy.grow_vessels(chest.x.size, rng)
    patient = sum_patient(chest, vessels, rng)
    lesion = draw_lesion(label, chest, vessels, np.random.default_rng([seed, 1]))
    view = choose_view(chest.x.size / size, chest.x.size, rng)
    patient, lesion = project(patient, view, size), project(lesion, view, size)
    mask = lesion > MASK_LEVEL * lesion.max()
    return Phantom(expose(patient, fade_outskirts(lesion, mask), rng), label, mask)


def sum_patient(chest: Chest, vessels: np.ndarray, rng: Generator) -> np.ndarray:
    """Sum the attenuation of a patient without a finding, tubes and leads included; `(n, n)` float32."""
    n = chest.air.shape[0]
    total = anatomy.draw_body(chest, rng)
    total += chest.air * (vessels + 0.03 * draw_cloud(60, n, rng) - AIR_CONTRAST)
    total += anatomy.draw_ribs(chest, rng)
    total += anatomy.draw_spine(chest, rng)
    total += anatomy.draw_girdle(chest, rng)
    if rng.random() < 0.3:
        total += anatomy.draw_lead(chest, rng)
    return total


def place_lesion(chest: Chest, margin: float, rng: Generator) -> tuple[float, float]:
    """Pick a point `(x, y)` that lies `margin` inside a lung, or as deep as this patient's lungs allow."""
    step = max(1, chest.x.size // 48)
    pitch = float(chest.x[0, step] - chest.x[0, 0])
    depth = ndimage.distance_transform_edt(chest.lung[::step, ::step] > 0.5) * pitch
    rows, columns = np.nonzero(depth >= min(margin, 0.9 * depth.max()))
    pick = rng.integers(rows.size)
    return float(chest.x[0, columns[pick] * step]), float(chest.y[rows[pick] * step, 0])


def draw_nodule(chest: Chest, vessels: np.ndarray, rng: Generator) -> np.ndarray:
    """Attenuate by a lobulated ball of 9 to 20 pixels' radius at size 256; `(n, n)` float32."""
    radius = rng.uniform(0.068, 0.134)
    x, y = place_lesion(chest, 0.8 * radius, rng)
    firm = 1.6  # how much faster than a ball's own its edge rises
    rim = radius / math.sqrt(1 - MASK_LEVEL / firm)
    dent = 0.12 * draw_cloud(14, chest.lung.shape[0], rng)
    ball = ellipse(chest.x, chest.y, (x, y, rim * rng.uniform(0.9, 1.1), rim, rng.uniform(0, 3)))
    return rng.uniform(0.42, 0.7) * np.clip(firm * ball * (1 + dent), 0, 1)


def draw_consolidation(chest: Chest, vessels: np.ndarray, rng: Generator) -> np.ndarray:
    """Fill a patch of lung of 25 to 70 pixels at size 256, streaked by open airways; `(n, n)` float32."""
    n = chest.lung.shape[0]
    x, y = place_lesion(chest, 0.06, rng)
    patch = ellipse(chest.x, chest.y, (x, y, rng.uniform(0.13, 0.26), rng.uniform(0.13, 0.26), rng.uniform(0, 3)))
    patch += 0.35 * draw_cloud(14, n, rng) + 0.2 * draw_cloud(40, n, rng)
    fissure = rng.uniform(0.0, 0.1) if rng.random() < 0.4 else 1.0
    patch = ramp(patch) * ramp((y + fissure - chest.y + 0.2 * (np.abs(chest.x) - abs(x))) * 30)
    airways = np.roll(vessels, (n // 100, n // 80), (0, 1))
    return rng.uniform(0.7, 1.0) * AIR_CONTRAST * chest.air * patch * (1 - 0.5 * ramp(airways * 4))


def draw_effusion(chest: Chest, vessels: np.ndarray, rng: Generator) -> np.ndarray:
    """Fill one lung from below with fluid that climbs along the chest wall; `(n, n)` float32."""
    side = -1 if rng.random() < 0.5 else 1
    out = np.clip(side * chest.x / chest.cage.max(), 0, 1)
    level = float(chest.dome.min()) + rng.uniform(-0.2, 0.1) - rng.uniform(0.2, 0.5) * out * out * out
    fluid = ramp((chest.y - level) * 9) * (side * chest.x > 0)
    return rng.uniform(0.9, 1.25) * AIR_CONTRAST * chest.air * fluid


def draw_lesion(label: str, chest: Chest, vessels: np.ndarray, rng: Generator) -> np.ndarray:
    """Attenuate by the finding of a label, within the lungs; `(n, n)` float32, all 0 for Normal."""
    if label not in LESIONS:
        return np.zeros_like(chest.lung)
    return LESIONS[label](chest, vessels, rng) * chest.lung


def fade_outskirts(lesion: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Fade a lesion to nothing within 10 pixels (at size 256) of its mask; both `(size, size)`."""
    core = Image.fromarray(mask.astype(np.uint8) * 255)
    near = np.asarray(core.filter(ImageFilter.BoxBlur(mask.shape[0] // 25)), np.float32)
    return lesion * ramp(near * (8 / 255))


LESIONS = {"Consolidation": draw_consolidation, "Nodule": draw_nodule, "Effusion": draw_effusion}


def choose_view(scale: float, n: int, rng: Generator) -> tuple[float, ...]:
    """Choose how the patient stands before the film; an affine map from film pixels to drawing pixels."""
    half, tilt = rng.uniform(0.86, 0.96), rng.normal(0, 0.025)
    across, along = rng.uniform(-0.03, 0.03), rng.uniform(-0.08, 0.0)
    cos, sin = half / REACH * math.cos(tilt), half / REACH * math.sin(tilt)
    right = (n / 2) * (1 + across / REACH - cos + sin)
    down = (n / 2) * (1 + along / REACH - sin - cos)
    return scale * cos, -scale * sin, right, scale * sin, scale * cos, down


def project(drawing: np.ndarray, view: tuple[float, ...], size: int) -> np.ndarray:
    """See a drawing `(n, n)` through a view from `choose_view`; `(size, size)` float32."""
    picture = Image.fromarray(drawing).transform((size, size), Image.Transform.AFFINE, view, Image.Resampling.BILINEAR)
    return np.asarray(picture)


def expose(patient: np.ndarray, lesion: np.ndarray, rng: Generator) -> np.ndarray:
    """Expose and develop the film of attenuation `patient + lesion`; `(n, n)` uint8.

    Contrast and brightness are set by the patient alone, as if the machine had been set before.
    """
    n = patient.shape[0]
    sample = patient[::8, ::8]
    dark, bright = np.percentile(sample[sample > 0.15].astype(np.float64), [4, 94])
    entry = np.arange(5 * STEPS) / STEPS - 0.5
    tone = (entry - dark) / (bright - dark)
    gamma, centre = rng.uniform(3.2, 5.2), rng.uniform(0.36, 0.52)
    film = (250 / (1 + np.exp(-gamma * (tone - centre)))).astype(np.float32)
    quanta = (rng.uniform(0.006, 0.02) * np.exp(entry / 2)).astype(np.float32)

    grain = soften(rng.standard_normal((n, n), dtype=np.float32)) * 2
    total = soften(patient + lesion) + stamp_marker(n, rng)
    total += grain * look_up(quanta, total)
    return (look_up(film, total) * collimate(n, rng)).astype(np.uint8)


def look_up(table: np.ndarray, attenuation: np.ndarray) -> np.ndarray:
    """Read a table made for attenuations from -0.5 in steps of `1 / STEPS`."""
    return table.take(((attenuation + 0.5) * STEPS).astype(np.intp), mode="clip")


def stamp_marker(n: int, rng: Generator) -> np.ndarray:
    """Stamp a lead side letter beside the patient on most films; attenuation, `(n, n)` float32."""
    letter, scale = ("R", "L")[rng.integers(2)], max(1, round(n * rng.uniform(0.007, 0.012)))
    bits = np.array([[row >> bit & 1 for bit in range(4, -1, -1)] for row in LETTERS[letter]], np.float32)
    glyph = np.asarray(Image.fromarray(bits).resize((5 * scale, 7 * scale), Image.Resampling.BICUBIC))
    across, down = rng.uniform(0.02, 0.1), rng.choice([rng.uniform(0.03, 0.2), rng.uniform(0.8, 0.9)])
    left = int(n * across) if letter == "R" else n - int(n * across) - glyph.shape[1]
    film = np.zeros((n, n), np.float32)
    film[int(n * down) :, left:][: glyph.shape[0], : glyph.shape[1]] = glyph * (rng.random() < 0.8) * 2
    return film


def collimate(n: int, rng: Generator) -> np.ndarray:
    """Open the shutters, on one film in three not all the way; `(n, n)` float32 of 0 and 1."""
    margins = (rng.uniform(0, 0.03, 4) * n * (rng.random() < 0.33)).astype(int)
    opening = np.zeros((n, n), np.float32)
    opening[margins[0] : n - margins[1], margins[2] : n - margins[3]] = 1
    return opening


def write_dataset(folder: Path, count: int, seed: int = 0, size: int = 256) -> Path:
    """Write a balanced data set to `<folder>/<label>/<nnnnn>.png` and `<folder>/masks/<label>/<nnnnn>.png`.

    A folder that already holds this very data set is left as it is. The data set appears all at once, so two
    processes may write it at the same time.

    Args:
        folder: Where to write.
        count: Number of images over all labels, each a different patient.
        seed: Zero or more; the same seed, count and size give the same files.
        size: Height and width in pixels, at least 64.

    Returns:
        The folder.

    Raises:
        FileExistsError: If the folder holds anything else.
        ValueError: If the count, the seed or the size is out of range.
    """
    if count < 1 or seed < 0:
        raise ValueError(f"cannot write {count} phantoms from seed {seed}: give 1 or more, from seed 0 or more")
    folder = Path(folder)
    recipe = json.dumps({"count": count, "seed": seed, "size": size})
    if not holds_dataset(folder, recipe):
        folder.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
        try:
            write_images(draft, count, seed, size)
            (draft / "phantom.json").write_text(recipe)
            draft.chmod(0o755)
            draft.rename(folder)
        except OSError:
            if not holds_dataset(folder, recipe):
                raise
        finally:
            shutil.rmtree(draft, ignore_errors=True)
    return folder


def holds_dataset(folder: Path, recipe: str) -> bool:
    """Tell whether a folder holds the data set of a recipe; False if there is nothing yet.

    Raises:
        FileExistsError: If it holds something else.
    """
    if not folder.exists() or not any(folder.iterdir()):
        return False
    note = folder / "phantom.json"
    found = note.read_text() if note.is_file() else "other files"
    if found != recipe:
        raise FileExistsError(f"{folder} holds {found}, not {recipe}: delete it or choose another folder")
    return True


def write_images(folder: Path, count: int, seed: int, size: int) -> None:
    """Draw and write `count` images and masks, on all processors where that pays."""
    for label in LABELS:
        (folder / label).mkdir()
        (folder / "masks" / label).mkdir(parents=True)
    write = partial(write_image, folder, seed, size)
    workers = os.cpu_count() or 1
    if workers == 1 or count < 200:
        for index in range(count):
            write(index)
        return
    with ProcessPoolExecutor(workers) as pool:
        for _ in pool.map(write, range(count), chunksize=25):
            pass


def write_image(folder: Path, seed: int, size: int, index: int) -> None:
    """Draw and write the image of a place in the data set, with its mask."""
    label = LABELS[index % len(LABELS)]
    patient = int(np.random.SeedSequence([seed, index]).generate_state(1)[0])
    phantom = draw_phantom(label, patient, size)
    name = f"{label}/{index:05d}.png"
    for picture, path in ((phantom.pixels, folder / name), (phantom.mask, folder / "masks" / name)):
        Image.fromarray(picture).save(path, compress_level=1)  # packing noise well takes a quarter of the time
