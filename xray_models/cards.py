"""Model cards: what a model is, what it was trained on, how good it is, what it is not for."""

from __future__ import annotations

from typing import Any

from huggingface_hub import EvalResult, ModelCardData
from scipy.stats import binomtest

from xray_models.architectures import find_architecture
from xray_models.calibration import REFERENCE_SIZE
from xray_models.tasks import Task

_METRICS = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced_accuracy",
    "auroc": "roc_auc",
    "nll": "nll",
    "ece": "ece",
}
"""Figures that a card shows, and what the Hub calls them."""

_CARD = """---
{metadata}
---

# {title}: {architecture}

One opinion of the Second Read panel for the task `{task}`: {labels}.

**Not a medical device.** For research and teaching. It must not be used to diagnose, treat or exclude disease.

## Data

{source}. Licence: {licence}. Cite: {citation}.

{images}. Near-copies, mirrored ones included, and images of one patient stay on one side of the split.

## Figures

On the {n} images of the grouped test split, which took no part in training, model choice or calibration:

| metric | value |
|---|---|
{figures}

| label | sensitivity | specificity |
|---|---|---|
{per_label}

In brackets: 95 % intervals (Wilson), which take each image as independent.

Temperature {temperature:.3f}, fitted on the validation split and folded into the last layer
(test ECE {ece_before:.3f} before, {ece:.3f} after). Prediction sets aim at 90 % coverage; on the test split they
hold the true label in {coverage:.1%} of the images, with {set_size:.2f} labels on average.

An image counts as unlike the training images when its embedding's cosine distance to the tenth nearest of
{references} training embeddings is above {ood_threshold:.3f}, which 99 % of the validation images stay within.

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

- Trained on one public collection; other hospitals, machines and populations will shift its figures.
- Classes and sources are confounded in many public collections: a high figure can rest on the source of an image.
- A heatmap shows what moved the score, not where disease is.
- Weakest on the test split: sensitivity for `{weakest}`, {weakest_value:.1%}.
"""


def render_card(task: Task, info: dict[str, Any]) -> str:
    """Renders the README of a model's folder.

    Args:
        task: the model's task.
        info: the `second_read` entry of its `config.json`.

    Returns:
        Markdown with the Hub's front matter.
    """
    test, recipe = info["test"], info["recipe"]
    counts = ", ".join(f"{count} for {split}" for split, count in info["counts"].items())
    return _CARD.format(
        title=task.title,
        task=task.name,
        metadata=_render_metadata(task, info),
        architecture=find_architecture(info["architecture"]).title,
        labels=", ".join(f"`{label}`" for label in task.labels),
        source=task.dataset.source,
        licence=task.dataset.licence,
        citation=task.dataset.citation,
        images=f"Images: {counts}",
        n=info["counts"]["test"],
        figures="\n".join(_render_figure(key, info) for key in _METRICS),
        per_label="\n".join(_render_label(label, info) for label in task.labels),
        references=REFERENCE_SIZE,
        ood_threshold=info["ood_threshold"],
        weakest=(weakest := min(task.labels, key=lambda label: test["sensitivity"][label])),
        weakest_value=test["sensitivity"][weakest],
        temperature=info["temperature"],
        ece_before=info["ece_before"],
        ece=test["ece"],
        coverage=test["coverage"],
        set_size=test["set_size"],
        start=_describe_start(info["started_from"], recipe["width"]),
        command=info["command"],
        recipe="; ".join(f"{key} {value}" for key, value in recipe.items() if key != "images"),
    )


def _render_figure(key: str, info: dict[str, Any]) -> str:
    value = info["test"][key]
    between = f" ({_interval(value, info['counts']['test'])})" if key == "accuracy" else ""
    return f"| {key.replace('_', ' ')} | {value:.4f}{between} |"


def _render_label(label: str, info: dict[str, Any]) -> str:
    test, own = info["test"], info["test"]["support"][label]
    cells = ((test["sensitivity"][label], own), (test["specificity"][label], info["counts"]["test"] - own))
    shown = " | ".join(f"{value:.3f} ({_interval(value, count)})" for value, count in cells)
    return f"| {label} (n = {own}) | {shown} |"


def _interval(share: float, count: int) -> str:
    """The 95 % interval of a share of `count` images (Wilson, 1927)."""
    found = binomtest(round(share * count), count).proportion_ci(method="wilson")
    return f"{found.low:.3f} to {found.high:.3f}"


def _render_metadata(task: Task, info: dict[str, Any]) -> str:
    """The front matter's YAML; `model-index` puts the figures on the model's page of the Hub."""
    results = [
        EvalResult(
            task_type="image-classification",
            dataset_type=task.name,
            dataset_name=task.title,
            dataset_split="test",
            metric_type=hub_name,
            metric_name=key.replace("_", " "),
            metric_value=round(info["test"][key], 4),
        )
        for key, hub_name in _METRICS.items()
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


def _describe_start(started_from: str, width: float) -> str:
    given = " in the folder given with `--weights` or `$XRAY_WEIGHTS`" if "ImageNet" in started_from else ""
    narrow = "" if width == 1 else f" At {width:g} of the published network's width, to keep it small."
    return f"Started from {started_from}{given}.{narrow}"
