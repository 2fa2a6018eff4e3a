"""Whether every engine says the same: `python -m benchmarks.engines [--task covid] [--data FOLDER] [--maps N]`.

A task's test images are read by its trained panel with bodies on torch and with bodies on the fastest engine that
agrees with torch on this machine (`--engine auto` of the dashboard). For each model, and for the consensus: which
engine it got, how many labels differ, and by how much a probability does at most. For each model also the correlation
of the two Grad-CAMs of every few images; a map that is empty on both engines is counted apart, for it has none.
"""

from __future__ import annotations

import sys

if __name__ == "__main__":  # answers --help before what follows is imported
    from benchmarks.commands import engines

    sys.exit(engines())

import argparse
from typing import Any

import numpy as np

from benchmarks.measuring import describe_machine, list_versions, write_record
from xray_models import datasets
from xray_models.attribution import explain
from xray_models.checkpoints import Checkpoint
from xray_models.images import Radiograph, read_image
from xray_models.panel import Panel
from xray_models.readings import Reading
from xray_models.tasks import TaskError, load_task

METHOD = "grad_cam"


def compare_answers(torch: list[Reading], auto: list[Reading]) -> dict[str, dict[str, float]]:
    """Labels that differ, and the largest difference of a probability: by model, and of the consensus.

    Raises:
        TaskError: when a model gave no answer.
    """
    found: dict[str, dict[str, float]] = {}
    for place, opinion in enumerate(torch[0].opinions):
        found[opinion.model] = _compare([[r.opinions[place] for r in side] for side in (torch, auto)])
    return found | {"consensus": _compare([[r.consensus for r in side] for side in (torch, auto)])}


def _compare(sides: list[list[Any]]) -> dict[str, float]:
    if not all(said and said.probs for side in sides for said in side):
        raise TaskError("A model of the task is unavailable, so there is nothing to compare. Name a task that has all.")
    labels = [[said.label for said in side] for side in sides]
    probs = [np.array([list(said.probs.values()) for said in side]) for side in sides]
    differ = sum(one != other for one, other in zip(*labels, strict=True))
    return {"labels_differ": differ, "largest_difference": round(float(np.abs(probs[0] - probs[1]).max()), 5)}


def compare_maps(torch: Checkpoint, auto: Checkpoint, images: list[tuple[Radiograph, str]]) -> dict[str, float]:
    """Correlation of one model's maps by two engines: median and lowest, over how many.

    Args:
        torch: the model, its body on torch.
        auto: the same on another engine.
        images: images, and the label that each map explains.
    """
    found: dict[str, float] = {"maps": 0, "empty": 0}
    correlations = []
    for image, label in images:
        planes = [explain(model, image, label, METHOD).plane for model in (torch, auto)]
        if planes[0].std() == 0 == planes[1].std():
            found["empty"] += 1
            continue
        found["maps"] += 1
        flat = 0 in (planes[0].std(), planes[1].std())
        correlations.append(0.0 if flat else float(np.corrcoef(planes[0].ravel(), planes[1].ravel())[0, 1]))
    if correlations:
        found |= {"median": round(float(np.median(correlations)), 4), "lowest": round(min(correlations), 4)}
    return found


def run(options: argparse.Namespace) -> None:
    """Compares, prints a line for each model and writes `engines.json`."""
    task = load_task(options.task)
    try:
        rows = datasets.open_dataset(task, options.data).part("test")
    except datasets.DataError as error:
        raise TaskError(str(error)) from error
    images = [read_image(path) for path in rows["path"][: options.images]]
    panels = {engine: Panel.load(task, device="cpu", engine=engine) for engine in ("torch", "auto")}
    readings = {engine: list(panel.read_many(images)) for engine, panel in panels.items()}
    answers = compare_answers(readings["torch"], readings["auto"])
    some = range(0, len(images), max(1, len(images) // options.maps))
    maps: dict[str, dict[str, float]] = {}
    for place, name in enumerate(panels["torch"].checkpoints):
        wanted = [(images[k], str(readings["torch"][k].opinions[place].label)) for k in some]
        maps[name] = compare_maps(*(panel.checkpoints[name] for panel in panels.values()), wanted)
    print(f"{task.name}, {len(images)} test images, torch against:")
    for name, answer in answers.items():
        differ = f"{answer['labels_differ']} ({answer['labels_differ'] / len(images):.2%})"
        said = f"{name:14} {panels['auto'].engines.get(name, ''):10} labels that differ: {differ}"
        said += f", probabilities by at most {answer['largest_difference']:.4f}"
        if "median" in (drawn := maps.get(name, {})):
            said += f"; {drawn['maps']} maps correlate by {drawn['median']:.4f}, at least {drawn['lowest']:.4f}"
        print(said)
    record = {"task": task.name, "images": len(images), "answers": answers, "maps": maps, "method": METHOD}
    record |= {"engines": dict(panels["auto"].engines), "machine": describe_machine()}
    write_record("engines", record | {"versions": list_versions("transformers", "openvino")}, options.out)
