"""The anatomy of a synthetic frontal chest radiograph, and the leads on it, as attenuation along the rays.

Every function draws one organ on the same square grid, and organs add up, as attenuation does in the log
domain (Beer-Lambert). Soft tissue as thick as a chest counts about 1. `x` grows towards the patient's left
(the image's right) and `y` towards the feet, both in half image widths from the middle of the spine. The
drawing spans `-REACH` to `REACH`, a little more than the film sees. Full-size arithmetic is float32 and keeps
to operations that IEEE 754 rounds exactly, so that a picture does not depend on the processor.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from PIL import Image

REACH = 1.15
RIBS = 11  # pairs low enough to be seen; the twelfth hides behind the belly
# Grid and attenuation of each generation of vessels.
VESSELS = ((64, 0.56), (128, 0.46), (128, 0.28), (192, 0.25), (192, 0.14))


@dataclass(frozen=True)
class Chest:
    """The shape of one patient's chest on a square grid of `n` pixels; all arrays float32.

    Attributes:
        x: `(1, n)`, position across the body.
        y: `(n, 1)`, position along the body.
        cage: `(n, 1)`, half-width of the rib cage at each height.
        dome: `(1, n)`, height of the diaphragm.
        heart: `(n, n)` in [0, 1], thickness of the heart and the great vessels along the ray.
        lung: `(n, n)` in [0, 1], 1 where lung is seen clear of heart and diaphragm.
        air: `(n, n)` in [0, 1], thickness of the air along the ray.
    """

    x: np.ndarray
    y: np.ndarray
    cage: np.ndarray
    dome: np.ndarray
    heart: np.ndarray
    lung: np.ndarray
    air: np.ndarray


def ramp(t: np.ndarray) -> np.ndarray:
    """Climb smoothly from 0 at `t <= 0` to 1 at `t >= 1`."""
    t = np.clip(t, 0, 1)
    return t * t * (3 - 2 * t)


def bulge(t: np.ndarray) -> np.ndarray:
    """Thickness of a round body: 0 at its edge, `t <= 0`, and 1 from `t >= 1` inwards."""
    t = np.clip(t, 0, 1)
    return np.sqrt(t * (2 - t))


def ellipse(x: np.ndarray, y: np.ndarray, shape: tuple[float, ...]) -> np.ndarray:
    """Give `1 - r**2` of an ellipse: 1 at its centre, 0 on its rim, negative outside.

    Args:
        x: Positions across, broadcast against `y`.
        y: Positions along.
        shape: Centre `x` and `y`, half axes across and along, and a turn in radians, clockwise on the image.
    """
    across, along, wide, high, turn = shape
    dx, dy = x - across, y - along
    cos, sin = math.cos(turn), math.sin(turn)
    p, q = dx * (cos / wide) + dy * (sin / wide), dy * (cos / high) - dx * (sin / high)
    return 1 - p * p - q * q


def trace(at: np.ndarray, places: list[float], values: list[float]) -> np.ndarray:
    """Draw a smooth curve through points, sampled at `at`; float32, of the shape of `at`."""
    blur = at.size // 28
    kernel = np.hanning(2 * blur + 3)[1:-1]
    flat = np.pad(np.interp(at.ravel(), places, values), blur, mode="edge")
    return np.convolve(flat, kernel / kernel.sum(), "valid").astype(np.float32).reshape(at.shape)


def soften(image: np.ndarray) -> np.ndarray:
    """Blur `(n, n)` by about one pixel (binomial 1-2-1 in both directions)."""
    padded = np.pad(image, 1, mode="edge")
    rows = padded[:-2] + 2 * padded[1:-1] + padded[2:]
    return (rows[:, :-2] + 2 * rows[:, 1:-1] + rows[:, 2:]) * (1 / 16)


def resize(image: np.ndarray, n: int) -> np.ndarray:
    """Resample a square float32 image to `n` pixels a side."""
    return np.asarray(Image.fromarray(image).resize((n, n), Image.Resampling.BICUBIC))


def draw_cloud(cells: int, n: int, rng: Generator) -> np.ndarray:
    """Draw smooth noise around 0 with about `cells` blobs a side; `(n, n)` float32."""
    return resize(rng.standard_normal((cells, cells), dtype=np.float32), n)


def draw_path(points: np.ndarray, weights: np.ndarray, cells: int) -> np.ndarray:
    """Add up weighted points `(m, 2)` of `(x, y)` on a soft `(cells, cells)` float32 grid.

    A line of weight 1 per unit of length gives about the same attenuation across one cell on every grid.
    """
    spots = ((points + REACH) * (cells / (2 * REACH))).astype(np.int64)
    across, along = np.clip(spots, 0, cells - 1).T
    picture = np.bincount(along * cells + across, weights * (cells / (2 * REACH)), cells * cells)
    return soften(picture.astype(np.float32).reshape(cells, cells))


def build_chest(n: int, rng: Generator) -> Chest:
    """Draw a patient's build: rib cage, diaphragm, heart and lungs on a grid of `n` pixels a side."""
    line = ((np.arange(n) + 0.5) * (2 / n) - 1) * REACH
    x, y = line[None, :], line[:, None]
    width, top, low = rng.uniform(0.66, 0.8), rng.uniform(-0.76, -0.68), rng.uniform(0.32, 0.48)
    climb = np.clip((low + 0.05 - y) / (low + 0.05 - top), 0, 1)
    cage = width * np.sqrt(1 - 0.97 * climb**2.6)
    apex = 0.38 * width
    lateral = np.maximum(apex * (1 - np.sqrt(1 - climb**3.4)) + (width - 0.02) * np.sqrt(1 - climb**2.4), apex)
    heights = [top - 0.05, top + 0.1, -0.35, -0.1, 0.2, 0.7]
    right = trace(y, heights, [0.27, 0.12, 0.1, 0.11, 0.11, 0.1]) * rng.uniform(0.85, 1.15)
    left = trace(y, heights, [0.27, 0.12, 0.12, 0.13, 0.12, 0.1]) * rng.uniform(0.85, 1.15)
    domes = np.where(x < 0, low + rng.uniform(-0.03, 0.02), low + rng.uniform(0.02, 0.08))
    aside = np.abs(x) / width - 0.45
    fall = np.where(aside > 0, 1.1 * np.abs(aside) ** 2.4, 0.35 * aside**2) * rng.uniform(0.7, 1.3)
    dome = (domes + fall).astype(np.float32)
    tip = ramp((y - top) / 0.05).astype(np.float32)

    x, y = x.astype(np.float32), y.astype(np.float32)
    heart, silhouette = draw_heart(x, y, low, rng)
    inward, outward = lateral.astype(np.float32) - np.abs(x), np.abs(x) - np.where(x < 0, right, left)
    field = ramp(inward * (1 / 0.03)) * ramp(outward * (1 / 0.04)) * tip
    above = ramp((dome - y) * (1 / 0.025))
    sulcus = 0.25 * ramp(1 - (y - dome) * (1 / 0.25))  # lung behind the dome
    depth = bulge(inward * (1 / 0.3)) * (0.6 + 0.4 * bulge(outward * 4)) * field
    air = depth * np.maximum(above, sulcus) * (1 - 0.72 * silhouette)
    return Chest(x, y, cage.astype(np.float32), dome, heart, field * above * (1 - silhouette), air)


def draw_heart(x: np.ndarray, y: np.ndarray, low: float, rng: Generator) -> tuple[np.ndarray, np.ndarray]:
    """Draw thickness and silhouette of heart and great vessels above a diaphragm at `low`; in [0, 1]."""
    size, turn = rng.uniform(0.85, 1.15), rng.uniform(0.35, 0.8)
    parts = (
        ((0.15 * size, low - 0.12, 0.37 * size, 0.25 * size, turn), 0.8),  # left ventricle
        ((-0.05, low - 0.16, 0.15 * size, 0.26 * size, 0.0), 0.5),  # right atrium
        ((0.09, rng.uniform(-0.33, -0.27), rng.uniform(0.08, 0.12), 0.1, 0.0), 0.5),  # aortic knob
        ((0.1, -0.05, 0.13 * size, 0.26, -0.3), 0.4),  # pulmonary trunk
        ((-0.04, -0.35, 0.08, 0.33, 0.0), 0.35),  # upper vena cava
    )
    outside = np.ones(np.broadcast_shapes(x.shape, y.shape), np.float32)
    thickness = np.zeros_like(outside)
    for part, weight in parts:
        inside = np.clip(ellipse(x, y, part), 0, 1)
        outside *= 1 - ramp(inside * 3.5)
        thickness += weight * np.sqrt(inside)
    return np.minimum(thickness, 1), 1 - outside


def draw_body(chest: Chest, rng: Generator) -> np.ndarray:
    """Attenuate by neck, shoulders, trunk, belly and breasts, less gas in the stomach; `(n, n)` float32."""
    x, y = np.abs(chest.x), chest.y
    trunk = float(chest.cage.max()) + rng.uniform(0.07, 0.22)
    places, widths = [-1.1, -0.92, -0.84, -0.76, -0.6, -0.2, 1.1], [0.3, 0.34, 0.5, 0.85, 1.08, trunk, trunk]
    thick = trace(y, [-1.1, -0.8, -0.4, 0.2, 0.8], [0.75, 0.9, 1.0, 1.05, rng.uniform(1.1, 1.3)])
    body = thick * np.sqrt(bulge(1 - x / trace(y, places, widths)))
    spread = rng.uniform(0.0, 0.3)
    arm = np.abs(x - spread * y - (0.95 + 0.9 * spread))
    limb = 0.75 * bulge(1 - arm * (1 / 0.17)) + 0.16 * ramp((0.05 - arm) * 40)
    body = np.maximum(body, limb * ramp((y + 0.75) * 4))
    body += np.maximum(0.35 * ramp((y - chest.dome) * 2.5 + 0.1), 0.36 * chest.heart)
    breast, gas = rng.random() < 0.5, rng.random() < 0.6
    size, side = rng.uniform(0.25, 0.36), rng.uniform(0.38, 0.46)
    shape = (side, rng.uniform(0.1, 0.3), size, 1.1 * size, 0.2)
    body += breast * rng.uniform(0.08, 0.22) * np.sqrt(np.clip(ellipse(x, y, shape), 0, 1))
    shape = (rng.uniform(0.28, 0.42), float(chest.dome.min()) + rng.uniform(0.2, 0.28), 0.17, 0.1, 0.3)
    return body - gas * rng.uniform(0.15, 0.35) * bulge(ellipse(chest.x, y, shape) * 0.8)


def draw_ribs(chest: Chest, rng: Generator) -> np.ndarray:
    """Attenuate by the ribs, back arcs brighter than front ones; `(n, n)` float32.

    Each rib is a level line of one curve, so all are drawn at once: the distance of a pixel to the nearest
    level tells how much bone its ray meets. Rims are denser than marrow.
    """
    u = np.minimum(np.abs(chest.x) / chest.cage, 1)
    s = np.sqrt(np.maximum(1 - u * u, 0.03))
    drop, spacing, start = rng.uniform(0.26, 0.36), rng.uniform(0.115, 0.13), rng.uniform(-0.85, -0.77)
    stretch = np.sqrt(1 + (drop * u / (s * chest.cage)) ** 2) * rng.uniform(0.24, 0.3)
    skew = np.where(chest.x < 0, np.float32(rng.uniform(-0.02, 0.02)), np.float32(0))
    total = np.zeros_like(u)
    back = (drop * (1 - s) + 0.04 * u, rng.uniform(0.15, 0.25), ramp((np.abs(chest.x) - 0.04) * 15))
    front = (drop + 0.04 + 0.33 * s, rng.uniform(0.06, 0.12), ramp((u - 0.3) * 5))
    for curve, weight, seen in (back, front):
        phase = (chest.y - curve - (skew + start)) * (1 / spacing)
        number = np.rint(phase)
        away = np.minimum(np.abs(phase - number) / stretch, 1)
        bone = ramp((1 - away) * 3) * (0.65 + 0.35 * away * away)
        total += weight * bone * seen * ((number >= 0) & (number < RIBS))
    rim = u * u * u
    return total * ramp((1 - u) * 25) * (1 + 0.5 * rim * rim) * ramp((chest.cage - 0.15) * 8)


def draw_spine(chest: Chest, rng: Generator) -> np.ndarray:
    """Attenuate by vertebrae with end plates, pedicles and spines, less the windpipe; `(n, n)` float32."""
    x, y = np.abs(chest.x), chest.y
    phase = y * (1 - 0.12 * y) * (1 / rng.uniform(0.115, 0.14)) + rng.uniform(0, 1)
    cycle = phase - np.rint(phase)  # -0.5 to 0.5 from disc to disc
    plate = 0.75 + 0.5 * ramp((np.abs(cycle) - 0.22) * 6) - 0.75 * ramp((np.abs(cycle) - 0.4) * 12)
    bone = ramp((0.085 + 0.05 * cycle * cycle - x) * 50) * plate * 0.14
    for side, height, wide, weight in (
        (0.055, -0.12, 0.022, 0.08),
        (0.0, 0.2, 0.018, 0.08),
        (0.1, -0.15, 0.05, 0.05),
    ):
        bone += weight * ramp(1.5 * ellipse(x, cycle, (side, height, wide, 0.2, 0.0)))
    fork = 0.35 * np.maximum(y + 0.2, 0)  # the windpipe divides at the carina
    pipe = bulge(1 - np.abs(np.abs(chest.x + 0.01) - fork) * (1 / 0.05)) * ramp((-0.05 - y) * 8)
    return bone + 0.25 * ramp((0.2 - x) * 7) - 0.28 * pipe


def draw_girdle(chest: Chest, rng: Generator) -> np.ndarray:
    """Attenuate by collar bones, shoulder blades and the heads of the upper arms; `(n, n)` float32."""
    x, y = np.abs(chest.x), chest.y
    along = (x.astype(np.float64) - 0.08) / 0.8
    lift = np.where(chest.x < 0, rng.uniform(-0.03, 0.03), 0) + rng.uniform(-0.58, -0.5)
    line = lift - rng.uniform(0.04, 0.16) * along + 0.045 * np.sin(6.28 * along)
    half = (0.03 + 0.02 * (along - 0.4) ** 2).astype(np.float32)
    ends = (ramp(along * 20) * ramp((1 - along) * 20)).astype(np.float32)
    away = np.minimum(np.abs(y - line.astype(np.float32)) / half, 1)
    collar = ramp((1 - away) * 3) * (0.6 + 0.4 * away * away) * ends
    edge, tip = rng.uniform(0.6, 0.72), rng.uniform(-0.1, 0.05)
    inner, outer = (x - edge - 0.1 * (y + 0.3) ** 2) * 15, (tip - y - 1.6 * (x - edge)) * 8
    within = ramp(np.minimum(np.minimum(inner, outer), (y + 0.68) * 8))
    head = np.sqrt(np.clip(ellipse(x, y, (0.95, -0.56, 0.11, 0.12, 0.0)), 0, 1))
    return 0.33 * collar + 0.06 * within * (2 - within) + 0.25 * head


def grow_vessels(n: int, rng: Generator) -> np.ndarray:
    """Grow arteries and veins out of both hila, forking as they go; attenuation, `(n, n)` float32.

    Each generation starts where the one before ended, thinner and fainter, on a grid whose pixel is about as
    wide as the vessel.
    """
    roots, steps = 9, 20
    side = np.repeat([-1.0, 1.0], roots)
    heading = np.tile(np.linspace(-1.45, 1.35, roots), 2) + rng.normal(0, 0.12, 2 * roots)
    start = np.stack([side * 0.13, np.tile(np.linspace(-0.14, 0.1, roots), 2)], axis=1)
    length = rng.uniform(0.16, 0.22, 2 * roots) * (1 + 0.35 * np.sin(heading))
    picture = np.zeros((n, n), np.float32)
    for cells, weight in VESSELS:
        bend = heading[:, None] + rng.normal(0, 0.3, (heading.size, 1)) * np.linspace(0, 1, steps)
        stride = np.stack([side[:, None] * np.cos(bend), np.sin(bend)], axis=2) * (length / steps)[:, None, None]
        path = start[:, None, :] + np.cumsum(stride, axis=1)
        ink = np.outer(length * rng.uniform(0.6, 1.1, length.size), np.linspace(weight, weight / 2, steps) / steps)
        picture += resize(draw_path(path.reshape(-1, 2), ink.ravel(), cells), n)
        start, side = np.repeat(path[:, -1], 2, axis=0), np.repeat(side, 2)
        fork = np.tile([-0.35, 0.35], length.size) + rng.normal(0, 0.15, side.size)
        heading = np.repeat(bend[:, -1], 2) + fork
        length = np.repeat(length, 2) * rng.uniform(0.65, 0.95, side.size)
    return picture


def draw_lead(chest: Chest, rng: Generator) -> np.ndarray:
    """Attenuate by an electrode on the skin and its wire, or by a tube down the gullet; `(n, n)` float32."""
    n, t = chest.air.shape[0], np.linspace(0, 1, 400)[:, None]
    skin, edge = rng.uniform([-0.7, -0.5], [0.7, 0.4]), rng.uniform([-1.1, 0.2], [1.1, 1.1])
    tube = rng.random() < 0.4
    stops = np.array([[0.02, -1.15], [0.0, -0.4], [0.06, 0.3], [0.2, 0.6]]) + rng.normal(0, 0.02, (4, 2))
    if not tube:
        stops = np.stack([skin, skin + rng.normal(0, 0.3, 2), edge + rng.normal(0, 0.3, 2), edge])
    a, b, c, d = stops
    path = (1 - t) ** 3 * a + 3 * t * (1 - t) ** 2 * b + 3 * t * t * (1 - t) * c + t**3 * d
    wire = resize(draw_path(path, np.full(400, 0.0018), 256), n)
    disc = 0.0 if tube else 0.35 * ramp(4 * ellipse(chest.x, chest.y, (*skin, 0.04, 0.04, 0.0)))
    return (wire + disc).astype(np.float32)
