"""Model cards: what a model is, what it was trained on, how good it is, what it is not for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from huggingface_hub import EvalResult, ModelCardData

from xray_models.architectures import find_architecture
from xray_models.figures import METRICS, Figures, Share, list_figures
from xray_models.recipes import list_teachers
from xray_models.tasks import Task
from xray_models.usage import describe_usage

_WHOLE = 0.95  # of what a publisher offers: in every collection some files cannot be used

_CARD = """---
{metadata}
---

# {title}: {architecture}

One opinion of the Second Read panel for the task `{task}`: {labels}.

**Not a medical device.** For research and teaching. It must not be used to diagnose, treat or exclude disease.

## How to use

{usage}

## Data

{source}. Licence: {licence}. Cite: {citation}.

{images}. {split}{copy}

## Figures

On the {n} images of the {kind}test split, which took no part in training, model choice or calibration:

| metric | value |
|---|---|
{figures}

| label | sensitivity | specificity |
|---|---|---|
{per_label}

In brackets: 95 % intervals ({intervals}).

Temperature {temperature:.3f}{biases}, fitted on the validation split and folded into the last layer
(test ECE {ece}). Prediction sets aim at 90 % coverage{coverage}.

An image counts as unlike the training images when the squared Mahalanobis distance of its embedding, of norm 1, to
{references} training embeddings is above {ood_distance:.1f}, which 99 % of the validation images stay within.

## Training

{start}

```
{command}
```

{recipe}

## Intended use

To compare models' opinions and their heatmaps on one image, to find images whose label deserves a second look, and to
teach. Not to decide about a patient, alone or together with others.

## Known limits

{limits}
"""


def _describe_copy(info: Mapping[str, Any], offered: int) -> str:
    """How large the images are, and how many of those that the publisher offers, unless it is about all."""
    side, found = info.get("longer_side"), sum(info["counts"].values())
    large = f"heir longer side is {side} pixels in the median" if side else ""  # which older configs do not say
    if found >= _WHOLE * offered:
        return f" T{large}." if large else ""
    return (
        f"\n\nTrained, validated and tested on {found:,} images, while the publisher offers {offered:,}"
        f"{f'; t{large}' if large else ''}. Accuracy, predictive values and calibration depend on how many images of "
        "each label there are, and on their size: those of the whole collection will be others."
    )


def _describe_split(task: Task, kind: str) -> str:
    """What the split keeps apart, and what it cannot."""
    if kind == "official":
        return "The split is the publisher's: near-copies, and images of one patient, may stand on both sides of it."
    if task.split.group == "none":
        return "The images were divided one by one."
    apart = "Near-copies, mirrored ones included, stay on one side of the split"
    if task.dataset.patient:
        return f"{apart}, and so do images of one patient, as far as the names of the files tell patients."
    return f"{apart}. The files tell no patients: images of one patient may stand on both sides."


def _name_kind(task: Task, kind: str) -> str:
    """What stands before "test split"."""
    if kind == "official":
        return "publisher's "
    return "" if task.split.group == "none" else "grouped "


def render_card(task: Task, info: dict[str, Any], figures: Figures | None = None) -> str:
    """Renders the README of a model's folder.

    Args:
        task: the model's task.
        info: the `second_read` entry of its `config.json`.
        figures: of an evaluation; None for those that its own config holds.

    Returns:
        Markdown with the Hub's front matter.
    """
    figures = figures or list_figures(info)
    recipe = info["recipe"]
    counts = ", ".join(f"{count} for {split}" for split, count in info["counts"].items())
    return _CARD.format(
        title=task.title,
        task=task.name,
        metadata=_render_metadata(task, info, figures),
        architecture=find_architecture(info["architecture"]).title,
        labels=", ".join(f"`{label}`" for label in task.labels),
        usage=describe_usage(task.name, info),
        source=task.dataset.source,
        licence=task.dataset.licence,
        citation=task.dataset.citation,
        images=f"Images: {counts}",
        copy=_describe_copy(info, task.dataset.images),
        split=_describe_split(task, info.get("split", task.split.kind)),
        kind=_name_kind(task, figures.split or task.split.kind),
        n=figures.n,
        figures="\n".join(f"| {key.replace('_', ' ')} | {_show(share, 4)} |" for key, share in figures.whole.items()),
        per_label="\n".join(_render_label(label, figures) for label in task.labels),
        intervals=figures.intervals,
        references=info["ood_references"],
        ood_distance=info["ood_distance"],
        limits=_describe_limits(task, figures),
        temperature=info["temperature"],
        biases=_describe_biases(task.labels, info.get("biases", ())),
        ece=_describe_error(info, figures),
        coverage=_describe_coverage(figures),
        start=_describe_start(info["started_from"], recipe),
        command=info["command"],
        recipe="; ".join(f"{key} {value}" for key, value in recipe.items() if not (key == "images" or value is None)),
    )


def _render_label(label: str, figures: Figures) -> str:
    shown = " | ".join(_show(kind[label], 3) for kind in (figures.sensitivity, figures.specificity))
    return f"| {label} (n = {figures.support[label]}) | {shown} |"


def _show(share: Share, digits: int) -> str:
    if share.value is None:
        return "–"
    if share.low is None or share.high is None:
        return f"{share.value:.{digits}f}"
    return f"{share.value:.{digits}f} ({share.low:.3f} to {share.high:.3f})"


def _describe_error(info: Mapping[str, Any], figures: Figures) -> str:
    """The calibration error on the test's images; the one before calibration is known of the training's own test."""
    after = _show(Share(figures.whole["ece"].value), 3)
    same = (figures.n, figures.support) == (info["counts"]["test"], info["test"]["support"])
    return f"{info['ece_before']:.3f} before, {after} after" if same else after


def _describe_coverage(figures: Figures) -> str:
    """What prediction sets hold on the test's images."""
    share, size = figures.coverage.value, figures.set_size.value
    if share is None or size is None:
        return ""
    return (
        f"; on the test split they\nhold the true label in {share:.1%} of the images, with {size:.2f} labels on average"
    )


_DRAWN = ("- Trained and tested on drawn images: its figures say nothing of radiographs of people.",)
_COLLECTED = (
    "- Trained on one public collection; other hospitals, machines and populations will shift its figures.",
    "- Classes and sources are confounded in many public collections: a high figure can rest on the source of an "
    "image.",
)


def _describe_limits(task: Task, figures: Figures) -> str:
    """What the test says, and what it cannot say."""
    lines = list(_DRAWN if task.dataset.layout == "phantom" else _COLLECTED)
    lines.append("- A heatmap shows what moved the score, not where disease is.")
    if weakest := figures.find_weakest():
        value = figures.sensitivity[weakest].value
        lines.append(f"- Weakest on the test split: sensitivity for `{weakest}`, {value:.1%}.")
    untested = ", ".join(f"`{label}`" for label, count in figures.support.items() if not count)
    if untested:
        lines.append(f"- No image of the test split has the label {untested}: how well it is told is unknown.")
    return "\n".join(lines)


def _render_metadata(task: Task, info: dict[str, Any], figures: Figures) -> str:
    """The front matter's YAML; `model-index` puts the figures on the model's page of the Hub."""
    results = [
        EvalResult(
            task_type="image-classification",
            dataset_type=task.name,
            dataset_name=task.title,
            dataset_split="test",
            metric_type=METRICS[key],
            metric_name=key.replace("_", " "),
            metric_value=round(share.value, 4),
        )
        for key, share in figures.whole.items()
        if share.value is not None
    ]
    data = ModelCardData(
        license="apache-2.0" if task.dataset.licence == "Apache-2.0" else "other",
        library_name="transformers",
        pipeline_tag="image-classification",
        tags=["medical-imaging", task.modality.replace(" ", "-"), "second-read"],
        model_name=f"{task.name}-{info['architecture']}".replace("_", "-"),
        eval_results=results,
    )
    return data.to_yaml()


def _describe_biases(labels: Sequence[str], biases: Sequence[float]) -> str:
    if not any(biases):
        return ""
    said = ", ".join(f"{label} {bias:+.2f}" for label, bias in zip(labels, biases, strict=True))
    return f" and a bias for each label ({said})"


def _describe_start(started_from: str, recipe: Mapping[str, Any]) -> str:
    given = " in the folder given with `--weights` or `$XRAY_WEIGHTS`" if "ImageNet" in started_from else ""
    width, teacher = recipe["width"], " and ".join(list_teachers(recipe.get("teacher", "")))
    narrow = "" if width == 1 else f" At {width:g} of the published network's width, to keep it small."
    taught = f" Besides the labels it learned the opinions of {teacher} about the training images." if teacher else ""
    return f"Started from {started_from}{given}.{narrow}{taught}"
