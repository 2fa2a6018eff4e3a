"""Model cards: what a model is, what it was trained on, how good it is, what it is not for."""

from __future__ import annotations

from typing import Any

from xray_models.architectures import ARCHITECTURES
from xray_models.tasks import Task

_CARD = """---
license: {license_tag}
library_name: transformers
pipeline_tag: image-classification
tags: [medical-imaging, {modality_tag}, second-read]
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

Temperature {temperature:.3f}, fitted on the validation split and folded into the last layer
(test ECE {ece_before:.3f} before, {ece:.3f} after). Prediction sets aim at 90 % coverage; on the test split they
hold the true label in {coverage:.1%} of the images, with {set_size:.2f} labels on average.

## Training

{start}

```
{command}
```

{recipe}

## Known limits

- Trained on one public collection; other hospitals, machines and populations will shift its figures.
- Classes and sources are confounded in many public collections: a high figure can rest on the source of an image.
- A heatmap shows what moved the score, not where disease is.
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
    shown = ("accuracy", "balanced_accuracy", "auroc", "nll", "ece")
    counts = ", ".join(f"{count} for {split}" for split, count in info["counts"].items())
    return _CARD.format(
        title=task.title,
        task=task.name,
        license_tag="apache-2.0" if task.dataset.licence == "Apache-2.0" else "other",
        modality_tag=task.modality.replace(" ", "-"),
        architecture=ARCHITECTURES[info["architecture"]].title,
        labels=", ".join(f"`{label}`" for label in task.labels),
        source=task.dataset.source,
        licence=task.dataset.licence,
        citation=task.dataset.citation,
        images=f"Images: {counts}",
        n=info["counts"]["test"],
        figures="\n".join(f"| {key.replace('_', ' ')} | {test[key]:.4f} |" for key in shown),
        per_label="\n".join(
            f"| {label} | {test['sensitivity'][label]:.3f} | {test['specificity'][label]:.3f} |"
            for label in task.labels
        ),
        temperature=info["temperature"],
        ece_before=info["ece_before"],
        ece=test["ece"],
        coverage=test["coverage"],
        set_size=test["set_size"],
        start=_describe_start(info["started_from"], recipe["width"]),
        command=info["command"],
        recipe="; ".join(f"{key} {value}" for key, value in recipe.items() if key != "images"),
    )


def _describe_start(started_from: str, width: float) -> str:
    given = " in the folder given with `--weights` or `$XRAY_WEIGHTS`" if "ImageNet" in started_from else ""
    narrow = "" if width == 1 else f" At {width:g} of the published network's width, to keep it small."
    return f"Started from {started_from}{given}.{narrow}"
