"""Can traits that are no finding tell the label? A small classifier tries, and an interval says how far to trust it.

images' traits -> boosted trees, learned on four fifths of the groups, asked about the last -> AUROC of each label
against the rest, with a 95 % bootstrap interval over groups -> the rule.

The rule has two steps. A family of traits is *there* when the AUROC of some label is above 0.5 at a one-sided level of
0.5 %, divided by the number of labels and families (Bonferroni). The level is that strict since cross-validation
spreads more than a bootstrap sees: with labels shuffled among 300 images, 4 trials of 100 found something there (at
5 %, 20 of 200). An *alarm* asks for more: the lower end of a label's interval must reach the family's bar (0.65; 0.8
where the finding itself changes the trait), so that it also matters. It came up in none of 300 such trials, and on
none of 20 sets of 160 phantoms; with a bright corner of 3 pixels in one label, on all 20.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy.stats import norm, rankdata
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.model_selection import StratifiedGroupKFold
from threadpoolctl import threadpool_limits

from evaluation.metrics import auroc_by_label
from evaluation.statistics import Interval, bootstrap
from evaluation.traits import FAMILIES

FEWEST = 20  # groups of a label, below which nothing is said about it
MOST = 6000  # images that are looked at; from more, so many are drawn
RESAMPLES = 500
LEVEL = 0.005
_FOLDS = 5
Folds = list[tuple[np.ndarray, np.ndarray]]
_UNKNOWN = Interval(np.nan, np.nan, np.nan)


class Shortcut(NamedTuple):
    """What a family of traits tells.

    Attributes:
        auroc: mean over the labels, each against the rest, on groups that were not learned from.
        labels: the same for each label.
        clearest: the label that is told best; "" where nothing could be judged.
        strongest: the trait that alone, high or low, tells that label best; "" where none varies.
        higher: whether the trait is higher in that label than in the others.
        there: whether it is more than chance.
        alarm: whether it is strong enough to matter.
    """

    auroc: Interval
    labels: dict[str, Interval]
    clearest: str = ""
    strongest: str = ""
    higher: bool = False
    there: bool = False
    alarm: bool = False


def pick_images(labels: Sequence[str], groups: np.ndarray, seed: int = 0) -> np.ndarray:
    """Chooses the images to learn from: those of labels with at least 20 groups, and of these at most 6,000.

    Returns:
        Their numbers, in order; none where fewer than two labels are left.
    """
    table = pd.DataFrame({"label": list(labels), "group": groups})
    counts = table.groupby("label")["group"].nunique()
    enough = set(counts.index[counts >= FEWEST])
    if len(enough) < 2:
        return np.empty(0, np.int64)
    places = np.flatnonzero(table["label"].isin(enough))
    if len(places) > MOST:
        places = np.random.default_rng(seed).choice(places, MOST, replace=False)
    return np.sort(places)


def judge_shortcuts(
    labels: Sequence[str], groups: np.ndarray, traits: Mapping[str, pd.DataFrame], seed: int = 0
) -> dict[str, Shortcut]:
    """Judges families of traits.

    Args:
        labels: (N,) label of each image.
        groups: (N,) group of each image; never split between learning and asking.
        traits: N rows for each family, by its name in `FAMILIES`.
        seed: of the folds and the bootstrap.

    Returns:
        A `Shortcut` for each family; with intervals of NaN where fewer than two labels have 20 groups.
    """
    picked = pick_images(labels, groups, seed)
    if not len(picked):
        return {family: Shortcut(_UNKNOWN, {}) for family in traits}
    names, truth = np.unique(np.asarray(labels, dtype=object)[picked], return_inverse=True)
    held = np.asarray(groups)[picked]
    sample = _Sample(names, truth, held, fold_groups(truth, held, seed), seed)
    level = LEVEL / (len(traits) * len(names))
    return {family: _judge(sample, table.iloc[picked], FAMILIES[family].bar, level) for family, table in traits.items()}


class _Sample(NamedTuple):
    """The images that every family is judged on: labels' names (K,), truth and groups (N,), folds, the seed."""

    names: np.ndarray
    truth: np.ndarray
    groups: np.ndarray
    folds: Folds
    seed: int


def _judge(sample: _Sample, traits: pd.DataFrame, bar: float, level: float) -> Shortcut:
    values = traits.to_numpy(np.float64)
    probs = predict_apart(values, sample.truth, sample.folds)

    def measure(weights: np.ndarray | None) -> dict[str, Any]:
        areas = auroc_by_label(probs, sample.truth, weights)
        return {"labels": areas, "macro": areas.mean(axis=-1)}

    found = bootstrap(measure, sample.groups, RESAMPLES, sample.seed)
    areas = {name: Interval(*row) for name, row in zip(sample.names, zip(*found["labels"], strict=True), strict=True)}
    clearest = max(areas, key=lambda name: areas[name].low)
    strongest, higher = find_strongest(values, sample.names[sample.truth] == clearest)
    spread = [(area.high - area.low) / (2 * norm.ppf(0.975)) for area in areas.values()]
    scores = [(area.value - 0.5) / max(s, 1e-9) for area, s in zip(areas.values(), spread, strict=True)]
    return Shortcut(
        found["macro"],
        areas,
        clearest,
        "" if strongest is None else str(traits.columns[strongest]),
        higher,
        there=bool(max(scores) > norm.isf(level)),
        alarm=bool(areas[clearest].low >= bar),
    )


def fold_groups(truth: np.ndarray, groups: np.ndarray, seed: int = 0) -> Folds:
    """Deals the images into five folds; a group stays together, each fold gets its share of every label.

    Args:
        truth: (N,) label numbers.
        groups: (N,).
        seed: of the shuffling.

    Returns:
        For each fold the numbers of the images to learn from, and of those to ask about.
    """
    folds = StratifiedGroupKFold(_FOLDS, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The least populated class")
        return list(folds.split(truth, truth, groups))


def predict_apart(traits: np.ndarray, truth: np.ndarray, folds: Folds) -> np.ndarray:
    """Predicts each image's label from its traits, learned on other folds.

    The trees grow on one thread. They are small, and OpenMP's threads wait for each other at every split: in a process
    in which torch has computed before, that takes three times as long.

    Args:
        traits: (N, F).
        truth: (N,) label numbers, 0 to K - 1.
        folds: of `fold_groups`.

    Returns:
        (N, K) probabilities.
    """
    probs = np.full((len(truth), truth.max() + 1), 1e-9)
    trees = HistGradientBoostingClassifier(
        max_iter=50, max_leaf_nodes=8, min_samples_leaf=int(np.clip(len(truth) // 50, 3, 20)), early_stopping=False
    )
    with threadpool_limits(1, user_api="openmp"):
        for learned, asked in folds:
            trees.fit(traits[learned], truth[learned])
            probs[np.ix_(asked, trees.classes_)] = trees.predict_proba(traits[asked])
    return probs


def find_strongest(traits: np.ndarray, own: np.ndarray) -> tuple[int | None, bool]:
    """Finds the trait that alone ranks a label's images highest above, or lowest below, the others.

    Args:
        traits: (N, F).
        own: (N,) bool, the label's images.

    Returns:
        Its number, None where no trait varies; and whether it is higher in the label.
    """
    ranks = rankdata(traits, axis=0)
    count, others = own.sum(), (~own).sum()
    areas = (ranks[own].sum(axis=0) - count * (count + 1) / 2) / (count * others)
    best = int(np.argmax(np.abs(areas - 0.5)))
    if traits[:, best].min() == traits[:, best].max():
        return None, False
    return best, bool(areas[best] > 0.5)
