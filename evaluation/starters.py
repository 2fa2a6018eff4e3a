"""The starter models' figures as a Markdown table, from their own configs: `python -m evaluation.starters`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from xray_models.tasks import CHECKPOINTS, ModelRef, Task, load_tasks

_HEAD = (
    "| task | model | test images | accuracy | AUROC | sensitivity | ECE before, after | coverage of 90 % sets | MB |"
)


def list_starters(tasks: list[Task] | None = None) -> Iterator[tuple[Task, ModelRef, dict[str, Any]]]:
    """Yields each starter model that is there, with the `second_read` entry of its config."""
    for task in tasks if tasks is not None else load_tasks().values():
        for ref in task.models:
            if ref.path is not None and (ref.path / "config.json").is_file():
                config = json.loads((ref.path / "config.json").read_text(encoding="utf-8"))
                yield task, ref, config["second_read"]


def render_starters(tasks: list[Task] | None = None) -> str:
    """Renders one row a model; sensitivity is for the positive labels together, each weighing the same."""
    lines = [_HEAD, "|---|---|---|---|---|---|---|---|---|"]
    for task, ref, info in list_starters(tasks):
        test = info["test"]
        sensitivities = [test["sensitivity"][label] for label in task.positive]
        sensitivity = None if None in sensitivities else sum(sensitivities) / len(sensitivities)
        cells = (
            f"`{task.name}`",
            f"`{ref.name}`",
            str(info["counts"]["test"]),
            f"{test['accuracy']:.3f}",
            _show(test["auroc"]),
            _show(sensitivity),
            f"{info['ece_before']:.3f}, {test['ece']:.3f}",
            f"{test['coverage']:.1%}",
            f"{_megabytes(ref.path or CHECKPOINTS):.1f}",
        )
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _show(figure: float | None) -> str:
    """A figure, or a dash where the test has no images for it."""
    return "–" if figure is None else f"{figure:.3f}"


def _megabytes(folder: Path) -> float:
    return sum(path.stat().st_size for path in folder.iterdir()) / 1e6


if __name__ == "__main__":
    argparse.ArgumentParser(
        prog="python -m evaluation.starters", description="Prints the starter models' figures as Markdown."
    ).parse_args()
    sys.stdout.write(render_starters() + "\n")
