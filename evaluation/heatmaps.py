"""Judges a panel's heatmaps: are they faithful to the model, do they lie where something was annotated, do they agree?

A heatmap shows what moved a score. However well it does here, it does not show where disease is.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from evaluation import faithfulness as faith
from evaluation.heatmap_section import build_heatmap_section
from evaluation.map_judge import Judge, Place, Records, Stage, prepare_inputs
from evaluation.regions import Regions, open_regions, resize_region
from evaluation.samples import Item, QuickPanel, measure_means, read_sample
from xray_models.attribution import METHODS
from xray_models.panel import Panel
from xray_models.tasks import choose

__all__ = ["build_heatmap_section", "judge_heatmaps"]

_log = logging.getLogger(__name__)

_CURVES = ("insertion", "deletion", "insertion_random", "deletion_random")
_PLACES = ("pointing", "energy")
_CHANCES = ("pointing_chance", "energy_chance", "pointing_middle", "energy_middle")


def judge_heatmaps(
    panel: Panel, rows: pd.DataFrame, folder: Path, limit: int = 32, seed: int = 0, method: str = "grad_cam"
) -> dict[str, Any]:
    """Judges every model's heatmaps on a sample of images.

    Faithfulness and agreement are those of the map of the label that the model names; where a finding is annotated,
    the map of the true label is held against it, and against lungs the map of the named label.

    Args:
        panel: the models.
        rows: of a manifest, as a rule of the test split: path, label, group.
        folder: the data folder, where the annotations lie.
        limit: the most images that are looked at, the same number of every label as far as there are.
        seed: of the sample, of random orders and networks, and of the bootstrap.
        method: a key of `attribution.METHODS`.

    Returns:
        What `metrics.json` holds under "heatmaps", as plain data: "method", "n", "left_out", "seed", "precision",
        "unavailable", "regions" ("finding", "lungs" or ""), "chance_overlap", "models" and "agreement". A
        model has "insertion", "deletion", "insertion_random", "deletion_random" (areas, as intervals with n),
        "gain" (how much better than random order, the mean of both), "curves" (the areas' mean curves), "sanity"
        ("correlation", not known where all the model's own maps are flat, "passed", "blank"), "regions" (how
        many), and where there are any "pointing", "energy",
        "pointing_chance", "energy_chance", "pointing_middle", "energy_middle" (a map that always points to
        the middle), once for all and once each under "small" and "large", and "energy_gain" (beyond the better
        of chance and middle). A pair has "correlation" and "overlap", on the images where both name the same
        label.

    Raises:
        TaskError: for an unknown method.
        DataError: when no image can be read.
    """
    choose("method", method, METHODS)
    sample = read_sample(rows, folder, limit, seed)
    regions = open_regions(panel.task, folder)
    quick = QuickPanel(panel)
    records = Records(len(sample.items))
    judges = {name: Judge(quick, member, method, regions.kind, seed) for name, member in panel.checkpoints.items()}
    for index, item in enumerate(tqdm(sample.items, "heatmaps", unit="image", disable=None)):
        specs = {judge.member.spec for judge in judges.values()}
        stage = Stage(index, item, _find_place(regions, item), prepare_inputs(item, specs, seed + index))
        _record_chance(records, stage)
        _judge_image(judges, stage, records)
    return {
        "method": method,
        "n": len(sample.items),
        "left_out": sample.left_out,
        "seed": seed,
        "precision": quick.precision,
        "unavailable": records.unavailable,
        "regions": regions.kind,
        "chance_overlap": faith.CHANCE_OVERLAP,
        **_gather(records, list(judges), sample.groups, seed),
    }


def _find_place(regions: Regions, item: Item) -> Place | None:
    whole = regions.find(Path(item.path), item.shape)
    if whole is None:
        return None
    region = resize_region(whole, item.image.pixels.shape)
    return Place(region, faith.measure_distance(region))


def _judge_image(judges: Mapping[str, Judge], stage: Stage, records: Records) -> None:
    """Judges all models on one image; one that fails is left out from then on, with its reason."""
    seen: dict[str, tuple[int, np.ndarray]] = {}
    for name, judge in judges.items():
        if name in records.unavailable:
            continue
        try:
            seen[name] = judge.judge(stage, records)
        except (RuntimeError, ValueError) as error:
            records.unavailable[name] = str(error).splitlines()[0]
            _log.warning("the heatmaps of %s are left out: %s", name, records.unavailable[name])
    for (a, (first, one)), (b, (second, other)) in combinations(seen.items(), 2):
        if first == second:
            records.numbers[f"{a}|{b}", "correlation"][stage.at] = faith.correlate_ranks(one, other)
            records.numbers[f"{a}|{b}", "overlap"][stage.at] = faith.overlap_tops(one, other)


def _record_chance(records: Records, stage: Stage) -> None:
    """What a random place, and a map that points to the middle, reach on the image's region."""
    if stage.place is None:
        return
    region, distance = stage.place
    middle = faith.draw_middle(region.shape)
    found = {
        "energy_chance": float(region.mean()),
        "pointing_chance": faith.pointing_chance(distance),
        "energy_middle": faith.energy_inside(middle, region),
        "pointing_middle": faith.points_into(middle, distance),
    }
    for measure, value in found.items():
        records.numbers["", measure][stage.at] = value


def _gather(records: Records, names: list[str], groups: np.ndarray, seed: int) -> dict[str, Any]:
    """Means and intervals of all that was recorded, by model and by pair."""
    judged = [name for name in names if name not in records.unavailable]
    numbers = dict(records.numbers)
    numbers |= _split_by_size(numbers)
    for name in judged:
        numbers |= _compare_with_chance(numbers, name)
    found = measure_means(numbers, groups, seed)
    return {
        "models": {name: _describe(records, found, name) for name in judged},
        "agreement": {
            f"{a}|{b}": {measure: found[f"{a}|{b}", measure] for measure in ("correlation", "overlap")}
            for a, b in combinations(judged, 2)
            if (f"{a}|{b}", "overlap") in found
        },
    }


def _compare_with_chance(numbers: Mapping[tuple[str, str], np.ndarray], name: str) -> dict[tuple[str, str], np.ndarray]:
    """How much better a model's maps are than chance, image by image."""
    own = {measure: numbers[name, measure] for measure in _CURVES}
    shown, hidden = own["insertion"] - own["insertion_random"], own["deletion_random"] - own["deletion"]
    gains = {(name, "gain"): (shown + hidden) / 2}
    if (name, "energy") in numbers:
        naive = max((numbers["", measure] for measure in ("energy_chance", "energy_middle")), key=np.nanmean)
        gains[name, "energy_gain"] = numbers[name, "energy"] - naive
    return gains


def _split_by_size(numbers: Mapping[tuple[str, str], np.ndarray]) -> dict[tuple[str, str], np.ndarray]:
    """The measures of place once more for the smaller and the larger half of the regions."""
    if ("", "energy_chance") not in numbers:
        return {}
    area = numbers["", "energy_chance"]
    small = area < np.nanmedian(area)
    return {
        (model, f"{size} {measure}"): np.where(chosen & ~np.isnan(area), values, np.nan)
        for size, chosen in (("small", small), ("large", ~small))
        for (model, measure), values in numbers.items()
        if measure in (*_PLACES, *_CHANCES)
    }


def _describe(records: Records, found: Mapping[tuple[str, str], Any], name: str) -> dict[str, Any]:
    """One model's entry."""
    sanity = found[name, "sanity"]
    entry: dict[str, Any] = {measure: found[name, measure] for measure in (*_CURVES, "gain")}
    means = {measure: np.nanmean(records.curves[name, measure], axis=0) for measure in _CURVES}
    entry["curves"] = {measure: [round(float(score), 6) for score in mean] for measure, mean in means.items()}
    entry["sanity"] = {
        "correlation": sanity,
        "passed": sanity["value"] is not None and bool(abs(sanity["value"]) < faith.LOST),
        "blank": records.blank[name],
    }
    entry["regions"] = found[name, "pointing"]["n"] if (name, "pointing") in found else 0
    if entry["regions"]:
        entry |= _describe_place(found, name, "") | {"energy_gain": found[name, "energy_gain"]}
        entry |= {size: _describe_place(found, name, f"{size} ") for size in ("small", "large")}
    return entry


def _describe_place(found: Mapping[tuple[str, str], Any], name: str, size: str) -> dict[str, Any]:
    own = {measure: found[name, size + measure] for measure in _PLACES}
    return own | {measure: found["", size + measure] for measure in _CHANCES}
