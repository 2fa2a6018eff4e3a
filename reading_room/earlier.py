"""The flags that an image has had: who, which label, when, and what became of them. No gradio here."""

from __future__ import annotations

import csv
import logging
import sys
import threading
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import NamedTuple

from reading_room.cards import plain, render_error, render_reader
from reading_room.tables import render_mark
from xray_models.flags import WITHDRAWN, LedgerError
from xray_models.rows import read_part

_log = logging.getLogger(__name__)
_COLUMNS = ("flag_id", "created_at", "reader", "task", "image_sha256", "corrected_label", "reason", "status", "decides")
_GONE = ("rejected", WITHDRAWN)
_KINDS = {"open": "quiet", "accepted": "good", "rejected": "bad", WITHDRAWN: "back"}


class Earlier(NamedTuple):
    """A flag of an image, with what became of it.

    Attributes:
        flag_id: the flag.
        created_at: UTC, ISO 8601.
        reader: who flagged.
        label: the corrected label.
        status: "open", "accepted", "rejected" or "withdrawn".
        decided_by: who accepted, rejected or took it back, or "".
    """

    flag_id: str
    created_at: str
    reader: str
    label: str
    status: str
    decided_by: str = ""


class _Decision(NamedTuple):
    """Sorts as `flags.read_flags` does, so that the greatest is the last."""

    created_at: str
    row_id: str
    status: str
    reader: str


class History:
    """A ledger's flags by image, for looking up one image at a time.

    Files of the ledger only grow, so each look reads what was added since the last one, and nothing where nothing was.

    Args:
        root: folder of the ledger; may be missing.
    """

    def __init__(self, root: str | Path):
        self.root = Path(root)
        self._lock = threading.Lock()
        self._forget()

    def find(self, task: str, sha256: str) -> list[Earlier]:
        """The flags of an image for a task, newest first; decisions show in the status of what they decide.

        Raises:
            LedgerError: when the ledger cannot be read.
        """
        with self._lock:
            self._look()
            flags = [self._settle(flag) for flag in self._flags.get((task, sha256), {}).values()]
        return sorted(flags, key=lambda flag: (flag.created_at, flag.flag_id), reverse=True)

    def locate(self, flag_id: str) -> tuple[str, str] | None:
        """Task and image (sha256) of the row that has an id, a flag or a decision; None where there is none.

        Raises:
            LedgerError: when the ledger cannot be read.
        """
        with self._lock:
            self._look()
            return self._places.get(flag_id)

    def _look(self) -> None:
        try:
            self._refresh()
        except (OSError, ValueError, csv.Error) as error:
            raise LedgerError(
                f"the ledger cannot be read ({type(error).__name__}). Ask whoever runs this reading room."
            ) from error

    def _forget(self) -> None:
        self._places: dict[str, tuple[str, str]] = {}
        self._ends: dict[Path, int] = {}
        self._flags: dict[tuple[str, str], dict[str, Earlier]] = {}
        self._decisions: dict[str, _Decision] = {}

    def _refresh(self) -> None:
        sizes = {path: path.stat().st_size for path in sorted(self.root.glob("*/metadata.csv"))}
        if any(sizes.get(path, 0) < end for path, end in self._ends.items()):
            self._forget()  # a file was cut or taken away: not by us, so nothing of before is sure
        for path, size in sizes.items():
            if size > self._ends.get(path, 0):
                part = read_part(path, self._ends.get(path, 0), _COLUMNS)
                for row in part.rows:
                    self._add(row)
                self._ends[path] = part.end

    def _add(self, row: dict[str, str]) -> None:
        flag_id, created_at, status, reader = (row[k] for k in ("flag_id", "created_at", "status", "reader"))
        image = (sys.intern(row["task"]), sys.intern(row["image_sha256"]))
        self._places.setdefault(flag_id, image)  # the same id twice is one flag
        if row["decides"]:
            said = WITHDRAWN if row["reason"] == WITHDRAWN else status
            decision = _Decision(created_at, flag_id, sys.intern(said), sys.intern(reader))
            last = self._decisions.setdefault(row["decides"], decision)
            self._decisions[row["decides"]] = max(last, decision)
            return
        label = sys.intern(row["corrected_label"])
        flag = Earlier(flag_id, created_at, sys.intern(reader), label, sys.intern(status))
        self._flags.setdefault(image, {}).setdefault(flag_id, flag)

    def _settle(self, flag: Earlier) -> Earlier:
        decision = self._decisions.get(flag.flag_id)
        return flag._replace(status=decision.status, decided_by=decision.reader) if decision else flag


def look_back(history: History, task: str, sha256: str) -> str:
    """The earlier flags of an image as HTML, or why they cannot be told: that stops no reading."""
    try:
        return render_earlier(history.find(task, sha256))
    except LedgerError as error:
        _log.warning("earlier flags are not shown: %s", error.__cause__)
        return render_error(str(error), "Earlier flags unknown:")


def render_withdrawn(flag_id: str, label: str, where: str = "") -> str:
    """That a flag's withdrawal is on the disk; `where` is HTML that says where it is besides."""
    return f'<p class="sr-back" role="status">Withdrawn: <b>{plain(label)}</b> · {escape(flag_id)}{where}</p>'


def render_earlier(flags: Sequence[Earlier]) -> str:
    """The earlier flags of an image: the first on one line, the others behind it; "" without any.

    Args:
        flags: newest first; those that were rejected or withdrawn come after those that count.
    """
    if not flags:
        return ""
    flags = sorted(flags, key=lambda flag: flag.status in _GONE)
    differ = f"{render_mark('readers differ', 'warn')} " if _differ(flags) else ""
    first = f'<span class="sr-cut">{differ}<span>Flagged as</span> {_render_flag(flags[0])}</span>'
    if len(flags) == 1:
        return f'<p class="sr-earlier">{first}</p>'
    others = "".join(f"<li>{_render_flag(flag)}</li>" for flag in flags[1:])
    more = f'<span class="sr-more">and {len(flags) - 1} more</span>'
    return f'<details class="sr-earlier"><summary>{first} {more}</summary><ul>{others}</ul></details>'


def _differ(flags: Sequence[Earlier]) -> bool:
    """Whether two readers' last words that count are not the same."""
    last = {flag.reader: flag.label for flag in reversed(flags) if flag.status not in _GONE}
    return len(set(last.values())) > 1


def _render_flag(flag: Earlier) -> str:
    when = f'<time datetime="{escape(flag.created_at)}">{escape(flag.created_at[:10])}</time>'
    by = f" by {render_reader(flag.decided_by)}" if flag.decided_by and flag.decided_by != flag.reader else ""
    mark = render_mark(flag.status, _KINDS.get(flag.status, "quiet")) + by
    label = f"<s>{plain(flag.label)}</s>" if flag.status in _GONE else f"<b>{plain(flag.label)}</b>"
    return f"{label} · {render_reader(flag.reader)} · {when} · {mark}"
