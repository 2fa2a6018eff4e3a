"""The report's plots, once as PNG files and once as SVG that takes its colours from the page around it."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from sklearn.metrics import roc_curve

from evaluation.document import Plot
from evaluation.predictions import CONSENSUS, Table
from xray_models.style import INK, RULE, SERIES, STYLE

_STROKES = ("-", (0, (6, 2)), (0, (2, 1.5)), (0, (6, 2, 1.5, 2)))
_STYLE = STYLE | {"svg.fonttype": "none", "svg.hashsalt": "second-read"}


def list_plots(table: Table, scores: Mapping[str, Any]) -> dict[str, list[Plot]]:
    """Lists the plots of an evaluation.

    Args:
        table: the answers.
        scores: what `scoring.score` gives.

    Returns:
        Plots by file name: `accuracy` (one), `confusion` and `reliability` (one for each model), `roc` (one
        for each label).
    """
    models = scores["models"]
    height = 0.6 + 0.28 * len(models)
    return {
        "accuracy": [Plot("Accuracy", lambda axes: _draw_intervals(axes, models), (3.9, height))],
        "confusion": [
            Plot(name, _drawing(_draw_confusion, np.array(models[name]["confusion"]), table.labels)) for name in models
        ],
        "roc": [Plot(label, _drawing(_draw_roc, table, k)) for k, label in enumerate(table.labels)],
        "reliability": [
            Plot(name, _drawing(_draw_reliability, found["reliability"], style_of(list(table.models), name)["color"]))
            for name, found in models.items()
        ],
    }


def save_png(plots: Sequence[Plot], path: Path) -> None:
    """Draws plots side by side, four in a row at most, into one PNG of 150 dots an inch."""
    columns = min(4, len(plots))
    rows = -(-len(plots) // columns)
    width, height = plots[0].size
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(columns * width, rows * height), layout="constrained")
        grid = figure.subplots(rows, columns, squeeze=False).ravel()
        for axes, plot in zip(grid, plots, strict=False):
            plot.draw(axes)
            axes.set_title(plot.title)
        for axes in grid[len(plots) :]:
            axes.set_axis_off()
        figure.savefig(path, dpi=150, metadata={"Software": None})


def render_svg(plot: Plot) -> str:
    """Draws a plot as an `<svg>` in the page's font and colours (`--ink`, `--rule`, `--series-1`, …)."""
    file = io.StringIO()
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=plot.size, layout="constrained")
        axes = figure.subplots()
        plot.draw(axes)
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    svg = file.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>\s*", "", svg, flags=re.DOTALL)
    svg = re.sub(r'<g id="[a-z0-9A-Z.]+_\d+">', "<g>", svg)
    svg = re.sub(r'font: ([^"\';]*?)([\d.]+px)[^";]*', r"font: \1\2 var(--sans)", svg)
    variables = {INK: "--ink", RULE: "--rule"} | {colour: f"--series-{i}" for i, colour in enumerate(SERIES, 1)}
    for colour, variable in variables.items():
        svg = svg.replace(colour, f"var({variable})")
    return svg


def style_of(table_models: Sequence[str], name: str) -> dict[str, Any]:
    """Colour and stroke of a model: the consensus is ink and solid, the models differ in both."""
    if name == CONSENSUS:
        return {"color": INK, "linestyle": "-", "linewidth": 2.2}
    index = list(table_models).index(name)
    return {
        "color": SERIES[index % len(SERIES)],
        "linestyle": _STROKES[index % len(_STROKES)],
        "linewidth": 1.4,
    }


def _drawing(draw: Callable[..., None], *given: Any) -> Callable[[Axes], None]:
    return lambda axes: draw(axes, *given)


def _draw_intervals(axes: Axes, models: Mapping[str, Any]) -> None:
    """Accuracy with its interval, one line a model, the consensus on top."""
    names = [
        CONSENSUS,
        *sorted((n for n in models if n != CONSENSUS), key=lambda n: models[n]["accuracy"]["value"]),
    ]
    names[1:] = names[:0:-1]
    for place, name in enumerate(names):
        found = models[name]["accuracy"]
        colour = INK if name == CONSENSUS else SERIES[0]
        bounds = [np.nan if found[end] is None else 100 * found[end] for end in ("low", "high")]
        axes.plot(bounds, [place, place], color=colour, linewidth=2)
        axes.plot(100 * found["value"], place, "o", color=colour, markersize=6)
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.grid(axis="x", color=RULE, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.tick_params(length=0)
    axes.spines["left"].set_visible(False)
    axes.set_xlabel("right answers, %")


def _draw_confusion(axes: Axes, counts: np.ndarray, labels: Sequence[str]) -> None:
    """Counts; the colour is the share of the row, light enough to leave the figures readable."""
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    for row, column in np.ndindex(counts.shape):
        strength = 0.04 + 0.5 * shares[row, column]
        axes.fill_between([column, column + 1], row, row + 1, color=SERIES[0], alpha=strength, linewidth=0)
        axes.text(column + 0.5, row + 0.5, str(counts[row, column]), ha="center", va="center")
    centres = np.arange(len(labels)) + 0.5
    turned = {"rotation": 30, "ha": "right", "rotation_mode": "anchor"} if len("".join(labels)) > 24 else {}
    axes.set_xticks(centres, labels, **turned)  # type: ignore[arg-type]
    axes.set_yticks(centres, labels)
    axes.set(xlim=(0, len(labels)), ylim=(len(labels), 0), xlabel="predicted", ylabel="true", aspect="equal")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)


def _draw_roc(axes: Axes, table: Table, label: int) -> None:
    truth = table.truth == label
    axes.plot([0, 1], [0, 1], color=RULE, linewidth=1)
    for name, answers in table.answers.items():
        rows = answers.answered
        if len(np.unique(truth[rows])) == 2:
            alarms, hits, _ = roc_curve(truth[rows], answers.probs[rows, label])
            axes.plot(alarms, hits, label=name, **style_of(list(table.models), name))
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), aspect="equal")
    axes.set(xlabel="1 − specificity", ylabel="sensitivity")
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc="lower right", fontsize=8, handlelength=2.4)


def _draw_reliability(axes: Axes, bins: Sequence[Mapping[str, Any]], colour: Any) -> None:
    """Accuracy against confidence, in bins of equal counts, with intervals."""
    means = [each["confidence"] for each in bins]
    shares = [each["accuracy"] for each in bins]
    axes.plot([0, 1], [0, 1], color=RULE, linewidth=1)
    for mean, share in zip(means, shares, strict=True):
        axes.plot([mean, mean], [share["low"], share["high"]], color=colour, linewidth=1, alpha=0.45)
    axes.plot(means, [s["value"] for s in shares], marker="o", markersize=4, linewidth=1.2, color=colour)
    axes.set(xlim=(0, 1.02), ylim=(0, 1.02), aspect="equal", xlabel="confidence", ylabel="share of right answers")
