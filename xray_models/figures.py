"""A model's test in figures: those of its own config, or those of an evaluation, with their intervals."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from xray_models.tasks import Task, TaskError, choose

METRICS = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced_accuracy",
    "auroc": "roc_auc",
    "nll": "nll",
    "ece": "ece",
}
"""Figures that a card shows, and what the Hub calls them."""

WILSON = "Wilson, which takes each image as independent"
BOOTSTRAPS = {  # by what is drawn together
    "none": "bootstrap over images",
    "copies": "bootstrap over groups: near-copies are drawn together",
    "patients": "bootstrap over groups: near-copies, and images of one patient, are drawn together",
}
_UNKNOWN = {"value": None}


class Share(NamedTuple):
    """A figure, None where the test has no images for it, and, where one is known, its 95 % interval."""

    value: float | None
    low: float | None = None
    high: float | None = None


class Bin(NamedTuple):
    """Test images of about the same confidence: how many, how sure the model is, and how often it is right."""

    n: int
    confidence: float
    accuracy: Share


class Figures(NamedTuple):
    """What a card says of a model's test, all of it of the same images.

    Attributes:
        n: test images.
        support: those of them that have each label.
        whole: each key of `METRICS`.
        sensitivity: by label.
        specificity: by label.
        coverage: share of the images whose prediction set holds the true label.
        set_size: labels in a prediction set, on average.
        intervals: how the intervals were found.
        split: kind of the split that the images are of, as in `tasks.SPLIT_KINDS`; "" where that is not known.
        chance: the calibration error that chance would make of calibrated probabilities; None where not known.
        reliability: all test images by confidence, the least sure first; empty where not known.
    """

    n: int
    support: dict[str, int]
    whole: dict[str, Share]
    sensitivity: dict[str, Share]
    specificity: dict[str, Share]
    coverage: Share
    set_size: Share
    intervals: str
    split: str = ""
    chance: Share | None = None
    reliability: tuple[Bin, ...] = ()

    def find_weakest(self) -> str | None:
        """The label with the lowest sensitivity; None where no sensitivity is defined."""
        known = {label: share.value for label, share in self.sensitivity.items() if share.value is not None}
        return min(known, key=known.__getitem__, default=None)


def list_figures(info: Mapping[str, Any]) -> Figures:
    """Figures as a model's own `config.json` holds them; shares of images get Wilson's interval (1927)."""
    test, count = info["test"], info["counts"]["test"]
    whole = {key: Share(test[key]) for key in METRICS} | {"accuracy": _wilson(test["accuracy"], count)}
    held = {label: (own, count - own) for label, own in test["support"].items()}
    sensitivity = {label: _wilson(test["sensitivity"][label], own) for label, (own, _) in held.items()}
    specificity = {label: _wilson(test["specificity"][label], others) for label, (_, others) in held.items()}
    coverage, size = Share(test.get("coverage")), Share(test.get("set_size"))
    split = info.get("split", "")
    return Figures(count, test["support"], whole, sensitivity, specificity, coverage, size, WILSON, split)


def take_figures(task: Task, model: str, digest: str, metrics: Mapping[str, Any]) -> Figures:
    """Figures of an evaluation of this very model.

    Args:
        task: the model's task.
        model: its name.
        digest: the first 12 digits of its weights' sha256, or its commit on the Hub.
        metrics: the content of a `metrics.json`.

    Raises:
        TaskError: when the evaluation is of another task, split, model or other weights.
    """
    if metrics.get("task") != task.name or metrics.get("split") != "test":
        raise TaskError(
            f"The metrics are of task {metrics.get('task')!r}, split {metrics.get('split')!r}; the card of a model of "
            f"{task.name!r} needs its test split: python -m evaluation.run --task {task.name}"
        )
    found = metrics["models"][choose("model", model, metrics["models"])]
    if found["revision"] != digest:
        raise TaskError(
            f"The metrics are of {model!r} at {found['revision']}; its weights are now {digest}. Evaluate it again: "
            f"python -m evaluation.run --task {task.name}"
        )
    return Figures(
        n=found["n"],
        support=dict(zip(task.labels, map(sum, found["confusion"]), strict=True)),
        whole={key: Share(**found[key]) for key in METRICS},
        sensitivity={label: Share(**found["sensitivity"][label]) for label in task.labels},
        specificity={label: Share(**found["specificity"][label]) for label in task.labels},
        coverage=Share(**(found.get("coverage") or _UNKNOWN)),  # none of a model without prediction sets
        set_size=Share(**(found.get("set_size") or _UNKNOWN)),
        intervals=BOOTSTRAPS[_name_groups(task)],
        split=task.split.kind,
        chance=Share(**found["ece_by_chance"]) if "ece_by_chance" in found else None,  # older results have neither
        reliability=tuple(
            Bin(each["n"], each["confidence"], Share(**each["accuracy"])) for each in found.get("reliability", ())
        ),
    )


def _name_groups(task: Task) -> str:
    if task.split.group == "none":
        return "none"
    return "patients" if task.dataset.patient else "copies"


def _wilson(share: float | None, count: int) -> Share:
    if share is None:
        return Share(None)
    from scipy.stats import binomtest  # takes a second to import

    found = binomtest(round(share * count), count).proportion_ci(method="wilson")
    return Share(share, found.low, found.high)
