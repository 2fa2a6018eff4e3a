"""Opens the reading room in a browser: `python dashboard.py`. Also the Space's app file."""

from __future__ import annotations

import argparse
import atexit
import logging
import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(prog="python dashboard.py", description="Opens the reading room in a browser.")
    parser.add_argument("--task", help="the task to open with (default: the first that has a model here)")
    parser.add_argument(
        "--host",
        default=os.environ.get("GRADIO_SERVER_NAME", "127.0.0.1"),
        help="address to listen on (default: this machine only)",
    )
    parser.add_argument("--port", type=int, default=int(os.environ.get("GRADIO_SERVER_PORT", "7860")))
    parser.add_argument("--flags", type=Path, default=Path("flags"), help="folder of the flag ledger")
    parser.add_argument(
        "--engine",
        choices=("auto", "torch", "openvino"),
        default="auto",
        help="what runs the models (default: OpenVINO where it agrees with torch)",
    )
    parser.add_argument(
        "--blinded", action="store_true", help="no opinion leaves the server before its reader has committed to a label"
    )
    parser.add_argument("--auth", type=Path, help="file with one `name:password` a line; without it, no log-in")
    return parser.parse_args(argv)


def read_accounts(path: Path) -> list[tuple[str, str]]:
    """Reads `name:password` lines; raises ValueError that names the line that is wrong."""
    accounts = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        name, colon, password = line.partition(":")
        if not (name and colon and password):
            raise ValueError(f"{path}, line {number}: expected name:password.")
        accounts.append((name, password))
    if not accounts:
        raise ValueError(f"{path} has no account; write one name:password a line.")
    return accounts


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    options = parse(argv)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    if "GRADIO_TEMP_DIR" not in os.environ:  # uploads: readable by this user alone, gone with this process
        os.environ["GRADIO_TEMP_DIR"] = tempfile.mkdtemp(prefix="second-read-uploads-")
        atexit.register(shutil.rmtree, os.environ["GRADIO_TEMP_DIR"], ignore_errors=True)
    from reading_room.app import build_app, launch_options
    from xray_models.tasks import TaskError, choose, task_names

    try:
        accounts = read_accounts(options.auth) if options.auth else None
        if options.task:
            choose("task", options.task, task_names())
        app = build_app(options.flags, options.task, options.engine, options.blinded)
        app.launch(server_name=options.host, server_port=options.port, auth=accounts, **launch_options())
    except (TaskError, ValueError, OSError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
