"""What disturbs a panel: its answers on images that are noisy, blurred, turned, badly exposed or compressed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from evaluation.agreement import fleiss_kappa
from evaluation.perturbations import PERTURBATIONS
from evaluation.predictions import CONSENSUS
from evaluation.robustness_section import build_robustness_section
from evaluation.samples import RESAMPLES, ImageSample, QuickPanel, mean_known, read_sample
from evaluation.statistics import Interval, bootstrap, describe
from xray_models.images import Radiograph
from xray_models.panel import Panel
from xray_models.readings import Reading

__all__ = ["PERTURBATIONS", "build_robustness_section", "judge_robustness"]

LOSS = 0.05  # of the consensus' accuracy: from here on a perturbation counts as harmful
_SLACK = 1e-9


def judge_robustness(panel: Panel, rows: pd.DataFrame, folder: Path, limit: int = 32, seed: int = 0) -> dict[str, Any]:
    """Asks a panel about images that are made worse in seven ways, each at five strengths.

    Args:
        panel: the models.
        rows: of a manifest, as a rule of the test split: path, label, group.
        folder: the data folder.
        limit: the most images that are looked at, the same number of every label as far as there are.
        seed: of the sample, of the perturbations and of the bootstrap.

    Returns:
        What `metrics.json` holds under "robustness", as plain data: "n", "left_out" (files that could not be
        read), "seed", "models" (names, the consensus last), "precision", and "perturbations" by name:
        "strengths" (0 first), "accuracy" and "same_label" (share of images that keep the label they have
        without the perturbation) by model, "fleiss_kappa", "loss" (of the consensus' accuracy, on the same
        images), an interval for each strength; and "harmful_from", the strength from which on that loss is 5
        points or more, or None.

    Raises:
        DataError: when no image can be read.
    """
    sample = read_sample(rows, folder, limit, seed)
    quick = QuickPanel(panel)
    names = [*panel.checkpoints, CONSENSUS]
    named = _name_labels(quick, sample, seed)  # (N, 1 + 35, M + 1)
    truth = np.array([panel.task.labels.index(item.label) for item in sample.items])
    measure = partial(_measure, named, truth, len(panel.task.labels))
    intervals = bootstrap(measure, sample.groups, RESAMPLES, seed)
    return {
        "n": len(sample.items),
        "left_out": sample.left_out,
        "seed": seed,
        "models": names,
        "precision": _compare_precision(panel, quick, sample, named[:, 0]),
        "perturbations": {name: _describe(name, names, intervals) for name in PERTURBATIONS},
    }


def _name_labels(panel: QuickPanel, sample: ImageSample, seed: int) -> np.ndarray:
    """(N, 1 + 35, M + 1) label numbers of each model and the consensus on each variant; -1 without an answer."""
    variants = 1 + sum(len(way.strengths) for way in PERTURBATIONS.values())
    count = len(sample.items) * variants
    readings = panel.read_many(_vary(sample, seed))
    found = [
        _number_labels(panel, reading) for reading in tqdm(readings, "disturbing", count, unit="image", disable=None)
    ]
    return np.array(found).reshape(len(sample.items), variants, -1)


def _vary(sample: ImageSample, seed: int) -> Iterator[Radiograph]:
    """Each image as it is, then by every perturbation at every strength, in the registry's order."""
    for place, item in enumerate(sample.items):
        yield item.image
        for number, way in enumerate(PERTURBATIONS.values()):
            own = int(np.random.SeedSequence([seed, place, number]).generate_state(1)[0])
            for strength in way.strengths:
                yield way(item.image, strength, own)


def _number_labels(panel: Panel, reading: Reading) -> list[int]:
    """What the models that were loaded and the consensus name, as label numbers; -1 without an answer."""
    loaded = panel.checkpoints
    answers = [opinion.label for opinion in reading.opinions if opinion.model in loaded]
    answers.append(reading.consensus.label if reading.consensus else None)
    return [-1 if label is None else panel.task.labels.index(label) for label in answers]


def _compare_precision(panel: Panel, quick: QuickPanel, sample: ImageSample, quickly: np.ndarray) -> dict[str, Any]:
    """In which numbers was computed, and how many of the models' labels on the untouched images that changed."""
    changed = 0
    if quick.half:
        readings = panel.read_many(item.image for item in sample.items)
        exactly = np.array([_number_labels(panel, reading) for reading in readings])
        changed = int((exactly != quickly)[:, :-1].sum())
    return {"computed_in": quick.precision, "changed": changed, "answers": quickly[:, :-1].size}


def _measure(named: np.ndarray, truth: np.ndarray, classes: int, weights: np.ndarray | None) -> dict[str, np.ndarray]:
    """Means for the whole sample (None) or for (R, N) resamples, for each variant and model."""
    drawn = np.ones((1, len(truth))) if weights is None else weights
    right = np.where(named < 0, np.nan, named == truth[:, None, None])
    asked = (named >= 0) & (named[:, :1] >= 0)
    same = np.where(asked, named == named[:, :1], np.nan)
    found = {
        "accuracy": mean_known(right, drawn),
        "same_label": mean_known(same, drawn),
        "loss": mean_known(right[:, :1, -1] - right[:, :, -1], drawn),
        "fleiss_kappa": _measure_kappa(named[:, :, :-1], classes, drawn),
    }
    return {name: values[0] for name, values in found.items()} if weights is None else found


def _measure_kappa(named: np.ndarray, classes: int, weights: np.ndarray) -> np.ndarray:
    """(R, V) Fleiss' kappa of the models in each of V variants, on the images that all of them answered."""
    kappas = np.full((len(weights), named.shape[1]), np.nan)
    if named.shape[2] < 2:
        return kappas
    for variant in range(named.shape[1]):
        everyone = (named[:, variant] >= 0).all(axis=1)
        if everyone.any():
            counts = (named[everyone, variant, :, None] == np.arange(classes)).sum(axis=1)
            kappas[:, variant] = fleiss_kappa(counts, weights[:, everyone])
    return kappas


def _describe(name: str, models: Sequence[str], intervals: Mapping[str, Interval]) -> dict[str, Any]:
    """One perturbation's entry."""
    before = 1
    for other, way in PERTURBATIONS.items():
        if other == name:
            break
        before += len(way.strengths)
    way = PERTURBATIONS[name]
    places = [0, *range(before, before + len(way.strengths))]

    def list_intervals(measure: str, *model: int) -> list[dict[str, float | None]]:
        return [describe(*(part[(place, *model)] for part in intervals[measure])) for place in places]

    loss = list_intervals("loss")
    return {
        "title": way.title,
        "unit": way.unit,
        "strengths": [0, *way.strengths],
        "accuracy": {model: list_intervals("accuracy", k) for k, model in enumerate(models)},
        "same_label": {model: list_intervals("same_label", k) for k, model in enumerate(models)},
        "fleiss_kappa": list_intervals("fleiss_kappa"),
        "loss": loss,
        "harmful_from": _find_harm([0, *way.strengths], [found["value"] for found in loss]),
    }


def _find_harm(strengths: Sequence[float], losses: Sequence[float | None]) -> float | None:
    """The strength from which on every loss is 5 points or more."""
    harmful = None
    for strength, loss in zip(reversed(strengths), reversed(losses), strict=True):
        if loss is None or loss < LOSS - _SLACK:
            break
        harmful = strength
    return harmful
