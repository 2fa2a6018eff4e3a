"""What is in a data set: `python -m xray_models.datasets --task covid --data DIR --out DIR`.

Counts, sizes, exposure, near-copies, files left out, and what besides the finding may tell a label: as text, as
`manifest.csv`, `faults.csv` and `copies.csv`, and as PNG pictures.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.metrics import roc_auc_score
from tqdm import tqdm

from xray_models.datasets import Manifest, count_twins, write_manifest
from xray_models.grouping import join_groups
from xray_models.images import read_image
from xray_models.layouts import name_below
from xray_models.rows import write_sheet
from xray_models.survey_command import main as main
from xray_models.tasks import Task

SPLITS = ("train", "validation", "test")
EXPOSURE = ("dark", "mean", "bright")
_SHORTCUT = 0.8  # AUROC from which exposure or size alone is called a shortcut
_FEWEST = 20  # images of a label, below which nothing is said about it
_BINS = 20


@dataclasses.dataclass(frozen=True)
class Survey:
    """What was found.

    Attributes:
        task: the task.
        manifest: the data set.
        measures: one row for each of the manifest's: height and width in pixels; dark, mean and bright, the 5th
            percentile, mean and 95th percentile of grey in percent of white.
    """

    task: Task
    manifest: Manifest
    measures: pd.DataFrame

    @property
    def counts(self) -> pd.DataFrame:
        """Images by label (rows, in the task's order) and split (columns, with "all")."""
        rows = self.manifest.rows
        table = pd.crosstab(rows["label"], rows["split"])
        table = table.reindex(index=list(self.task.labels), columns=list(SPLITS), fill_value=0)
        return table.assign(all=table.sum(axis=1))


def take_survey(task: Task, manifest: Manifest) -> Survey:
    """Reads every image of a data set once, at its full size, and measures it."""
    return Survey(task, manifest, measure_images(manifest.rows["path"]))


def measure_images(paths: Iterable[str]) -> pd.DataFrame:
    """Measures size and exposure of N images.

    Returns:
        N rows: height and width in pixels; dark, mean and bright in percent of white.

    Raises:
        ImageError: when a file cannot be read.
    """
    paths = list(paths)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        measured = list(tqdm(pool.map(_measure, paths), "measuring", len(paths), unit="image", disable=None))
    return pd.DataFrame(measured, columns=["height", "width", *EXPOSURE])


def _measure(path: str) -> tuple[float, ...]:
    radiograph = read_image(path)
    height, width = radiograph.pixels.shape
    step = max(1, min(height, width) // 256)
    grey = radiograph.pixels[::step, ::step] * (100 / (2**radiograph.bits - 1))
    dark, bright = np.percentile(grey, [5, 95])
    return height, width, dark, grey.mean(), bright


def suggest_size(measures: pd.DataFrame) -> int:
    """The largest input's side that half of the images fill, or more: a multiple of 32 from 64 to 512 pixels."""
    shorter = measures[["height", "width"]].min(axis=1).median()
    return int(np.clip(shorter // 32 * 32, 64, 512))


def share_filling(measures: pd.DataFrame, size: int) -> float:
    """Share of the images whose shorter side has at least as many pixels as an input's."""
    return float((measures[["height", "width"]].min(axis=1) >= size).mean())


def find_shortcuts(labels: Sequence[str], measures: pd.DataFrame) -> list[str]:
    """Says which labels can be told by exposure or size alone.

    One half of the images learns how frequent the label is among images of like exposure or equal size, and
    the other half is ranked by it, then the other way round.

    Args:
        labels: (N,) label of each image.
        measures: N rows of `measure_images`.

    Returns:
        One sentence for each label and trait with an AUROC of 0.8 or more.
    """
    sizes = measures.groupby(["height", "width"]).ngroup().to_numpy()
    ranks = [np.ceil(measures[name].rank(pct=True).to_numpy() * _BINS).astype(int) for name in EXPOSURE]
    traits = {"the picture's size": [sizes], "the exposure": ranks}
    said = []
    for label in dict.fromkeys(labels):
        own = np.asarray(labels) == label
        if min(own.sum(), (~own).sum()) < _FEWEST:
            continue
        for trait, readings in traits.items():
            auroc = max(_tell_apart(codes, own) for codes in readings)
            if auroc >= _SHORTCUT:
                said.append(
                    f"{label}: {trait} alone tells it from the other labels with an AUROC of {auroc:.2f} (0.5 is "
                    "chance). A model can learn that in place of the finding."
                )
    return said


def _tell_apart(codes: np.ndarray, own: np.ndarray) -> float:
    """AUROC with which a code (N,) int >= 0 tells own (N,) bool, learned on the other half."""
    half = np.random.default_rng(0).permutation(len(codes)) % 2
    score = np.empty(len(codes))
    for fold in (0, 1):
        learned = half != fold
        seen = np.bincount(codes[learned], minlength=codes.max() + 1)
        hits = np.bincount(codes[learned], own[learned], minlength=codes.max() + 1)
        score[~learned] = ((hits + own.mean()) / (seen + 1))[codes[~learned]]
    return float(roc_auc_score(own, score))


def find_clusters(manifest: Manifest) -> list[np.ndarray]:
    """Places of the images that are near-copies of each other, the largest cluster first."""
    count = len(manifest.rows)
    numbers = join_groups(count, manifest.copies.pairs, [""] * count)
    order = np.argsort(numbers, kind="stable")
    clusters = np.split(order, np.flatnonzero(np.diff(numbers[order])) + 1)
    return sorted((cluster for cluster in clusters if len(cluster) > 1), key=len, reverse=True)


def list_copies(manifest: Manifest) -> pd.DataFrame:
    """One pair of near-copies a row: a and b (paths below the data folder), mirrored, label_a, label_b."""
    rows, (first, second) = manifest.rows, manifest.copies.pairs.T
    names = np.array([name_below(path, manifest.folder) for path in rows["path"]], dtype=object)
    labels = rows["label"].to_numpy()
    return pd.DataFrame(
        {
            "a": names[first],
            "b": names[second],
            "mirrored": manifest.copies.mirrored,
            "label_a": labels[first],
            "label_b": labels[second],
        }
    )


def render_text(survey: Survey) -> str:
    """A survey as lines for a terminal."""
    task, manifest, measures = survey.task, survey.manifest, survey.measures
    counts = survey.counts
    counts.loc["all"] = counts.sum()
    exposure = measures[list(EXPOSURE)].groupby(manifest.rows["label"]).mean().reindex(task.labels)
    sizes = measures[["width", "height"]].value_counts().reset_index(name="images")
    size = suggest_size(measures)
    common = ", ".join(f"{row.width} x {row.height} ({row.images})" for row in sizes.head(3).itertuples())
    lines = [
        f"{task.title}: {len(manifest.rows)} images in {manifest.folder}",
        counts.rename_axis(index=None, columns=None).to_string(),
        "",
        f"Sizes: {len(sizes)} different ones, most often {common}; {share_filling(measures, size):.0%} of the "
        f"images fill an input of {size} pixels.",
        "",
        "Exposure: 5th percentile, mean and 95th percentile of grey, in percent of white, averaged over the images",
        exposure.rename_axis(index=None).to_string(float_format="{:.0f}".format),
        "",
        *_describe_copies(survey),
        f"Files left out: {len(manifest.faults)}",
    ]
    lines += [f"  {reason} ({count})" for reason, count in manifest.faults["reason"].value_counts().items()]
    hints = find_shortcuts(list(manifest.rows["label"]), measures)
    return "\n".join([*lines, *(f"! {hint}" for hint in hints)])


def _describe_copies(survey: Survey) -> list[str]:
    if survey.task.split.group == "none":
        return ["Near-copies: not looked for, since the task says `split.group: none`"]
    manifest = survey.manifest
    pairs, mirrored = manifest.copies
    clusters = find_clusters(manifest)
    labels = manifest.rows["label"].to_numpy()
    torn = int((labels[pairs[:, 0]] != labels[pairs[:, 1]]).sum())
    twins = count_twins(manifest)
    lines = [
        f"Near-copies: {len(pairs)} pairs, {int(mirrored.sum())} of them mirrored, in {len(clusters)} clusters of "
        f"{sum(map(len, clusters))} images",
        f"Test images with a twin in train: {twins.related} of {twins.test}, {twins.copies} of them a near-copy",
    ]
    if torn:
        lines.append(f"! Pairs of near-copies under two labels: {torn} (copies.csv)")
    return lines


def write_survey(survey: Survey, out: Path) -> None:
    """Writes `manifest.csv`, `faults.csv`, `copies.csv` and the pictures."""
    from xray_models.survey_plots import draw_survey

    write_manifest(survey.manifest, out)
    write_sheet(list_copies(survey.manifest), out / "copies.csv")
    draw_survey(survey, out)
