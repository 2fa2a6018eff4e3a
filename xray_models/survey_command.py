"""The command line of a data set's survey: `python -m xray_models.datasets --task covid --data DIR --out DIR`."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from xray_models.commands import check_out, refuse, start_log, writing
from xray_models.tasks import SPLIT_KINDS, TaskError, load_task


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m xray_models.datasets", description="What is in a data set.")
    parser.add_argument("--task", required=True, help="a YAML file of hub_configs/, without its ending")
    parser.add_argument("--data", help="data folder, or hub:owner/name (default: $XRAY_DATA/<task>, or data/<task>)")
    parser.add_argument("--split", choices=SPLIT_KINDS, default="", help="whose split (default: what the task says)")
    parser.add_argument("--labels", type=Path, help="CSV with file_name and label of files to label anew")
    parser.add_argument("--out", type=Path, help="folder of the results (default: reports/<task>/data)")
    options = parser.parse_args(argv)
    options.out = options.out or Path("reports") / options.task / "data"
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
        from xray_models.survey import render_text, take_survey, write_survey

        survey = take_survey(task, manifest)
        sys.stdout.write(f"{render_text(survey)}\n")
        sys.stdout.flush()
        with writing(options.out):
            write_survey(survey, options.out)
    except (TaskError, DataError, ImageError) as error:
        return refuse(error)
    sys.stdout.write(f"{options.out}\n")
    return 0
