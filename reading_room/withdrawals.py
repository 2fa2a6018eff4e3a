"""Taking a flag back: who may, when it is too late, and the row that says so. No gradio here."""

from __future__ import annotations

import threading
from collections import OrderedDict

from reading_room.earlier import History
from xray_models.flags import WITHDRAWN, Flag, FlagError, Ledger
from xray_models.images import ImageError, read_image
from xray_models.tasks import Task

CAPACITY = 20_000  # flags kept that can be taken back; the oldest goes first


class Withdrawals:
    """Takes flags back that were saved here, each for the reader who saved it.

    A reader is known as `readers.name_reader` says: by the log-in, else the browser, else the client's session.
    Who has none is nobody, and takes nothing back.

    Args:
        ledger: this process's, which has the flags and gets the rows.
        history: of the same ledger, for what became of a flag.
        capacity: flags that are remembered.
    """

    def __init__(self, ledger: Ledger, history: History, capacity: int = CAPACITY):
        self.ledger, self.history, self.capacity = ledger, history, capacity
        self._saved: OrderedDict[str, tuple[str, Flag]] = OrderedDict()
        self._lock = threading.Lock()

    def remember(self, who: str, flag: Flag) -> None:
        """Keeps in mind who saved a flag; a decision on another flag is none."""
        if flag.decides:
            return
        with self._lock:
            self._saved.setdefault(flag.flag_id, (who, flag))
            while len(self._saved) > self.capacity:
                self._saved.popitem(last=False)

    def refuse_taken(self, who: str, flag: Flag) -> None:
        """Raises `FlagError` for an id that another flag has; the same flag may be sent again.

        Args:
            who: the reader.
            flag: what is to be saved, its id the reader's own choice or "".
        """
        if not flag.flag_id or not isinstance(flag.flag_id, str):
            return
        if flag.flag_id in self._saved:
            saver, saved = self._saved[flag.flag_id]
            taken = saver != who or _tell(saved) != _tell(flag)
        elif (place := self.history.locate(flag.flag_id)) is None:
            taken = False
        else:  # saved before a restart, or by another process
            known = self.history.find(*place) if place == (flag.task, flag.image_sha256) else ()
            same = [found for found in known if found.flag_id == flag.flag_id]
            taken = not same or any(who or found.label != flag.corrected_label for found in same)
        if taken:
            raise FlagError(f"flag_id {flag.flag_id!r} is that of a flag in the ledger; leave it out for a new one.")

    def find(self, who: str, flag_id: str) -> Flag:
        """The flag, for the reader who saved it; raises `FlagError` for anybody else."""
        saver, flag = self._saved.get(flag_id, ("", None))
        if flag is None or not who or saver != who:
            raise FlagError(
                "A flag is undone by the reader who saved it, in the browser in which it was saved. "
                "Any other flag can be rejected on the Review page."
            )
        return flag

    def find_last(self, who: str, task: str, sha256: str) -> Flag | None:
        """The first that `find_open` gives; None without one."""
        return next(iter(self.find_open(who, task, sha256)), None)

    def find_open(self, who: str, task: str, sha256: str) -> list[Flag]:
        """The flags of an image that this reader saved here and that still stand open, the last first."""
        with self._lock:
            saved = [flag for saver, flag in self._saved.values() if saver == who]
        own = [flag for flag in saved if who and (flag.task, flag.image_sha256) == (task, sha256)]
        if not own:
            return []
        still = {found.flag_id for found in self.history.find(task, sha256) if found.status == "open"}
        return [flag for flag in reversed(own) if flag.flag_id in still]

    def withdraw(self, who: str, flag_id: str, task: Task) -> str:
        """Rejects a flag as withdrawn; nothing is deleted.

        Args:
            who: the reader who saved it.
            flag_id: the flag.
            task: the flag's task.

        Returns:
            The id of the new row, once it is on the disk.

        Raises:
            FlagError: for another reader's flag, and for one that is withdrawn or decided already.
            LedgerError: when the ledger could not be read, or the row not be written; then the flag stays.
        """
        flag = self.find(who, flag_id)
        with self._lock:  # one after the other, so that none is taken back twice
            self._refuse_settled(flag)
            try:
                image = read_image(next(self.ledger.root.glob(f"*/{flag.image_sha256}.png")))
            except (ImageError, OSError, StopIteration) as error:
                raise FlagError(
                    "The flagged image is not in the ledger's folder any more; nothing was written."
                ) from error
            return self.ledger.append(_take_back(flag), image, task)

    def _refuse_settled(self, flag: Flag) -> None:
        known = {found.flag_id: found for found in self.history.find(flag.task, flag.image_sha256)}
        found = known.get(flag.flag_id)
        if found is None:
            raise FlagError("The flag is not in the ledger any more; nothing was written.")
        if found.status == WITHDRAWN:
            raise FlagError("This flag is withdrawn already; nothing was written.")
        if found.status != "open":
            by = f" by {found.decided_by}" if found.decided_by else ""
            raise FlagError(
                f"This flag was {found.status}{by} meanwhile; nothing was written. "
                "Whoever decided it can do so anew on the Review page."
            )


def _tell(flag: Flag) -> tuple:
    """What a reader says with a flag; not what stands beside it, which is looked up anew when it is sent again."""
    image, label = (flag.task, flag.image_sha256), (flag.corrected_label, flag.confidence)
    return image, label, flag.reader, flag.reason, flag.comment, flag.regions, flag.status, flag.decides


def _take_back(flag: Flag) -> Flag:
    """The row that takes a flag back: a decision on it by its own reader, with the opinions of then."""
    return Flag(
        reader=flag.reader,
        task=flag.task,
        corrected_label=flag.corrected_label,
        image_sha256=flag.image_sha256,
        reason=WITHDRAWN,
        opinions=flag.opinions,
        consensus_label=flag.consensus_label,
        disagreement=flag.disagreement,
        status="rejected",
        decides=flag.flag_id,
        source_name_hash=flag.source_name_hash,
    )
