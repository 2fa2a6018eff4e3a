"""The audit of a data set as a section of the report."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from matplotlib.axes import Axes

from evaluation.audit import word_sign
from evaluation.document import Block, Cell, Figures, Gallery, Grid, Line, Paragraph, Picture, Plot, Section
from evaluation.shortcuts import FEWEST
from evaluation.summary import format_range, format_value
from evaluation.traits import BAR, CONTENT_BAR, FAMILIES
from xray_models.style import INK, RULE, SERIES

TITLE = "Audit of the data"
_RULE = (
    "Each family of traits alone is given to a small classifier, which learns on some groups and is asked about "
    "others; AUROC 0.5 is chance. “There, but weak”: more than chance, at a level strict enough for all labels and "
    "traits at once, so that an interval above 0.5 alone does not do. “Alarm”: also strong enough to matter, with the "
    f"lower end of the interval at {BAR:g} or above, or at {CONTENT_BAR:g} for file size, exposure and all together, "
    "since a finding may change these itself. With labels shuffled among 300 images there was no alarm in 300 trials, "
    "and something “there” in 4 of 100. An alarm says what a model could learn in place of the finding, not that it "
    "does."
)


def build_audit_section(found: Mapping[str, Any]) -> Section:
    """Sets what `audit.audit_dataset` found.

    Args:
        found: its plain data.

    Returns:
        The alarms, twins, contradictions, shortcuts, what hidden margins cost, and the pairs to look at.
    """
    blocks: list[Block] = [Paragraph(alarm, "warning") for alarm in found["alarms"]]
    if not blocks:
        twins = "no twins across splits, no picture under two labels, " if found["looked"] else ""
        blocks.append(Paragraph(f"No alarm: {twins}no shortcut strong enough to matter."))
    blocks += _set_twins(found)
    blocks += _set_shortcuts(found)
    blocks += _set_hidden(found["margins"]["hidden"])
    pictures = _list_pictures(found)
    if pictures:
        blocks.append(Gallery(pictures, "Some of the pairs; all of them are in contradictions.csv and twins.csv."))
    return Section(TITLE, tuple(blocks))


def _set_twins(found: Mapping[str, Any]) -> list[Block]:
    twins = found["twins"]
    if not found["looked"]:
        said = "Near-copies were not looked for, since the task’s images are apart by themselves (split.group: none)."
        return [Paragraph(said, "note")]
    rows = tuple(
        (whose, *(f"{counts[key]:,}" for key in ("test", "copies", "mirrored", "related")))
        for whose, counts in (("The split in use", twins["split"]), ("The publisher’s split", twins["official"]))
        if counts
    )
    mirrored = f"{twins['mirrored']:,} of them mirrored"
    said = f"{twins['pairs']:,} pairs of near-copies in {found['images']:,} images, {mirrored}."
    heads = ("Split", "Test images", "Near-copy in train", "Mirrored one", "Patient or chain in train")
    blocks: list[Block] = [Paragraph(said, "note")]
    if rows:
        blocks.append(Grid("Test images that training has seen in another guise.", heads, rows))
    unsplit = (twins["official"] or {}).get("unsplit", 0)
    if unsplit:
        blocks.append(Paragraph(f"{unsplit:,} images are in no split of the publisher.", "note"))
    return blocks


def _set_shortcuts(found: Mapping[str, Any]) -> list[Block]:
    told = _list_families(found)
    blocks: list[Block] = []
    if found["unjudged"]:
        few = ", ".join(found["unjudged"])
        blocks.append(Paragraph(f"Not judged for shortcuts, with fewer than {FEWEST} groups: {few}.", "note"))
    if not told:
        return blocks
    rows = tuple(_set_row(FAMILIES[name].title, entry) for name, entry in told.items())
    heads = ("Traits", "AUROC, mean of labels", "Label told best", "Strongest sign", "Verdict")
    plot = Plot("Told by traits that are no finding", partial(_draw, told), (4.6, 0.7 + 0.3 * len(told)))
    return [
        *blocks,
        Grid("What can tell the label besides the finding.", heads, rows),
        Paragraph(_RULE, "note"),
        Figures(
            "shortcuts",
            (plot,),
            "The label told best: AUROC with its 95 % interval. Open circle: the alarm’s bar. Orange: alarm.",
        ),
    ]


def _list_families(found: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """What was judged, in the order of `FAMILIES`."""
    told = {**found["shortcuts"], "margins": found["margins"]}
    return {name: told[name] for name in FAMILIES if name in told and told[name]["clearest"]}


def _set_row(title: str, entry: Mapping[str, Any]) -> tuple[str | Cell, ...]:
    best = entry["labels"][entry["clearest"]]
    sign = Cell(entry["strongest"], word_sign(entry)) if entry["there"] and entry["strongest"] else Cell("–")
    verdict = "alarm" if entry["alarm"] else "there, but weak" if entry["there"] else "nothing found"
    return (
        title,
        Cell(format_value(entry["auroc"]["value"], "auroc"), format_range(entry["auroc"], "auroc")),
        Cell(f"{entry['clearest']} {format_value(best['value'], 'auroc')}", format_range(best, "auroc")),
        sign,
        Cell(verdict),
    )


def _set_hidden(hidden: Mapping[str, Any] | None) -> list[Block]:
    if not hidden or not hidden["models"]:
        return []
    rows = tuple(
        (name, *(_set_share(entry[key]) for key in ("whole", "hidden", "difference", "changed")))
        for name, entry in hidden["models"].items()
    )
    caption = (
        f"The same {hidden['n']:,} images with the outer {100 * hidden['share']:.0f} % of each side hidden: accuracy, "
        "%, and the share of images that are called differently, %."
    )
    return [Grid(caption, ("Model", "Whole", "Margins hidden", "Difference, points", "Called differently"), rows)]


def _set_share(found: Mapping[str, Any]) -> Cell:
    if found["value"] is None:
        return Cell("–")
    return Cell(format_value(found["value"], "accuracy"), format_range(found, "accuracy"))


def _list_pictures(found: Mapping[str, Any]) -> tuple[Picture, ...]:
    """Both images of some pairs: pictures under two labels first, then twins."""
    torn = [
        picture
        for pair in found["contradictions"]["examples"]
        for picture in (
            Picture(pair["image"], pair["image_label"], (Line(pair["kind"], pair["other"]),)),
            Picture(pair["other"], pair["other_label"], (Line(pair["kind"], pair["image"]),)),
        )
    ]
    twins = []
    for pair in found["twins"]["examples"]:
        kind = "mirrored near-copy" if pair["mirrored"] else "near-copy"
        for own, other in (("image", "twin"), ("twin", "image")):
            theirs = pair[f"{own}_official"]
            parts = (pair[f"{own}_label"], pair[f"{own}_split"], f"the publisher’s {theirs}" if theirs else "")
            twins.append(Picture(pair[own], ", ".join(filter(None, parts)), (Line(kind, pair[other]),)))
    return (*torn, *twins)


def _draw(told: Mapping[str, Mapping[str, Any]], axes: Axes) -> None:
    """The label told best by each family: value, interval and bar."""
    for place, (name, entry) in enumerate(told.items()):
        best = entry["labels"][entry["clearest"]]
        colour = SERIES[1] if entry["alarm"] else SERIES[0]
        axes.plot([best["low"], best["high"]], [place, place], color=colour, linewidth=2)
        axes.plot(best["value"], place, "o", color=colour, markersize=6)
        axes.plot(FAMILIES[name].bar, place, "o", markersize=5, markerfacecolor="none", markeredgecolor=INK)
    axes.axvline(0.5, color=RULE, linewidth=1)
    axes.set_yticks(range(len(told)), [FAMILIES[name].title for name in told])
    axes.set_ylim(len(told) - 0.5, -0.5)
    axes.set_xlim(min(0.45, *(entry["labels"][entry["clearest"]]["low"] for entry in told.values())), 1.01)
    axes.grid(axis="x", color=RULE, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.tick_params(length=0)
    axes.spines["left"].set_visible(False)
    axes.set_xlabel("AUROC")
