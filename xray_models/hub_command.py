"""The command line of the Hub: `python -m xray_models.hub push | pull | card | space`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from xray_models.commands import refuse, start_log
from xray_models.tasks import TaskError, load_task


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Reads the command line; `action` is push, pull, card or space."""
    parser = argparse.ArgumentParser(prog="python -m xray_models.hub", description="Models and the page on the Hub.")
    commands = parser.add_subparsers(required=True, dest="action", metavar="push|pull|card|space")

    def add(name: str, about: str, required: Sequence[str]) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=about, description=about)
        for option in required:
            command.add_argument(f"--{option}", required=True)
        return command

    push = add("push", "uploads a model's folder and prints the line for hub_configs", ["task", "model", "owner"])
    pull = add("pull", "downloads a task's Hub models at their pinned revisions", ["task"])
    pull.add_argument("--models", nargs="+", help="only these models (default: all that have a `repo:`)")
    card = add("card", "prints a model's card", ["task", "model"])
    card.add_argument("--metrics", type=Path, help="a metrics.json of evaluation.run, for figures with its intervals")
    space = add("space", "creates or updates a Space and prints its address", ["owner", "name"])
    for command in (push, space):
        command.add_argument("--public", action="store_true", help="let others see it (default: private)")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    options = parse(argv)
    start_log()
    try:
        if options.action != "space":
            load_task(options.task)
    except TaskError as error:
        return refuse(error)
    from xray_models import hub  # takes seconds: torch, timm and transformers

    return hub.run(options)
