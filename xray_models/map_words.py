"""What is said of a model's heatmaps in few words, in the report and beside a map on the page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

PLACES = {"finding": "the annotated finding", "lungs": "the lungs"}
"""What the regions are that maps are held against."""


class MapNote(NamedTuple):
    """What may stand beside a model's map.

    Attributes:
        method: the method whose maps were judged, a key of `xray_models.attribution.METHODS`.
        faithful: whether what the maps call important is shown to matter to the model more than random places.
        short: a few words for a card.
        text: the whole of it, in sentences.
    """

    method: str
    faithful: bool
    short: str
    text: str


def say_pointing(who: str, model: Mapping[str, Any], kind: str) -> str:
    """How often maps point into the annotated region, beside chance.

    Args:
        who: the maps, as the sentence's subject.
        model: a model of what `heatmaps.judge_heatmaps` gives, which has regions.
        kind: the regions, "finding" or "lungs".
    """
    value, chance = _percents(model)
    return f"{who} point into {PLACES[kind]} in {value} of {model['pointing']['n']} images (chance {chance})."


def describe_maps(found: Mapping[str, Any], title: str) -> dict[str, MapNote]:
    """What may stand beside each model's maps.

    Args:
        found: what `heatmaps.judge_heatmaps` gives.
        title: what people call the method.
    """
    return {name: _describe(model, found, title) for name, model in found["models"].items()}


def _describe(model: Mapping[str, Any], found: Mapping[str, Any], title: str) -> MapNote:
    faithful = (model["gain"]["low"] or 0) > 0
    short = "map follows the model" if faithful else "map not shown to follow the model"
    count = model["gain"]["n"]
    shown = "matters" if faithful else "is not shown to matter"
    text = f"On {count} test images, what {title} calls important {shown} to this model more than random places do."
    if model["regions"]:
        value, chance = _percents(model)
        short += f" · peak in {PLACES[found['regions']].split()[-1]} {value} (chance {chance})"
        text += " " + say_pointing("Its maps", model, found["regions"])
    if not model["sanity"]["passed"] and model["sanity"]["correlation"]["value"] is None:
        short += " · its maps are flat"
        text += " Its maps are flat: they show no place at all."
    elif not model["sanity"]["passed"]:
        short += " · a random network draws it, too"
        text += " A network with random weights draws much the same maps, which speaks against them."
    return MapNote(found["method"], faithful, short, text)


def _percents(model: Mapping[str, Any]) -> tuple[str, str]:
    value, chance = (f"{100 * model[key]['value']:.0f} %" for key in ("pointing", "pointing_chance"))
    return value, chance
