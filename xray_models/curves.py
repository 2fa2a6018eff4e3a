"""Learning curves of one training, as a picture in the model's folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, StrMethodFormatter

from xray_models.style import RULE, SERIES, STYLE

_BLUE, _ORANGE, _GREEN = SERIES[:3]


def plot_curves(history: Sequence[dict[str, Any]], path: Path) -> None:
    """Draws loss, accuracy and learning rate over the epochs.

    Args:
        history: the Trainer's `state.log_history`.
        path: PNG file to write.
    """
    with matplotlib.rc_context(STYLE):
        _draw(history).savefig(path, metadata={"Software": None})


def _draw(history: Sequence[dict[str, Any]]) -> Figure:
    figure = Figure(figsize=(9.6, 2.9), dpi=110, layout="constrained")
    loss, accuracy, rate = figure.subplots(1, 3)
    for key, colour, label in (
        ("loss", _ORANGE, "training (as optimised)"),
        ("eval_log_loss", _BLUE, "validation"),
    ):
        loss.plot(*_series(history, key), color=colour, marker="o", markersize=3, label=label)
    loss.set(title="Log loss", xlabel="epoch", ylim=(0, None))
    loss.legend()
    accuracy.plot(*_series(history, "eval_accuracy"), color=_BLUE, marker="o", markersize=3)
    accuracy.set(title="Validation accuracy", xlabel="epoch")
    accuracy.yaxis.set_major_formatter(lambda share, _: f"{100 * share:.5g}%")  # as many digits as a tick needs
    rate.plot(*_series(history, "learning_rate"), color=_GREEN, marker="o", markersize=3)
    rate.set(title="Learning rate", xlabel="epoch", ylim=(0, None))
    rate.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    for axes in (loss, accuracy, rate):
        axes.grid(axis="y", color=RULE)
        axes.set_axisbelow(True)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    return figure


def _series(history: Sequence[dict[str, Any]], key: str) -> tuple[list[float], list[float]]:
    points = [(entry["epoch"], entry[key]) for entry in history if key in entry]
    return [x for x, _ in points], [y for _, y in points]
