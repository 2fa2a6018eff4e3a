"""A result file as a Markdown table: `python -m evaluation.table evaluation/results/covid.json`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from xray_models.commands import read_metrics, refuse
from xray_models.tasks import TaskError

_COLUMNS = (
    ("accuracy", "accuracy"),
    ("balanced_accuracy", "balanced accuracy"),
    ("auroc", "AUROC"),
    ("ece", "ECE"),
    ("ece_by_chance", "ECE by chance"),
)


def render_table(metrics: Mapping[str, Any]) -> str:
    """Renders the models of a `metrics.json`, with 95 % intervals.

    Args:
        metrics: the content of a `metrics.json`.

    Returns:
        A caption with the command that made the figures, and the table.
    """
    lines = [
        f"{metrics['n']} images of the {metrics['split']} split; in brackets 95 % bootstrap intervals over groups, of "
        f"ECE by chance the 95 % range. Made by `{metrics['command']}`:",
        "",
        "| model | " + " | ".join(title for _, title in _COLUMNS) + " |",
        "|---" * (len(_COLUMNS) + 1) + "|",
    ]
    for model, scores in metrics["models"].items():
        cells = (_format(scores[key]) for key, _ in _COLUMNS)
        lines.append(f"| {model} | " + " | ".join(cells) + " |")
    strangers = _describe_strangers(metrics.get("strangers", {}))
    return "\n".join([*lines, *_describe_calls(metrics["models"].get("consensus", {})), *strangers])


def _describe_calls(consensus: Mapping[str, Any]) -> list[str]:
    """How much of each label is found by who accepts one false alarm in twenty images without it."""
    found = [
        f"{label} {_format(rules['specificity_95']['sensitivity'])}"
        for label, rules in consensus.get("operating", {}).items()
    ]
    about = "Sensitivity of the consensus at 95 % specificity, thresholds chosen on other folds of the test images:"
    return ["", f"{about} {', '.join(found)}."] if found else []


def _describe_strangers(found: Mapping[str, Any]) -> list[str]:
    """Where `--foreign` was given: how many of the images that are not for the task all models together refuse."""
    shares = [
        f"{kind} {100 * known['refused']['value']:.0f} % (AUROC {known['auroc']['value']:.3f})"
        for kind, entry in found.items()
        if (known := entry["models"].get("consensus")) and known["refused"]["value"] is not None
    ]
    return ["", f"Images not for this task, called out of distribution: {', '.join(shares)}."] if shares else []


def _format(score: Mapping[str, float | None]) -> str:
    if score["value"] is None:
        return "–"
    if score["low"] is None:
        return f"{score['value']:.3f}"
    return f"{score['value']:.3f} ({score['low']:.3f} to {score['high']:.3f})"


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m evaluation.table", description="Prints a result file as Markdown.")
    parser.add_argument("metrics", type=Path, help="a metrics.json")
    options = parser.parse_args(argv)
    try:
        table = render_table(read_metrics(options.metrics))
    except TaskError as error:
        return refuse(error)
    except (KeyError, TypeError) as error:
        return refuse(TaskError(f"{options.metrics} is no whole metrics.json: {error}. Make it with evaluation.run."))
    sys.stdout.write(f"{table}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
