"""What the report says about images that a task is not for, from what `strangers.judge_strangers` found."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from evaluation.document import Cell, Grid, Paragraph, Section
from evaluation.predictions import CONSENSUS
from evaluation.summary import set_interval


def build_strangers_section(found: Mapping[str, Any]) -> Section:
    """Puts what `judge_strangers` found into the report."""
    models = list(dict.fromkeys(name for entry in found.values() for name in entry["models"]))
    blocks = (
        Paragraph(_summarise(found), "lead"),
        Paragraph(
            "A model’s novelty is the squared Mahalanobis distance of an image to its training images, over that which "
            "99 % of its validation images stay within: above 1 it calls the image unlike those. The consensus takes "
            "the root mean square of its models. AUROC: how well novelty tells these images from the task’s own.",
            "note",
        ),
        _tabulate(found, models, "refused", "Called unlike the training images, %."),
        _tabulate(found, models, "auroc", "AUROC of the novelty."),
    )
    return Section("Images that are not for this task", blocks)


def _summarise(found: Mapping[str, Any]) -> str:
    shares = {
        kind: entry["models"][CONSENSUS]["refused"]["value"]
        for kind, entry in found.items()
        if CONSENSUS in entry["models"]
    }
    if not shares:
        return "None of the models knows what is like its training images."
    worst = min(shares, key=lambda kind: shares[kind])
    if shares[worst] == 1:
        return "The models together call every one of these images unlike their training images."
    share = set_interval(found[worst]["models"][CONSENSUS]["refused"], 100, 1)
    return (
        f"The models together call {worst} unlike their training images least often: {share.text} % ({share.small}) "
        f"of {found[worst]['n']} images."
    )


def _tabulate(found: Mapping[str, Any], models: list[str], measure: str, caption: str) -> Grid:
    rows: list[tuple[str | Cell, ...]] = [
        (kind, f"{entry['n']:,}", *(_cell(entry["models"].get(name), measure) for name in models))
        for kind, entry in found.items()
    ]
    return Grid(caption, ("Images", "n", *models), tuple(rows))


def _cell(known: Mapping[str, Any] | None, measure: str) -> Cell:
    if known is None:
        return Cell("–")
    return set_interval(known[measure], *((100, 1) if measure == "refused" else (1, 3)))
