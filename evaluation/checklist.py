"""A reporting checklist in the manner of CLAIM and TRIPOD+AI, filled from what is known.

Items follow CLAIM 2024 (Tejani et al., Radiology: AI 2024) and TRIPOD+AI (Collins et al., BMJ 2024), in their order and
in our words. What an evaluation cannot know is named as missing, for the authors of a paper to add.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from evaluation.document import Grid, Paragraph, Section
from evaluation.predictions import Table
from evaluation.summary import count
from xray_models.tasks import Task

MISSING = "missing"
_NAMES = (
    "No name, date or identifier of a file's header enters results. Names of files and their folders do: they stand "
    "in every table of images (predictions.csv, worklist.csv, faults.csv and others) and in the report, which also "
    "shows pictures with whatever is written into them. Where these tell who or when, rename or clean the files first"
)


class Item(NamedTuple):
    """One item: what is asked, what is known of it; "" where nothing is."""

    asked: str
    known: str


def fill_checklist(task: Task, table: Table, scores: Mapping[str, Any]) -> list[Item]:
    """Fills the checklist.

    Args:
        task: the task.
        table: the answers.
        scores: the content of `metrics.json`.

    Returns:
        Every item, in the order of a paper.
    """
    given = scores["split"] == "given"
    labels = ", ".join(task.labels)
    counts = ", ".join(f"{label} {int((table.truth == k).sum()):,}" for k, label in enumerate(table.labels))
    groups = f"{count(scores['groups'], 'group')} of {count(scores['n'], 'image')}"
    familiar = [share for share in scores["in_distribution"].values() if share is not None]
    small = scores.get("subgroups")
    audit = scores.get("audit")
    return [
        Item("Intended use and clinical role", "Research and teaching: opinions side by side; not a medical device"),
        Item("Study aim and design", "Retrospective evaluation of trained models on images that were there before"),
        Item("Data source", f"{task.dataset.source} ({task.dataset.licence})" if is_own(scores) else ""),
        Item("Dates and places of collection", ""),
        Item("Eligibility of participants", ""),
        Item("Age, sex and other demographics", f"Results by {', '.join(small)}" if small else ""),
        Item("Devices and protocols of acquisition", ""),
        Item("De-identification", _NAMES),
        Item("Reference standard and who set it", ""),
        Item("Inter-reader variability of the reference", ""),
        Item("Labels and their meaning", f"{labels}; not to be missed: {', '.join(task.positive)}"),
        Item("Sample size and how it was chosen", f"{groups}; not planned for a given precision"),
        Item("Missing data and files left out", f"{scores['faults']:,} files left out, each with its reason"),
        Item("Preprocessing", "Decided once, stored with the weights, the same in training, evaluation and use"),
        Item("Partition and its level", _describe_partition(task, scores)),
        Item("Leakage between partitions", _describe_leaks(audit)),
        Item("Model, architecture and origin", ", ".join(_describe_model(name, table) for name in table.models)),
        Item("Training procedure and choice of the final model", "" if given else "In each model's card"),
        Item("Ensembling", "Mean of the calibrated probabilities of the models that answered"),
        Item(
            "Calibration",
            "" if given else "Temperature, and biases where they help, fitted on images kept from training; see Models",
        ),
        Item("Metrics with intervals", f"95 % bootstrap over groups, {scores['resamples']:,} resamples"),
        Item("Thresholds and how they were chosen", "Most probable label; operating points chosen on other folds"),
        Item("Comparison of models", "McNemar, DeLong, paired bootstrap; Holm's correction"),
        Item("Comparison with human readers", ""),
        Item("Robustness and sensitivity analysis", "Seven kinds of change" if scores.get("robustness") else ""),
        Item("Explainability and its validation", "See Heatmaps" if scores.get("heatmaps") else ""),
        Item("Internal or external testing", _describe_testing(scores)),
        Item("Flow of images and counts by label", counts),
        Item("Failure analysis", "See Failures to look at"),
        Item("Subgroups and fairness", "See Subgroups" if small else ""),
        Item("Out-of-distribution inputs", "Each model marks images unlike its training images" if familiar else ""),
        Item("Limitations", "Labels may be confounded with where images come from; one data set; see the audit"),
        Item("Code, models and how to repeat", f"{scores['command']} (seed {scores['seed']})"),
        Item("Registration and protocol", ""),
        Item("Funding and conflicts of interest", ""),
        Item("Ethics approval", ""),
    ]


def is_own(scores: Mapping[str, Any]) -> bool:
    """Whether the data are known to be the collection that models of the panel were made with: names alone tell not."""
    found = scores.get("made_with")
    return bool(found and found["seen"] > found.get("by_name", 0))


def _describe_testing(scores: Mapping[str, Any]) -> str:
    """Whether models of the panel were made with images of the same data; "" where they do not know what they had."""
    found = scores.get("made_with")
    if not found:
        return ""
    if not found["seen"]:
        return "The models were made with none of these images; whether others took them is for the authors to say"
    judged = "none of them is judged" if scores["split"] == "test" else "some of them are judged"
    told = f" ({found['by_name']:,} of them known by file names alone)" if found.get("by_name") else ""
    return (
        f"Internal: models of this panel were made with {found['seen']:,} of the data's {found['images']:,} "
        f"images{told}; {judged}"
    )


def _describe_partition(task: Task, scores: Mapping[str, Any]) -> str:
    if scores["split"] == "given":
        return ""
    part = task.split
    kept = "patients and near-copies, mirrored ones too, stay together" if part.group == "auto" else "by image"
    shares = f"{part.validation:.0%} validation, {part.test:.0%} test, seed {part.seed}"
    return f"{scores['split']} split ({shares}); {kept}"


def _describe_leaks(audit: Mapping[str, Any] | None) -> str:
    return "Checked; see Audit of the data" if audit else ""


def _describe_model(name: str, table: Table) -> str:
    return f"{name} ({table.models[name].revision or 'revision not known'})"


def build_checklist_section(items: list[Item]) -> Section:
    """Sets the checklist, what is missing marked as such."""
    absent = sum(not item.known for item in items)
    about = Paragraph(
        f"Of {len(items)} items in the manner of CLAIM and TRIPOD+AI, {absent} cannot be known here; the authors of a "
        "paper must add them.",
        "note",
    )
    rows = tuple((item.asked, item.known or MISSING) for item in items)
    return Section(
        "Reporting checklist", (about, Grid("What is known.", ("Item", "Known here"), rows, "words", folded=True))
    )
