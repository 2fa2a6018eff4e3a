"""What the report says about images that are made worse, from what `robustness.judge_robustness` found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from evaluation.document import Block, Cell, Figures, Grid, Paragraph, Plot, Section
from evaluation.perturbations import PERTURBATIONS
from evaluation.plots import style_of
from evaluation.predictions import CONSENSUS
from evaluation.summary import join, set_interval
from xray_models.style import RULE


def build_robustness_section(found: Mapping[str, Any]) -> Section:
    """Puts what `judge_robustness` found into the report."""
    ways = found["perturbations"]
    blocks: list[Block] = [Paragraph(_summarise(found), "lead"), Paragraph(_explain(found), "note")]
    blocks += [_tabulate_harm(ways), _tabulate_models(ways, found["models"])]
    roomy = max(ways, key=lambda name: _find_lowest(ways[name]))  # the plot whose lower left is free for the legend
    plots = tuple(
        Plot(way["title"], partial(_draw, name, way, found["models"], name == roomy)) for name, way in ways.items()
    )
    blocks.append(
        Figures(
            "robustness",
            plots,
            "Right answers at each strength, on the left those on the image as it is. Steps are drawn equally wide.",
        )
    )
    return Section("When images are worse", tuple(blocks))


def _summarise(found: Mapping[str, Any]) -> str:
    """What hurts most, and from which strength on the consensus loses 5 points."""
    ways = found["perturbations"]
    losses = {name: round(100 * (way["loss"][-1]["value"] or 0)) for name, way in ways.items()}
    worst = [_say(name, ways[name]["strengths"][-1]) for name in ways if losses[name] == max(losses.values())]
    strongest = f"{join(worst)} cost{'s' if len(worst) == 1 else ''} the consensus most"
    harmful = {name: way["harmful_from"] for name, way in ways.items() if way["harmful_from"] is not None}
    steps = {name: ways[name]["strengths"].index(strength) for name, strength in harmful.items()}
    if not harmful:
        return "No perturbation costs the consensus 5 points of its accuracy, even at its strongest."
    first = [name for name in harmful if steps[name] == min(steps.values())]
    harmless = [_name(name) for name in ways if name not in harmful]
    parts = [
        f"At full strength, {strongest}: {max(losses.values())} points of its accuracy. "
        f"It loses 5 points soonest under {join([_say(name, harmful[name]) for name in first])}."
    ]
    if harmless:
        parts.append(f"It never loses as much under {join(harmless)}.")
    return " ".join(parts)


def _say(name: str, strength: float) -> str:
    return f"{_name(name)} ({PERTURBATIONS[name].say(strength)})"


def _name(name: str) -> str:
    """A perturbation's title inside a sentence."""
    title = PERTURBATIONS[name].title
    return title if title.isupper() else title.lower()


def _explain(found: Mapping[str, Any]) -> str:
    precision = found["precision"]
    parts = [
        f"{found['n']} images, as many of each label as there are; one image is {100 / found['n']:.1f} points, and a "
        f"loss of 5 points, from which on the summary counts, {_count(found['n'])}. "
        "Each is perturbed as a radiograph, before it is prepared for a model. Intervals: 95 %, bootstrap over groups."
    ]
    if precision["computed_in"] != "float32":
        parts.append(
            f"Computed in {precision['computed_in']}, which changes {precision['changed']} of the models’ "
            f"{precision['answers']} labels on the untouched images."
        )
    if found["left_out"]:
        parts.append(f"Left out, since they cannot be read: {found['left_out']}.")
    return " ".join(parts)


def _count(images: int) -> str:
    """How many of so many images are 5 points or more."""
    fewest = -(-images // 20)
    return f"{fewest} images" if fewest > 1 else "1 image"


def _tabulate_harm(ways: Mapping[str, Any]) -> Grid:
    rows: list[tuple[str | Cell, ...]] = []
    for name, way in ways.items():
        way_of = PERTURBATIONS[name]
        harmful = "never" if way["harmful_from"] is None else way_of.say(way["harmful_from"])
        last = {key: way[key][-1] for key in ("loss", "fleiss_kappa")}
        rows.append(
            (
                way["title"],
                harmful,
                way_of.say(way["strengths"][-1]),
                set_interval(last["loss"], 100, 1),
                set_interval(way["same_label"][CONSENSUS][-1], 100, 1),
                set_interval(last["fleiss_kappa"], 1, 2),
            )
        )
    kappa = next(iter(ways.values()))["fleiss_kappa"][0]["value"]
    caption = "What each perturbation does to the consensus, and to the models’ agreement (Fleiss’ kappa" + (
        f"; untouched {kappa:.2f})." if kappa is not None else ")."
    )
    heads = ("Perturbation", "5 points lost from", "Strongest", "Points lost then", "Same label then, %", "Kappa then")
    return Grid(caption, heads, tuple(rows))


def _tabulate_models(ways: Mapping[str, Any], models: Sequence[str]) -> Grid:
    """Accuracy untouched, and its mean over the five strengths of each perturbation."""
    untouched = next(iter(ways.values()))["accuracy"]
    rows: list[tuple[str | Cell, ...]] = [
        (
            model,
            set_interval(untouched[model][0], 100, 1),
            *(f"{100 * _mean_value(way['accuracy'][model][1:]):.1f}" for way in ways.values()),
        )
        for model in models
    ]
    heads = ("Model", "Untouched", *(way["title"] for way in ways.values()))
    return Grid(
        "Right answers, %: untouched, and the mean over the five strengths of each perturbation.", heads, tuple(rows)
    )


def _mean_value(found: Sequence[Mapping[str, float | None]]) -> float:
    values = [entry["value"] for entry in found if entry["value"] is not None]
    return float(np.mean(values)) if values else float("nan")


def _find_lowest(way: Mapping[str, Any]) -> float:
    """The lowest accuracy of any model at the weaker strengths."""
    values = [entry["value"] for found in way["accuracy"].values() for entry in found[:-1]]
    return min((value for value in values if value is not None), default=0.0)


def _draw(name: str, way: Mapping[str, Any], models: Sequence[str], legend: bool, axes: Axes) -> None:
    """Accuracy against strength, a line a model; the consensus lies on top."""
    places = range(len(way["strengths"]))
    for model in models:
        values = [np.nan if found["value"] is None else 100 * found["value"] for found in way["accuracy"][model]]
        axes.plot(places, values, label=model, **style_of(models[:-1], model))
    axes.set_xticks(places, [PERTURBATIONS[name].show(strength) for strength in way["strengths"]])
    axes.set(ylim=(-2, 102), xlabel=way["unit"], ylabel="right answers, %")
    axes.grid(axis="y", color=RULE, linewidth=0.7)
    axes.set_axisbelow(True)
    if legend:
        axes.legend(loc="lower left", fontsize=8, handlelength=2.4)
