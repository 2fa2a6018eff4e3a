"""The pictures of a survey: counts, sizes, exposure, a sheet of images for each label, and clusters of near-copies."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from xray_models.images import read_image, to_display
from xray_models.style import INK, RULE, SERIES, STYLE

if TYPE_CHECKING:
    from xray_models.survey import Survey

_SHADES = {"train": "#0072b2", "validation": "#7fb9d8", "test": "#d55e00"}
_TILE, _GAP, _DOTS = 144, 8, 100  # pixels of a picture's longer side and between pictures; dots an inch
_COLUMNS, _ROWS, _CLUSTERS = 8, 3, 8


def draw_survey(survey: Survey, out: Path) -> None:
    """Draws `counts.png`, `sizes.png`, `exposure.png`, `sheet_<label>.png` and, where there are any, `copies.png`."""
    from xray_models.survey import find_clusters, suggest_size

    labels = survey.manifest.rows["label"]
    with matplotlib.rc_context(STYLE):
        height = 0.9 + 0.34 * len(survey.task.labels)
        figure = Figure(figsize=(6.4, height), layout="constrained")
        draw_counts(figure.subplots(), survey.counts)
        _save(figure, out / "counts.png")

        figure = Figure(figsize=(4.6, 4.4), layout="constrained")
        draw_sizes(figure.subplots(), labels, survey.measures, suggest_size(survey.measures))
        _save(figure, out / "sizes.png")

        figure = Figure(figsize=(8.4, 1.2 + height), layout="constrained")
        shape, ends = figure.subplots(1, 2)
        draw_greys(shape, labels, survey.measures)
        draw_exposure(ends, labels, survey.measures)
        _save(figure, out / "exposure.png")

        for label, name in name_sheets(survey.task.labels).items():
            own = survey.manifest.rows[labels == label]
            if len(own):
                draw_sheet(own["path"], label).savefig(out / f"{name}.png", dpi=_DOTS)
        clusters = find_clusters(survey.manifest)
        if clusters:
            draw_clusters(survey.manifest.rows, clusters).savefig(out / "copies.png", dpi=_DOTS)


def _save(figure: Figure, path: Path) -> None:
    figure.savefig(path, dpi=150, bbox_inches="tight", metadata={"Software": None})


def name_sheets(labels: Sequence[str]) -> dict[str, str]:
    """A name of its own for each label's sheet: letters and digits of any script, a number where they do not tell."""
    names: dict[str, str] = {}
    for label in labels:
        plain = "sheet_" + (re.sub(r"\W+", "_", label).strip("_").lower() or "label")
        numbered = (f"{plain}_{number}" for number in itertools.count(2))
        names[label] = next(name for name in itertools.chain([plain], numbered) if name not in names.values())
    return names


def draw_counts(axes: Axes, counts: pd.DataFrame) -> None:
    """Images of each label, one bar a label, its splits end to end."""
    start = np.zeros(len(counts))
    for split, colour in _SHADES.items():
        axes.barh(counts.index, counts[split], left=start, color=colour, height=0.62, label=split)
        start += counts[split].to_numpy()
    for place, number in enumerate(counts["all"]):
        axes.text(number + start.max() * 0.01, place, f"{number:,}", va="center")
    axes.set(xlim=(0, start.max() * 1.1), title="Images", ylim=(len(counts) - 0.5, -0.5))
    axes.tick_params(length=0)
    axes.xaxis.set_visible(False)
    axes.spines[["left", "bottom"]].set_visible(False)
    axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=3, handlelength=1, borderaxespad=0.2)


def draw_sizes(axes: Axes, labels: pd.Series, measures: pd.DataFrame, side: int) -> None:
    """Width and height of the images; a dot's area says how many have this size."""
    sizes = measures.assign(label=labels.to_numpy()).groupby(["label", "width", "height"]).size().reset_index(name="n")
    area = 12 + 500 * sizes["n"] / sizes["n"].max()
    for place, label in enumerate(dict.fromkeys(labels)):
        own = sizes["label"] == label
        colour = SERIES[place % len(SERIES)]
        axes.scatter(
            sizes["width"][own],
            sizes["height"][own],
            area[own],
            facecolor="none",
            edgecolor=colour,
            linewidth=1.2,
            alpha=0.8,
        )
        axes.scatter([], [], 30, facecolor="none", edgecolor=colour, linewidth=1.2, label=label)
    reach = 1.15 * measures[["width", "height"]].to_numpy().max()
    axes.plot([0, side, side], [side, side, 0], color=INK, linewidth=0.8, linestyle=(0, (4, 3)))
    axes.text(0.02 * reach, side, f"input of {side} x {side}", va="bottom", fontsize=8)
    axes.set(
        xlim=(0, reach),
        ylim=(0, reach),
        aspect="equal",
        title="Sizes (area: images)",
        xlabel="width, px",
        ylabel="height, px",
    )
    axes.grid(color=RULE, linewidth=0.5)
    axes.set_axisbelow(True)
    axes.legend(loc="lower left", handletextpad=0.2)


def draw_greys(axes: Axes, labels: pd.Series, measures: pd.DataFrame) -> None:
    """How the mean grey is distributed over the images of each label."""
    edges = np.linspace(0, 100, 51)
    for place, label in enumerate(dict.fromkeys(labels)):
        share, _ = np.histogram(measures["mean"][(labels == label).to_numpy()], edges)
        smooth = np.convolve(100 * share / max(1, share.sum()), [0.25, 0.5, 0.25], mode="same")
        axes.plot((edges[:-1] + edges[1:]) / 2, smooth, color=SERIES[place % len(SERIES)], linewidth=1.5, label=label)
    axes.set(title="Mean grey of an image", xlabel="percent of white", ylabel="percent of the label's images")
    axes.set(xlim=(0, 100), ylim=(0, None))
    axes.legend(loc="upper right", fontsize=8, handlelength=1.4)


def draw_exposure(axes: Axes, labels: pd.Series, measures: pd.DataFrame) -> None:
    """From the dark end over the mean to the bright end, averaged over the images of each label."""
    names = list(dict.fromkeys(labels))
    for place, label in enumerate(names):
        dark, mean, bright = measures.loc[(labels == label).to_numpy(), ["dark", "mean", "bright"]].mean()
        colour = SERIES[place % len(SERIES)]
        axes.plot([dark, bright], [place, place], color=colour, linewidth=2.5, solid_capstyle="round")
        axes.plot(mean, place, "o", color=colour, markersize=7)
    axes.set_yticks(range(len(names)), names)
    axes.set(title="5th percentile, mean, 95th percentile: average", xlabel="percent of white", xlim=(0, 100))
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.grid(axis="x", color=RULE, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.tick_params(length=0)
    axes.spines["left"].set_visible(False)


def draw_sheet(paths: pd.Series, label: str) -> Figure:
    """Up to 24 images of a label, drawn by lot; the same ones each time."""
    lot = np.random.default_rng(0).permutation(len(paths))[: _COLUMNS * _ROWS]
    tiles = [_draw_tile(paths.iloc[place]) for place in sorted(lot)]
    rows = [tiles[start : start + _COLUMNS] for start in range(0, len(tiles), _COLUMNS)]
    return _lay_out(rows, [f"{label}: {len(tiles)} of {len(paths)} images"] + [""] * (len(rows) - 1))


def draw_clusters(rows: pd.DataFrame, clusters: Sequence[np.ndarray]) -> Figure:
    """The largest clusters of near-copies, one a row."""
    tiles, titles = [], []
    for cluster in clusters[:_CLUSTERS]:
        members = rows.iloc[cluster]
        named = ", ".join(f"{label} {count}" for label, count in members["label"].value_counts().items())
        splits = ", ".join(f"{split} {count}" for split, count in members["split"].value_counts().items())
        titles.append(f"{len(cluster)} near-copies: {named}; {splits}")
        tiles.append([_draw_tile(path) for path in members["path"][:_COLUMNS]])
    return _lay_out(tiles, titles)


def _draw_tile(path: str) -> np.ndarray:
    """(_TILE, _TILE) uint8: the whole picture on white."""
    picture = to_display(read_image(path), _TILE)
    tile = np.full((_TILE, _TILE), 255, np.uint8)
    top, left = ((_TILE - side) // 2 for side in picture.shape)
    tile[top : top + picture.shape[0], left : left + picture.shape[1]] = picture
    return tile


def _lay_out(rows: Sequence[Sequence[np.ndarray]], titles: Sequence[str]) -> Figure:
    """Pictures in rows, pixel for pixel, each row under its title, if it has one."""
    heads = [22 if title else 0 for title in titles]
    width = _GAP + max(map(len, rows)) * (_TILE + _GAP)
    height = _GAP + sum(heads) + len(rows) * (_TILE + _GAP)
    sheet = np.full((height, width), 255, np.uint8)
    figure = Figure(figsize=(width / _DOTS, height / _DOTS), dpi=_DOTS)
    top = _GAP
    for tiles, title, head in zip(rows, titles, heads, strict=True):
        figure.text(_GAP / width, 1 - (top + head / 2) / height, title, va="center", weight="bold", fontsize=9)
        top += head
        for column, tile in enumerate(tiles):
            left = _GAP + column * (_TILE + _GAP)
            sheet[top : top + _TILE, left : left + _TILE] = tile
        top += _TILE + _GAP
    figure.figimage(sheet, cmap="gray", vmin=0, vmax=255, zorder=-1)
    return figure
