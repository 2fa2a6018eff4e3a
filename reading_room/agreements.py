"""How far readers and models agree on flagged images, and what the panel's word did to blinded readers. No gradio."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import matplotlib
import numpy as np
import pandas as pd

from reading_room.cards import title_of
from xray_models.flag_record import read_opinions
from xray_models.flags import list_rows
from xray_models.style import INK, RULE, SERIES, STYLE

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PANEL = "the panel"
_RESAMPLES, _SEED = 2000, 0
_FEWEST = 2  # images; one alone is no agreement beyond chance
_LONGEST = 20  # characters of a name in the plot; the table has all of them
_PAPER = {INK: "var(--text)", RULE: "var(--line)", SERIES[0]: "var(--accent)", SERIES[1]: "var(--warn)"}


class Kappa(NamedTuple):
    """Agreement of two raters beyond chance.

    Attributes:
        first: a rater.
        second: another.
        images: images that both gave a label to.
        value: Cohen's kappa in [-1, 1]; None where it is not defined (fewer than two images, or one
            label throughout).
        low: 2.5th percentile over resampled images, or None.
        high: 97.5th percentile.
    """

    first: str
    second: str
    images: int
    value: float | None
    low: float | None
    high: float | None


class Switch(NamedTuple):
    """What readers did who first said something other than the panel.

    Attributes:
        reader: the reader, or "all readers".
        right: whether the panel was right, as the accepted label of the image says.
        switched: images whose label the reader changed to the panel's.
        cases: images on which the reader had first said something else.
    """

    reader: str
    right: bool
    switched: int
    cases: int

    @property
    def interval(self) -> tuple[float, float] | None:
        """The 95 % interval of the share that switched (Wilson, 1927); None without cases."""
        if not self.cases:
            return None
        from scipy.stats import binomtest  # see `draw_agreement`

        found = binomtest(self.switched, self.cases).proportion_ci(method="wilson")
        return float(found.low), float(found.high)


def gather_labels(flags: pd.DataFrame, task: str, first: bool = False) -> pd.DataFrame:
    """Who gave which label to which flagged image.

    Decisions on flags, and a label that settles an image, are no readings of their own and do not count.

    Args:
        flags: as `review.load_flags` gives them.
        task: the task.
        first: readers' labels from before the panel spoke, where they read blinded; else their last word.

    Returns:
        One rater a column, one image a row, named by sha256; None where a rater has no label.
    """
    own = flags[(flags["task"] == task) & (flags["decides"] == "") & (flags["status"] == "open")]
    own = own.sort_values("created_at")
    said: dict[str, dict[str, str]] = {}
    for row in list_rows(own):
        label, image = row["first_label" if first else "corrected_label"], row["image_sha256"]
        if label:
            said.setdefault(f"reader {row['reader']}", {})[image] = label
        for model, opinion in read_opinions(row["opinions"]).items():
            said.setdefault(title_of(model), {})[image] = opinion["label"]
        if row["consensus_label"]:
            said.setdefault(PANEL, {})[image] = row["consensus_label"]
    readers = sorted(name for name in said if name.startswith("reader "))
    others = sorted(name for name in said if name not in readers and name != PANEL)
    order = [*readers, *([PANEL] if PANEL in said else []), *others]
    table = pd.DataFrame(said, columns=order, dtype=object)
    return table.where(table.notna(), None)


def compare_raters(said: pd.DataFrame, labels: Sequence[str]) -> list[Kappa]:
    """Agreement of every two raters, with intervals from images drawn again with replacement.

    Args:
        said: as `gather_labels` gives it.
        labels: the task's labels.
    """
    raters = list(said.columns)
    pairs = [(a, b) for place, a in enumerate(raters) for b in raters[place + 1 :]]
    return [_compare(a, b, _cross(said[a], said[b], labels)) for a, b in pairs]


def _cross(first: pd.Series, second: pd.Series, labels: Sequence[str]) -> np.ndarray:
    """(K, K) counts of the images that both labelled."""
    numbers = {label: place for place, label in enumerate(labels)}
    counts = np.zeros((len(labels), len(labels)), int)
    for a, b in zip(first.map(numbers), second.map(numbers), strict=True):
        if not (pd.isna(a) or pd.isna(b)):
            counts[int(a), int(b)] += 1
    return counts


def _compare(first: str, second: str, counts: np.ndarray) -> Kappa:
    images = int(counts.sum())
    if images < _FEWEST:
        return Kappa(first, second, images, None, None, None)
    value = cohen_kappa(counts[None])[0]
    if np.isnan(value):
        return Kappa(first, second, images, None, None, None)
    rng = np.random.default_rng(_SEED)
    drawn = rng.multinomial(images, counts.ravel() / images, size=_RESAMPLES).reshape(-1, *counts.shape)
    kappas = cohen_kappa(drawn)
    low, high = np.nanpercentile(kappas, [2.5, 97.5])
    return Kappa(first, second, images, float(value), float(low), float(high))


def cohen_kappa(counts: np.ndarray) -> np.ndarray:
    """Cohen's kappa (1960).

    Args:
        counts: (R, K, K) images by the labels of two raters.

    Returns:
        (R,) in [-1, 1]; NaN where both give one and the same label throughout.
    """
    shares = counts / counts.sum(axis=(1, 2), keepdims=True)
    observed = np.trace(shares, axis1=1, axis2=2)
    possible = 1 - (shares.sum(axis=1) * shares.sum(axis=2)).sum(axis=1)
    defined = possible > 1e-9
    return np.where(defined, 1 - (1 - observed) / np.where(defined, possible, 1), np.nan)


def draw_agreement(kappas: Sequence[Kappa], raters: Sequence[str]) -> str:
    """Draws the kappas as a heatmap with their figures: an `<svg>` in the page's font and colours."""
    side = max(2.6, 1.0 + 0.62 * len(raters))
    from matplotlib.figure import Figure  # takes a quarter of a second to import, as scipy.stats does

    with matplotlib.rc_context({**STYLE, "svg.fonttype": "none", "svg.hashsalt": "second-read"}):
        figure = Figure(figsize=(side + 0.9, side), layout="constrained")
        _fill_grid(figure.subplots(), kappas, list(raters))
        file = io.StringIO()
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    svg = file.getvalue()
    svg = re.sub(r"<metadata>.*?</metadata>\s*", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    svg = re.sub(r'font: ([^"\';]*?)([\d.]+px)[^";]*', r"font: \1\2 system-ui, sans-serif", svg)
    for colour, variable in _PAPER.items():
        svg = svg.replace(colour, variable)
    return svg.replace(
        "<svg", '<svg role="img" aria-label="Agreement of every two raters; the table has the figures"', 1
    )


def _fill_grid(axes: Axes, kappas: Sequence[Kappa], raters: list[str]) -> None:
    """One square a pair, below the diagonal; below chance is the other colour and has a minus sign."""
    places = {name: place for place, name in enumerate(raters)}
    for kappa in kappas:
        column, row = sorted((places[kappa.first], places[kappa.second]))
        if kappa.value is not None:
            colour = SERIES[0] if kappa.value >= 0 else SERIES[1]
            strength = 0.05 + 0.4 * min(abs(kappa.value), 1)
            axes.fill_between([column, column + 0.96], row, row + 0.96, color=colour, alpha=strength, linewidth=0)
        text = "–" if kappa.value is None else f"{kappa.value:.2f}".replace("-", "−")
        axes.text(column + 0.48, row + 0.48, text, ha="center", va="center")
    count = len(raters)
    short = [name if len(name) <= _LONGEST else f"{name[: _LONGEST - 1].rstrip()}…" for name in raters]
    axes.set_xticks(np.arange(count - 1) + 0.48, short[:-1], rotation=30, ha="right", rotation_mode="anchor")
    axes.set_yticks(np.arange(1, count) + 0.48, short[1:])
    axes.set(xlim=(0, count - 1), ylim=(count, 1), aspect="equal")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)


def count_switches(flags: pd.DataFrame, accepted: Mapping[str, str], task: str) -> list[Switch]:
    """Counts how often blinded readers changed their label to the panel's, with the panel right and with it wrong.

    Whether it was right is taken from the image's accepted label; images without one do not count.

    Args:
        flags: as `review.load_flags` gives them.
        accepted: the accepted label of images, by sha256.
        task: the task.

    Returns:
        Two a reader, panel right and panel wrong, and two for all readers together first.
    """
    blinded = (flags["mode"] == "blinded") & (flags["first_label"] != "") & (flags["consensus_label"] != "")
    rows = flags[blinded & (flags["task"] == task) & (flags["decides"] == "")].sort_values("created_at")
    rows = rows.drop_duplicates(["reader", "image_sha256"], keep="last")
    rows = rows[(rows["first_label"] != rows["consensus_label"]) & rows["image_sha256"].isin(list(accepted))]
    right = rows["image_sha256"].map(accepted) == rows["consensus_label"]
    switched = rows["corrected_label"] == rows["consensus_label"]
    found = []
    everybody = pd.Series(True, rows.index)
    readers = [(name, rows["reader"] == name) for name in sorted(rows["reader"].unique())]
    for name, own in [("all readers", everybody), *readers]:  # one of whom may have that name
        found += [
            Switch(name, kind, int((switched & own & (right == kind)).sum()), int((own & (right == kind)).sum()))
            for kind in (True, False)
        ]
    return found
