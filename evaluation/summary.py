"""What an evaluation found, in words and in numbers as people write them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from evaluation.document import Cell
from evaluation.predictions import CONSENSUS, Table
from xray_models.tasks import Task

TITLES = {
    "accuracy": "Accuracy, %",
    "balanced_accuracy": "Balanced accuracy, %",
    "macro_f1": "Macro F1",
    "mcc": "MCC",
    "auroc": "AUROC",
    "auprc": "AUPRC",
    "brier": "Brier score",
    "ece": "Calibration error, %",
    "ece_by_chance": "By chance, %",
    "overconfidence": "Confidence − accuracy, %",
    "nll": "Log loss",
    "sensitivity": "Sensitivity, %",
    "specificity": "Specificity, %",
    "ppv": "Positive predictive value, %",
    "npv": "Negative predictive value, %",
    "auroc_by_label": "AUROC",
    "auprc_by_label": "AUPRC",
    "coverage": "Coverage, %",
    "set_size": "Labels per set",
}

UNKNOWN = "interval not known"  # in the place of bounds that fewer than two groups leave undefined
NO_SPREAD = "no spread"  # in the place of bounds that every resample agrees on
_ONE_POINT = 1e-9  # bounds that are nearer differ by rounding alone


def summarise(task: Task, table: Table, scores: Mapping[str, Any]) -> list[str]:
    """Says how the panel does: accuracy, what it misses most, which models differ, what its disagreement is worth.

    Args:
        task: the task.
        table: the answers.
        scores: the content of `metrics.json`.

    Returns:
        Plain sentences, not escaped for HTML.
    """
    names, together = list(table.models), scores["models"][CONSENSUS]
    kind = "image" if scores["split"] in ("all", "given") else f"{scores['split']} image"
    who = f"the consensus of {len(names)} models" if len(names) > 1 else f"{names[0]}, the only model,"
    right = format_percent(together["accuracy"], "95\N{NO-BREAK SPACE}% interval: ")
    sentences = [f"On {count(len(table.images), kind)}, {who} is right in {right}."]
    sentences += [_describe_guess(table), *_describe_missed(task, together)]
    if len(names) > 1:
        whole = [name for name in names if scores["models"][name]["n"] == together["n"]]  # answered all that any did
        sentences += [_compare_best(scores, whole)] if whole else []
        sentences += [_compare_models(scores, names), _describe_divided(table)]
    return [*sentences, *_describe_worklist(scores)]


def _describe_guess(table: Table) -> str:
    """What naming the same label every time would reach."""
    counts = np.bincount(table.truth, minlength=len(table.labels))
    share = f"{100 * counts.max() / counts.sum():.1f}\N{NO-BREAK SPACE}%"
    return f"Naming the most frequent label, {table.labels[counts.argmax()]}, every time would be right in {share}."


def _describe_missed(task: Task, together: Mapping[str, Any]) -> list[str]:
    found = {label: together["sensitivity"][label] for label in task.positive}
    shown = {label: share for label, share in found.items() if share["value"] is not None}
    if not shown:
        return []
    weakest = min(shown, key=lambda label: shown[label]["value"])
    share = format_percent(shown[weakest])
    if len(shown) == 1:
        return [f"Of the images that show {weakest}, it names {share}."]
    if shown[weakest]["value"] == 1:
        return ["It misses none of the findings that these images show."]
    return [f"The finding it misses most is {weakest}: it names {share} of the images that show it."]


def _compare_best(scores: Mapping[str, Any], names: Sequence[str]) -> str:
    best = max(names, key=lambda name: scores["models"][name]["accuracy"]["value"])
    pair = next(pair for pair in scores["pairs"] if (pair["a"], pair["b"]) == (best, CONSENSUS))
    value = 100 * pair["accuracy_difference"]["value"]
    points = f"{abs(value):.1f} points {'more' if value > 0 else 'less'} than the consensus"
    differs = f"{abs(value):.1f}" != "0.0"
    compared = points if differs else "as often as the consensus"
    return (
        f"The best single model on these images, {best}, is right in "
        f"{format_percent(scores['models'][best]['accuracy'])}, "
        f"{compared} ({_describe_doubt(pair['accuracy_difference'], differs)})."
    )


def _describe_doubt(difference: Mapping[str, float | None], differs: bool) -> str:
    """What the interval of a difference says."""
    low, high = difference["low"], difference["high"]
    if low is None or high is None:
        return "whether that is chance cannot be told"
    doubt = ", so that may be chance" if differs and low <= 0 <= high else ""
    return f"interval of the difference: {_signed(100 * low)} to {_signed(100 * high)}{doubt}"


def _compare_models(scores: Mapping[str, Any], names: Sequence[str]) -> str:
    """Which models do not differ in accuracy, as far as these images can tell (McNemar over groups, Holm)."""
    pairs = [pair for pair in scores["pairs"] if {pair["a"], pair["b"]} <= set(names)]
    if any(pair["holm_p"] is None for pair in pairs):
        return "Whether the models differ in accuracy cannot be told."
    alike = [pair for pair in pairs if pair["holm_p"] >= 0.05]
    if not alike:
        return "Each two models differ in accuracy (McNemar, corrected by Holm)."
    if len(alike) == len(pairs) > 1:
        least = min(pair["holm_p"] for pair in alike)
        between = f"any two models ({_show_p(least)} or more)"
    else:
        between = ", ".join(f"{pair['a']} and {pair['b']} ({_show_p(pair['holm_p'])})" for pair in alike)
    return (
        f"No difference in accuracy can be shown between {between}, which does not show them equal; p by McNemar, "
        "corrected by Holm."
    )


def _show_p(value: float) -> str:
    return f"p\N{NO-BREAK SPACE}=\N{NO-BREAK SPACE}{value:.2f}"


def _describe_worklist(scores: Mapping[str, Any]) -> list[str]:
    """What reading a fifth of the images finds."""
    found = scores["worklist"]
    if not found["errors"]:
        return []
    at = found["budget"].index(0.2)
    doubtful = _show_found(found["errors_found"]["entropy"], at)
    disputed = found["errors_found"].get("disagreement")
    other = f", the fifth on which its models disagree most {_show_found(disputed, at)}" if disputed else ""
    errors = count(found["errors"], "error")
    return [
        f"Reading the fifth of the images of which the panel is least sure finds {doubtful} of the consensus’ "
        f"{errors}{other}; a random fifth would find 20 %."
    ]


def _show_found(found: Mapping[str, Sequence[float | None]], at: int) -> str:
    """A share of the errors with its interval, "67 % (53 to 80)"."""
    share = set_interval({key: found[key][at] for key in ("value", "low", "high")}, 100, 0)
    return f"{share.text}\N{NO-BREAK SPACE}% ({share.small})"


def _describe_divided(table: Table) -> str:
    right = table.answers[CONSENSUS].predicted == table.truth
    divided, agreed = right[table.divided], right[~table.divided]
    if not len(divided):
        return "All models name the same label on every image."
    elsewhere = f", on the others in {_count_share(agreed)}" if len(agreed) else ""
    return (
        f"The models disagree on {count(len(divided), 'image')}; there the consensus is right in "
        f"{_count_share(divided)}{elsewhere}."
    )


def _count_share(right: np.ndarray) -> str:
    return f"{int(right.sum()):,} of {len(right):,} ({100 * right.mean():.1f} %)"


def count(number: int, noun: str) -> str:
    """A number of things, "1 image" or "1,200 images"."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def join(words: Sequence[str]) -> str:
    """One word or more as a sentence lists them: "a", "a and b", "a, b and c"."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def format_value(value: float | None, metric: str) -> str:
    """A metric's number: per cent with one digit where its title says so, else three digits; – for None."""
    percent = TITLES.get(metric, "").endswith("%")
    return format_number(value, 100, 1) if percent else format_number(value, 1, 3)


def format_number(value: float | None, scale: float, digits: int) -> str:
    """A number times `scale`, with so many digits behind the point; – for None, and no −0."""
    return "–" if value is None else f"{round(scale * value, digits) + 0.0:.{digits}f}".replace("-", "−")


def set_interval(found: Mapping[str, float | None], scale: float = 1, digits: int = 2) -> Cell:
    """A table's cell: a value, and its interval below."""
    if found["value"] is None:
        return Cell("–")
    value, low, high = (format_number(found[key], scale, digits) for key in ("value", "low", "high"))
    return Cell(value, _name_bounds(found) or f"{low} to {high}")


def format_range(found: Mapping[str, Any], metric: str) -> str:
    """The bounds of an interval, "93.4 to 96.7"."""
    return _name_bounds(found) or f"{format_value(found['low'], metric)} to {format_value(found['high'], metric)}"


def _name_bounds(found: Mapping[str, Any]) -> str:
    """What stands in the place of bounds that are not there or that are one; else ""."""
    if found["low"] is None:
        return UNKNOWN
    return NO_SPREAD if abs(found["high"] - found["low"]) < _ONE_POINT else ""


def format_percent(found: Mapping[str, Any], before: str = "") -> str:
    """A share with its interval, "95.2 % (93.4 to 96.7)", and perhaps with words before that."""
    shown = format_value(found["value"], "accuracy")
    return f"{shown}\N{NO-BREAK SPACE}% ({before}{format_range(found, 'accuracy')})"


def _signed(points: float) -> str:
    return f"{points:+.1f}".replace("-", "−")
