"""What the command lines share: how one is refused, and how it is written down for cards and reports."""

from __future__ import annotations

import argparse
import atexit
import contextlib
import json
import logging
import os
import shlex
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

from xray_models.tasks import TaskError

_STAND_INS = {
    "--data": "DATA",
    "--flags": "FLAGS",
    "--foreign": "FOLDER",
    "--from": "FOLDER",
    "--labels": "FILE",
    "--metadata": "FILE",
    "--out": "OUT",
    "--predictions": "FILE",
    "--ray-address": "ADDRESS",
    "--weights": "WEIGHTS",
}
_HUB = "hub:"  # a data set of the Hub, the same for everyone
_NAMED = "--foreign"  # results tell such folders apart by their last names
_PATIENCE = 10.0  # seconds in which the first of several processes comes to what the others have come to


def start_log(level: int = logging.INFO) -> None:
    """Shows what a command tells on its way, but no request to the Hub: addresses of its downloads are signed."""
    logging.basicConfig(level=level, format="%(levelname)s %(message)s")
    for name in ("httpx", "httpx2"):
        logging.getLogger(name).setLevel(logging.WARNING)


def refuse(error: Exception) -> int:
    """Says why a command cannot be done; returns its exit status."""
    sys.stderr.write(f"error: {error}\n")
    return 2


def refuse_together(error: Exception) -> int:
    """`refuse`, in one of several processes that may all come to the same: the first says it, for all.

    The others wait, since their launcher ends all with any of them: else the first might not come to speak. One that
    is still there after that has something of its own to say.
    """
    if int(os.environ.get("RANK", 0)) != 0:
        time.sleep(_PATIENCE)
    return refuse(error)


def parse_count(text: str) -> int:
    """A command line's whole number above 0; argparse says so where it is none."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


def parse_seed(text: str) -> int:
    """A command line's seed; argparse says so where no generator of random numbers takes it."""
    if not text.isdecimal() or int(text) >= 2**32:
        raise argparse.ArgumentTypeError(f"{text!r} is no seed; give a whole number from 0 to {2**32 - 1}")
    return int(text)


def check_out(folder: Path, option: str = "--out") -> None:
    """Finds out whether anything can be written to a folder, before any work is done for it; leaves nothing behind.

    Args:
        folder: the folder; may be missing.
        option: what named it.

    Raises:
        TaskError: when the folder can neither be made nor written to.
    """
    try:
        there = next(place for place in (folder.absolute(), *folder.absolute().parents) if place.exists())
        with tempfile.TemporaryDirectory(dir=there):
            pass
    except OSError as error:
        raise TaskError(
            f"Nothing can be written to {option} {folder} ({error.strerror}). Name a folder of yours, new or there."
        ) from error


@contextlib.contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Raises `TaskError` where results cannot be written to a folder: no room is left there, or something else lies."""
    try:
        yield
    except OSError as error:
        place = f" at {Path(error.filename).name}" if error.filename else ""
        raise TaskError(
            f"The results cannot be written to {folder}{place}: {error.strerror or error}. Make room there, or name "
            "another folder with --out."
        ) from error


def read_metrics(path: Path) -> dict[str, Any]:
    """Reads a `metrics.json` of `evaluation.run`.

    Raises:
        TaskError: when the file cannot be read, or holds something else.
    """
    try:
        metrics = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise TaskError(f"{path} cannot be read as a metrics.json: {error}") from error
    if not isinstance(metrics, dict) or not isinstance(metrics.get("models"), dict):
        raise TaskError(
            f"{path} holds no figures of models, as a metrics.json does. Make one: python -m evaluation.run --task TASK"
        )
    return metrics


def show_command(module: str, words: Sequence[str], keep: Sequence[str] = ()) -> str:
    """Writes a command line down without this machine's folders.

    Args:
        module: what `python -m` runs.
        words: the command's arguments, every option by its whole name (`allow_abbrev=False`).
        keep: options whose folders are shown as they are.

    Returns:
        One line for a shell, in which DATA, OUT and the like stand for folders. A data set of the Hub is named, and of
        folders of other tasks' images the last name, which the results bear as well.
    """
    stand_ins = {name: word for name, word in _STAND_INS.items() if name not in keep}
    shown, option = [], ""
    for word in words:
        name, sign, value = word.partition("=")
        if word.startswith("--"):
            option = name
            shown.append(f"{name}={_shorten(name, value, stand_ins[name])}" if sign and name in stand_ins else word)
        else:
            shown.append(_shorten(option, word, stand_ins[option]) if option in stand_ins else word)
    return f"python -m {module} {shlex.join(shown)}"


def _shorten(option: str, value: str, stand_in: str) -> str:
    """What is shown of a value that may be a place of this machine."""
    if value.startswith(_HUB):
        return value
    return Path(value).resolve().name or stand_in if option == _NAMED else stand_in


def leave(main: Callable[[], int], stopped: str = "") -> NoReturn:
    """Runs a command and ends the process with its status; 130, with a word in place of a traceback, for Ctrl+C.

    In a command that was stopped, threads can be at work in a library's own code (a model that loads, a reading that
    nobody waits for any more). They would abort the process while the interpreter takes itself apart; where there are
    any, they end with it as soon as what is registered for the process's end is done.

    Args:
        main: returns the exit status, or raises SystemExit with it. What else it raises ends the process as usual.
        stopped: what there is to know for who has stopped it.
    """
    try:
        status = main()
    except KeyboardInterrupt:
        sys.stderr.write(f"\nstopped; {stopped}\n" if stopped else "\nstopped\n")
        status = 130
    except SystemExit as asked:
        if not isinstance(asked.code, int):  # a message
            raise
        status = asked.code
    else:
        sys.exit(status)
    if threading.active_count() == 1:
        sys.exit(status)
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def leave_in_order(*signals: str, status: int | None = None) -> None:
    """Lets a signal from outside (`kill`, a closed terminal, a container's end) end the process as `exit` does.

    Args:
        signals: their names; one that this system does not know, or that is ignored (`nohup`), is left as it is.
        status: the process's exit status; None for 128 and the signal's number, as shells have it.
    """

    def end(number: int, _: object) -> None:
        sys.exit(128 + number if status is None else status)

    for name in signals:
        number = getattr(signal, name, None)  # Windows knows no SIGHUP
        if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, end)


def leave_group() -> None:
    """Ends this process, one of several that have trained together, now that all is done.

    At an interpreter's own end threads of torch.distributed that are still at work can abort a process; its launcher
    would then stop the others, of which the first may still be calibrating and saving the model.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)
