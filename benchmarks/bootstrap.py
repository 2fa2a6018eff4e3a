"""How long the intervals take, and how much memory: `python -m benchmarks.bootstrap [--images N ...] [--resamples R]`.

Everything that `metrics.json` holds for a panel of six models and their consensus on four labels, from made-up answers,
in seconds of processor time (other work on the machine does not count); one line with one image a group, one with five,
one where a model did not answer a tenth of the images. Against calling scikit-learn once for each resample, which is
timed on a few and counted up, for the areas and the table metrics alone.
"""

from __future__ import annotations

import sys

if __name__ == "__main__":  # answers --help before what follows is imported
    from benchmarks.commands import bootstrap

    sys.exit(bootstrap())

import argparse
import resource
import time
import warnings

import numpy as np
from sklearn import metrics

from evaluation.predictions import CONSENSUS, Answers, Table
from evaluation.scoring import score

MODELS, LABELS = 6, ("COVID", "Lung_Opacity", "Normal", "Viral Pneumonia")
TRIED = 10  # resamples on which scikit-learn is timed


def draw_table(images: int, size: int = 1, missing: float = 0.0) -> Table:
    """Made-up answers.

    Args:
        images: how many, N.
        size: images a group.
        missing: share of the images that the second model did not answer.
    """
    rng = np.random.default_rng(0)
    truth = rng.integers(len(LABELS), size=images)
    answers = {}
    for index in range(MODELS):
        logits = rng.normal(size=(images, len(LABELS))) + (2 + 0.2 * index) * np.eye(len(LABELS))[truth]
        probs = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        answers[f"model {index + 1}"] = Answers(None, probs, probs > 0.2, np.ones(images))
    answers["model 2"].probs[rng.random(images) < missing] = np.nan
    together = np.nanmean([found.probs for found in answers.values()], axis=0)
    answers[CONSENSUS] = Answers(None, together, together > 0.2, np.ones(images))
    names = tuple(f"{index}.png" for index in range(images))
    nothing = np.zeros(images)
    return Table(LABELS, names, (np.arange(images) // size).astype(str), truth, answers, nothing, nothing > 0)


def time_score(table: Table, resamples: int) -> float:
    """Seconds that scoring a table takes."""
    started = time.process_time()
    score(table, resamples, 0)
    return time.process_time() - started


def time_loop(table: Table, resamples: int) -> float:
    """Seconds that a loop over resamples would take that calls scikit-learn for each model."""
    rng = np.random.default_rng(0)
    started = time.process_time()
    for _ in range(TRIED):
        drawn = rng.integers(len(table.truth), size=len(table.truth))
        for answers in table.answers.values():
            _call_sklearn(answers.probs[drawn], table.truth[drawn])
    return (time.process_time() - started) * resamples / TRIED


def _call_sklearn(probs: np.ndarray, truth: np.ndarray) -> None:
    predicted = probs.argmax(axis=1)
    metrics.accuracy_score(truth, predicted)
    metrics.balanced_accuracy_score(truth, predicted)
    metrics.f1_score(truth, predicted, average="macro")
    metrics.matthews_corrcoef(truth, predicted)
    metrics.log_loss(truth, probs, labels=range(probs.shape[1]))
    for k in range(probs.shape[1]):
        metrics.roc_auc_score(truth == k, probs[:, k])
        metrics.average_precision_score(truth == k, probs[:, k])


def _peak() -> float:
    """Largest memory of this process so far, in MB (kilobytes are what Linux counts in)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000


def run(options: argparse.Namespace) -> None:
    """Prints the table."""
    warnings.filterwarnings("ignore", "Mean of empty slice")
    warnings.filterwarnings("ignore", category=UserWarning, module="sklearn")  # of a resample that lacks a label
    print(f"{MODELS} models and their consensus, {len(LABELS)} labels, {options.resamples:,} resamples")
    print("images  images a group  answered  seconds  scikit-learn in a loop, seconds")
    bare = _peak()
    for images in options.images:
        loop = time_loop(draw_table(images), options.resamples)
        for size, missing in ((1, 0.0), (5, 0.0), (1, 0.1)):
            seconds = time_score(draw_table(images, size, missing), options.resamples)
            answered = "90 %" if missing else "all"
            print(f"{images:6} {size:15} {answered:>9} {seconds:8.1f}  {loop:30.0f}")
    print(f"largest memory: {_peak():.0f} MB, {bare:.0f} MB of them before anything was scored")
