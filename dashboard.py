"""Opens the reading room in a browser: `python dashboard.py`. Also the Space's app file."""

from __future__ import annotations

import argparse
import importlib.util
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from reading_room.accounts import read_accounts
from reading_room.scratch import is_own, make_folder
from xray_models.commands import check_out, leave, leave_in_order, refuse, start_log
from xray_models.imports import HEAVY_IMPORTS
from xray_models.tasks import choose, task_names

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
    parser.add_argument(
        "--name",
        action="append",
        default=[],
        help="a name under which a proxy serves the page, such as reading.example.org; may be given several times",
    )
    parser.add_argument(
        "--port", type=_read_port, default=os.environ.get("GRADIO_SERVER_PORT", "7860"), help="port to listen on"
    )
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
    parser.add_argument("--auth", type=Path, help="file of accounts, `htpasswd -B`'s format; without it, no log-in")
    parser.add_argument("--watch", type=Path, help="folder whose files are read into a worklist as they come")
    parser.add_argument(
        "--sync",
        metavar="OWNER/DATASET",
        default=os.environ.get("SECOND_READ_FLAGS_REPO") or None,
        help="private data set of the Hub that gets a copy of the ledger (default: $SECOND_READ_FLAGS_REPO)",
    )
    parser.add_argument("--pull", action="store_true", help="let readers pull models of the Hub into a panel")
    parser.add_argument("--mcp", action="store_true", help="offer the API to assistants as MCP tools, too")
    return parser.parse_args(argv)


def _read_port(text: str) -> int:
    if not text.isdecimal() or not 0 <= int(text) < 2**16:
        raise argparse.ArgumentTypeError(f"{text!r} is no port; give a whole number from 0 to 65535")
    return int(text)


def check(options: argparse.Namespace) -> None:
    """Raises ValueError for options that do not go together, or lack what they need."""
    if options.task:
        choose("task", options.task, task_names())
    if options.watch and options.blinded:
        raise ValueError(
            "--watch reads files into a worklist that shows opinions, and --blinded gives none out before a reader has "
            "committed to a label. Leave one of them out."
        )
    check_out(options.flags, "--flags")
    if options.mcp and importlib.util.find_spec("mcp") is None:
        raise ValueError("--mcp needs a package that is not installed: pip install -r requirements-mcp.txt")


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    options = parse(argv)
    start_log()
    try:
        check(options)
        accounts = read_accounts(options.auth) if options.auth else None
    except (ValueError, OSError) as error:
        return refuse(error)
    sys.stdout.write("Opening the reading room; its models load once the page is up.\n")
    sys.stdout.flush()
    leave_in_order(
        "SIGINT", "SIGTERM", "SIGHUP", status=0
    )  # so that uploads go, and a Space's last flags reach the Hub
    try:
        given = os.environ.get("GRADIO_TEMP_DIR")
        if not given or not is_own(Path(given)):
            os.environ["GRADIO_TEMP_DIR"] = str(make_folder("uploads", given))
        with HEAVY_IMPORTS:
            from reading_room.app import build_app, launch_options  # gradio takes seconds to import

            app = build_app(
                options.flags,
                options.task,
                options.engine,
                options.blinded,
                options.watch,
                options.sync,
                options.pull,
            )
        _, url, _ = app.launch(
            quiet=True,
            server_name=options.host,
            server_port=options.port,
            names=options.name,
            auth=accounts.check if accounts else None,
            mcp_server=options.mcp,
            prevent_thread_lock=True,
            **launch_options(),
        )
    except (ValueError, OSError) as error:
        return refuse(error)
    sys.stdout.write(f"The page is up: {url}\nFor research and teaching; not a medical device. Ctrl+C ends it.\n")
    sys.stdout.flush()  # for who reads the address from a log
    app.room.panels.begin()
    try:
        app.block_thread()
    finally:
        app.close(verbose=False)
    return 0


if __name__ == "__main__":
    leave(main)
