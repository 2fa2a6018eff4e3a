"""What the report says about heatmaps, from what `heatmaps.judge_heatmaps` found."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from evaluation.document import Block, Cell, Figures, Grid, Paragraph, Plot, Section
from evaluation.faithfulness import LOST, TOLERANCE
from evaluation.summary import join, set_interval
from xray_models.attribution import TITLES
from xray_models.map_words import PLACES, say_pointing
from xray_models.style import INK, RULE, SERIES

_SHARES = {"pointing": "images, %", "energy": "the map’s positive values, %"}
_WARNING = "A heatmap shows what moved a model’s score. It does not show where disease is."


def build_heatmap_section(found: Mapping[str, Any]) -> Section:
    """Puts what `judge_heatmaps` found into the report."""
    models = found["models"]
    if not models:
        return Section("Heatmaps", (Paragraph(f"No map could be judged. {_explain(found)}", "warning"),))
    located = {name: model for name, model in models.items() if model["regions"]}
    blocks: list[Block] = [Paragraph(_summarise(found, located), "lead"), Paragraph(_WARNING, "note")]
    blocks += [Paragraph(_explain(found), "note"), _tabulate_faith(models)]
    plots = tuple(
        Plot(name, partial(_draw_curves, model, name == next(iter(models)))) for name, model in models.items()
    )
    note = (
        "Solid: in the map’s order. Dashed: in random order. A faithful map’s solid lines lie apart, insertion above."
    )
    blocks.append(Figures("heatmap_curves", plots, note))
    if located:
        blocks.append(_tabulate_places(located, found["regions"]))
        height = 0.9 + 0.3 * len(located)
        titles = {"pointing": "Peak inside", "energy": "Weight inside"}
        places = tuple(Plot(t, partial(_draw_places, located, m), (4.2, height)) for m, t in titles.items())
        note = "Dot and line: value and 95 % interval. Dotted: chance. Cross: a map that always points to the middle."
        blocks.append(Figures("heatmap_places", places, note))
    if found["agreement"]:
        blocks.append(_tabulate_agreement(found))
    return Section("Heatmaps", tuple(blocks))


def _name_method(found: Mapping[str, Any]) -> str:
    return TITLES[found["method"]]


def _summarise(found: Mapping[str, Any], located: Mapping[str, Any]) -> str:
    """Whose maps follow the model, whose do not, and who points best."""
    models = found["models"]
    faithful = [name for name, model in models.items() if (model["gain"]["low"] or 0) > 0]
    others = [name for name in models if name not in faithful]
    parts = []
    if faithful:
        parts.append(
            f"What the {_name_method(found)} maps of {join(faithful)} call important matters to these models more "
            "than random places do."
        )
    else:
        parts.append(f"No model’s {_name_method(found)} maps are shown to find what matters to it better than chance.")
    if faithful and others:
        theirs, them = ("their", "them") if len(others) > 1 else ("its", "it")
        parts.append(f"That is not shown for {join(others)}: {theirs} maps should not be trusted to explain {them}.")
    flat = [name for name, model in models.items() if model["sanity"]["correlation"]["value"] is None]
    if flat:
        parts.append(f"The maps of {join(flat)} are flat: they show no place at all.")
    kept = [name for name, model in models.items() if name not in flat and not model["sanity"]["passed"]]
    if kept:
        parts.append(f"A random network draws maps much like those of {join(kept)}, which speaks against them.")
    if located:
        parts.append(_say_best(located, found["regions"]))
        blind = [name for name, model in located.items() if (model["energy_gain"]["low"] or 0) <= 0]
        if blind:
            parts.append(
                f"For {join(blind)}, no more weight is shown to lie there than that of a map which knows nothing, "
                "spread evenly or over the middle."
            )
    return " ".join(parts)


def _say_best(located: Mapping[str, Any], kind: str) -> str:
    """Whose maps point into the regions most often, and whether that may be chance."""
    most = max(model["pointing"]["value"] for model in located.values())
    best = [name for name, model in located.items() if model["pointing"]["value"] == most]
    model = min((located[name] for name in best), key=lambda model: model["pointing"]["low"] or 0)
    said = say_pointing(f"At best, the maps of {join(best)}", model, kind)
    low = model["pointing"]["low"]
    if low is None or low > model["pointing_chance"]["value"]:
        return said
    return f"{said} With so few images that may be chance."


def _explain(found: Mapping[str, Any]) -> str:
    parts = [
        f"{found['n']} images, as many of each label as there are; maps of the label that the model names. "
        "Intervals: 95 %, bootstrap over groups."
    ]
    if found["regions"] == "finding":
        parts.append("Against annotated findings: maps of the true label.")
    if found["precision"] != "float32":
        parts.append(f"Scores were computed in {found['precision']}, maps in float32.")
    if found["left_out"]:
        parts.append(f"Left out, since they cannot be read: {found['left_out']} images.")
    parts += [f"Left out: {name}: {reason}." for name, reason in found["unavailable"].items()]
    return " ".join(parts)


def _tabulate_faith(models: Mapping[str, Any]) -> Grid:
    rows: list[tuple[str | Cell, ...]] = []
    for name, model in models.items():
        cells = [
            set_interval(model[key]) for key in ("insertion", "insertion_random", "deletion", "deletion_random", "gain")
        ]
        lost = "lost, as it should be" if model["sanity"]["passed"] else "kept"
        correlation = set_interval(model["sanity"]["correlation"])
        known = f"{correlation.small}; {lost}" if correlation.small else "not known"
        rows.append((name, *cells, Cell(correlation.text, known)))
    caption = (
        "Area under the named label’s probability. Insertion shows the image bit by bit over a blurred one (higher is "
        "better), deletion greys it bit by bit (lower is better), the most important pixels first (Petsiuk et al., "
        "2018). Gain: the mean advantage over random order. Random network: rank correlation with the maps of the same "
        f"network, untrained; it should be near 0 (Adebayo et al., 2018), and up to {LOST:g} either way counts as lost."
    )
    heads = ("Model", "Insertion", "in random order", "Deletion", "in random order", "Gain", "Random network")
    return Grid(caption, heads, tuple(rows))


def _tabulate_places(located: Mapping[str, Any], kind: str) -> Grid:
    """Peaks and weight inside: all regions, then the smaller and the larger half."""
    sizes = ("", "small", "large")

    def list_cells(model: Mapping[str, Any], suffix: str) -> list[Cell]:
        parts = [model[size] if size else model for size in sizes]
        return [set_interval(part[measure + suffix], 100, 1) for part in parts for measure in ("pointing", "energy")]

    first = next(iter(located.values()))
    rows: list[tuple[str | Cell, ...]] = [(name, *list_cells(model, "")) for name, model in located.items()]
    rows.append(("By chance", *list_cells(first, "_chance")))
    rows.append(("Always the middle", *list_cells(first, "_middle")))
    counts = [(first[size] if size else first)["pointing"]["n"] for size in sizes]
    heads = [
        f"{measure}{f', {size}' if size else ''} (n = {count})"
        for size, count in zip(sizes, counts, strict=True)
        for measure in ("Peak inside", "Weight inside")
    ]
    caption = (
        f"Held against {PLACES[kind]}, %. Peak inside: the pointing game (Zhang et al., 2018), with a margin of "
        f"{100 * TOLERANCE:.0f} % of the shorter side. Weight inside: share of the map’s positive values (Wang et al., "
        "2020). Small and large: below the median area, and from it on."
    )
    return Grid(caption, ("Model", *heads), tuple(rows))


def _tabulate_agreement(found: Mapping[str, Any]) -> Grid:
    rows: list[tuple[str | Cell, ...]] = [
        (
            pair.replace("|", " and "),
            set_interval(entry["correlation"]),
            set_interval(entry["overlap"]),
            str(entry["overlap"]["n"]),
        )
        for pair, entry in found["agreement"].items()
    ]
    caption = (
        "Do two models’ maps agree where both name the same label? Rank correlation on a common grid, and how far the "
        f"hottest fifths overlap (intersection over union; {found['chance_overlap']:.2f} by chance)."
    )
    return Grid(caption, ("Pair", "Rank correlation", "Overlap", "Images"), tuple(rows))


def _draw_curves(model: Mapping[str, Any], legend: bool, axes: Axes) -> None:
    """Mean probability against the share of pixels that was shown or hidden."""
    for colour, name in zip(SERIES, ("insertion", "deletion"), strict=False):
        for suffix, stroke in (("", "-"), ("_random", (0, (4, 2)))):
            curve = model["curves"][name + suffix]
            shares = np.linspace(0, 100, len(curve))
            axes.plot(shares, curve, color=colour, linestyle=stroke, linewidth=1.6, label="" if suffix else name)
    axes.set(xlim=(-1, 101), ylim=(-0.02, 1.02), xlabel="pixels shown or hidden, %", ylabel="probability")
    axes.grid(axis="y", color=RULE, linewidth=0.7)
    axes.set_axisbelow(True)
    if legend:
        axes.legend(loc="best", fontsize=8)


def _draw_places(located: Mapping[str, Any], measure: str, axes: Axes) -> None:
    """One line a model: value and interval, and what chance and the middle reach."""
    first = next(iter(located.values()))
    axes.axvline(100 * first[f"{measure}_chance"]["value"], color=INK, linewidth=1, linestyle=":")
    middle = 100 * first[f"{measure}_middle"]["value"]
    for place, model in enumerate(located.values()):
        value, low, high = (_percent(model[measure], key) for key in ("value", "low", "high"))
        axes.plot([low, high], [place, place], color=SERIES[0], linewidth=2)
        axes.plot(value, place, "o", color=SERIES[0], markersize=6)
        axes.plot(middle, place, "x", color=INK, markersize=5)
    furthest = float(np.nanmax([1, middle, *(_percent(model[measure], "high") for model in located.values())]))
    axes.set_yticks(range(len(located)), list(located))
    axes.set(xlim=(-0.03 * furthest, 1.05 * furthest), ylim=(len(located) - 0.5, -0.5), xlabel=_SHARES[measure])
    axes.grid(axis="x", color=RULE, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.tick_params(length=0)
    axes.spines["left"].set_visible(False)


def _percent(found: Mapping[str, Any], key: str) -> float:
    return np.nan if found[key] is None else 100 * found[key]
