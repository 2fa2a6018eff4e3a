"""The command line of the audit: `python -m evaluation.audit --task covid --data DIR`."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xray_models.commands import check_out, parse_count, refuse, start_log, writing
from xray_models.tasks import SPLIT_KINDS, Task, TaskError, load_task

if TYPE_CHECKING:
    from evaluation.audit import Audit
    from xray_models.datasets import Manifest


def render_text(task: Task, audit: Audit) -> str:
    """An audit as lines for a terminal: the main numbers, then the alarms."""
    from evaluation.shortcuts import FEWEST
    from evaluation.summary import count
    from evaluation.traits import FAMILIES

    found = audit.found
    twins, torn = found["twins"], found["contradictions"]
    nouns = {"images": "image", "groups": "group", "faults": "file"}
    images, groups, files = (count(found[key], noun) for key, noun in nouns.items())
    lines = [f"{task.title}: {images} in {groups}, {files} left out"]
    if found["looked"]:
        lines.append(f"Pairs of near-copies: {twins['pairs']:,}, of them mirrored: {twins['mirrored']:,}")
    else:
        lines.append("Near-copies: not looked for, since the task says `split.group: none`")
    for whose, counts in (("the split in use", twins["split"]), ("the publisher’s split", twins["official"])):
        if counts and found["looked"]:
            lines.append(
                f"Test images of {whose} with a near-copy in train: {counts['copies']:,} of {counts['test']:,}, "
                f"{counts['mirrored']:,} mirrored; with their patient or chain: {counts['related']:,}"
            )
    lines.append(
        f"Under two labels: files of equal pixels {torn['identical_files']:,}, "
        f"pairs of near-copies {torn['near_copies']:,}"
    )
    lines += [
        _tell(FAMILIES[name].title, entry)
        for name, entry in {**found["shortcuts"], "margins": found["margins"]}.items()
        if entry["clearest"]
    ]
    if found["unjudged"]:
        few = ", ".join(found["unjudged"])
        lines.append(f"Not judged for shortcuts, with fewer than {FEWEST} groups: {few}")
    alarms = [f"! {alarm}" for alarm in found["alarms"]] or ["No alarm"]
    return "\n".join([*lines, *alarms])


def _tell(title: str, entry: Mapping[str, Any]) -> str:
    best = entry["labels"][entry["clearest"]]
    verdict = "alarm" if entry["alarm"] else "there, but weak" if entry["there"] else "nothing found"
    return (
        f"{title:27}  AUROC {entry['auroc']['value']:.2f}, best {best['value']:.2f} "
        f"[{best['low']:.2f}, {best['high']:.2f}] for {entry['clearest']}: {verdict}"
    )


def ask_margins(task: Task, manifest: Manifest, limit: int) -> dict[str, Any]:
    """Asks the task's panel about test images with and without their margins.

    Raises:
        TaskError: when no model is available.
    """
    from evaluation.cases import load_panel
    from evaluation.margins import judge_margins

    rows = manifest.part("test")
    return judge_margins(load_panel(task), manifest.rows if rows.empty else rows, manifest.folder, limit)


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m evaluation.audit", description="What is wrong with a data set.")
    parser.add_argument("--task", required=True, help="a YAML file of hub_configs/, without its ending")
    parser.add_argument("--data", help="data folder, or hub:owner/name (default: $XRAY_DATA/<task>, or data/<task>)")
    parser.add_argument("--split", choices=SPLIT_KINDS, default="", help="whose split (default: what the task says)")
    parser.add_argument("--labels", type=Path, help="CSV with file_name and label of files to label anew")
    parser.add_argument("--panel", type=parse_count, metavar="N", help="ask the panel about N images without margins")
    parser.add_argument("--out", type=Path, help="folder of the results (default: reports/<task>/audit)")
    parser.add_argument("--strict", action="store_true", help="exit with 1 when there is an alarm")
    options = parser.parse_args(argv)
    options.out = options.out or Path("reports") / options.task / "audit"
    return options


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    options = _parse(argv)
    start_log(logging.WARNING)
    try:
        task = load_task(options.task)
        check_out(options.out)
    except TaskError as error:
        return refuse(error)
    from xray_models.datasets import DataError, open_dataset  # pandas and scipy take a second to import
    from xray_models.images import ImageError

    try:
        manifest = open_dataset(task, options.data, options.split, options.labels)
        hidden = ask_margins(task, manifest, options.panel) if options.panel else None
        from evaluation.audit import audit_dataset, write_audit

        audit = audit_dataset(task, manifest, hidden)
        with writing(options.out):
            write_audit(audit, options.out)
    except (TaskError, DataError, ImageError) as error:
        return refuse(error)
    sys.stdout.write(f"{render_text(task, audit)}\n{options.out}\n")
    return int(options.strict and bool(audit.found["alarms"]))
