"""What the reading room holds and what its API does. No gradio here; `desk` is the page's side of it."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reading_room import cards, renders
from reading_room.blinding import Commitment, Commitments, SealedError
from reading_room.earlier import History
from reading_room.gathering import Gathering
from reading_room.intake import Case, Cases, IntakeError, take_in
from reading_room.panels import Panels
from reading_room.plates import Plates
from reading_room.prints import Prints
from reading_room.withdrawals import Withdrawals
from xray_models import flags
from xray_models.images import ImageError
from xray_models.readings import Opinion, Reading
from xray_models.tasks import choose

if TYPE_CHECKING:
    from reading_room.syncing import HubCopy
    from xray_models.panel import Panel

_CASE_LIMIT = 200  # files in one call of rank


class Room:
    """The reading room's panels, recent cases, commitments and ledger.

    Args:
        flags_folder: folder of the ledger.
        engine: what runs the models.
        blinded: whether nobody is told an opinion of an image before having committed to a label of it.

    Attributes:
        reports: where evaluations of one's own lie, `<task>/metrics.json` and `<task>/report.html`; they are looked at
            before those that come with the models.
        watch: folder whose files feed a worklist of everybody's, or None.
        pulls: whether readers may pull models of the Hub into a panel.
        hub_copy: the ledger's copy on the Hub, or None.
    """

    def __init__(self, flags_folder: Path, engine: str = "torch", blinded: bool = False):
        self.panels = Panels(engine)
        self.gathering = Gathering()
        self.cases = Cases()
        self.plates, self.prints = Plates(), Prints()
        self.commitments = Commitments()
        self.ledger = flags.Ledger(flags_folder)
        self.history = History(flags_folder)
        self.withdrawals = Withdrawals(self.ledger, self.history)
        self.deciding = threading.Lock()  # of a flag: one after the other, each on what the one before has left
        self.blinded = blinded
        self.reports = Path("reports")
        self.watch: Path | None = None
        self.pulls = False
        self.hub_copy: HubCopy | None = None

    def describe_tasks(self) -> dict[str, Any]:
        """Every task with its labels and models, and which of these can answer here."""
        return {
            name: {
                "title": task.title,
                "modality": task.modality,
                "labels": list(task.labels),
                "positive": list(task.positive),
                "models": [
                    {
                        "model": ref.name,
                        "title": cards.title_of(ref.name),
                        "available": ref.name in self.panels.available(name),
                    }
                    for ref in task.models
                ],
            }
            for name, task in self.panels.tasks.items()
        }

    def commit(self, path: str | None, task: str, label: str, confidence: float, who: str = "") -> dict[str, Any]:
        """Locks a reader's own label of a file, after which a blinded room tells this reader its opinions.

        Raises:
            SealedError: without a label, or when another label is locked already.
        """
        labels = self.panels.tasks[choose("task", task, self.panels.tasks)].labels
        image, _ = take_in(path)
        self.commitments.lock(who, task, image.sha256, Commitment(label, confidence), labels)
        return {"image_sha256": image.sha256, "label": label, "confidence": confidence}

    def read(self, path: str | None, task: str, who: str = "") -> dict[str, Any]:
        """A panel's reading of a file, as plain data; the image can be flagged afterwards by its sha256."""
        choose("task", task, self.panels.tasks)
        image, name_hash = take_in(path)
        self._unseal(who, task, image.sha256)
        reading = self.gathering.read(self.panels.get(task), image)
        self.cases.put(task, Case(image, name_hash, reading))
        return reading.to_json()

    def explain(
        self, path: str | None, task: str, model: str, method: str, label: str | None, who: str = ""
    ) -> dict[str, Any]:
        """One model's heatmap of a file: `heatmap` and `overlay` as PNG data URIs, and `stats`.

        Args:
            path: the uploaded file.
            task: the task.
            model: a model of the task.
            method: a key of `xray_models.attribution.METHODS`.
            label: the label to explain; empty for the model's own.
            who: the reader.
        """
        self.panels.tasks[choose("task", task, self.panels.tasks)].model(model)
        image, _ = take_in(path)
        self._unseal(who, task, image.sha256)
        panel = self.panels.get(task)
        _require(panel, model)
        from xray_models import attribution  # torch, which takes seconds to import, is there by now

        own = type(panel)(panel.task, [panel.checkpoints[model]], panel.device).read(image).opinions[0]
        if own.probs is None:
            raise IntakeError(f"{model} is unavailable: {own.reason}")
        try:
            heatmap = attribution.explain(panel.checkpoints[model], image, label or str(own.label), method)
        except ImageError as error:
            raise IntakeError(str(error)) from error
        stats = {
            "model": model,
            "method": method,
            "label": heatmap.label,
            "probability": own.probs[heatmap.label],
            "signed": heatmap.signed,
            "height": image.pixels.shape[0],
            "width": image.pixels.shape[1],
            "peak": {"row": heatmap.peak[0], "column": heatmap.peak[1]},
            "share_above_half": float((heatmap.values > 0.5).mean()),
        }
        return {
            "heatmap": renders.show_heatmap(heatmap),
            "overlay": renders.show_overlay(image, heatmap),
            "stats": stats,
        }

    def rank(self, paths: Sequence[str] | None, task: str, who: str = "") -> list[dict[str, Any]]:
        """Files by disagreement, most first; a file that cannot be read keeps its place at the end, with its reason."""
        choose("task", task, self.panels.tasks)
        self._refuse_blinded("Ranking by disagreement")
        paths = list(paths or ())
        if len(paths) > _CASE_LIMIT:
            raise IntakeError(f"{len(paths)} files at once; at most {_CASE_LIMIT}. Send them in parts.")
        rows = []
        for index, path in enumerate(paths):
            try:
                reading = self.read(path, task, who)
            except IntakeError as error:
                rows.append({"file": index, "error": str(error), "disagreement": None})
                continue
            said = reading["consensus"]
            rows.append(
                {
                    "file": index,
                    "image_sha256": reading["image"]["sha256"],
                    "consensus": said and said["label"],
                    "disagreement": said and said["disagreement"],
                    "in_distribution": said and said.get("in_distribution"),
                }
            )
        return sorted(rows, key=lambda row: -1.0 if row["disagreement"] is None else row["disagreement"], reverse=True)

    def flag(self, record: Mapping[str, Any], who: str = "") -> str:
        """Records a flag of an image that was read here before.

        Args:
            record: `task`, `image_sha256`, `reader`, `corrected_label`, and what else a `Flag` holds.
            who: the reader; in a blinded room the flag takes its first label from this reader's commitment.

        Returns:
            The flag's id, once it is on the disk.
        """
        _check_record(record)
        task = self.panels.tasks[choose("task", record["task"], self.panels.tasks)]
        case = self.cases.get(task.name, record["image_sha256"])
        first = None
        if self.blinded or record.get("mode") == "blinded":  # nobody says so without having committed to a label
            first = self.commitments.require(who, task.name, case.image.sha256)
        said = case.reading.consensus if case.reading else None
        flag = flags.Flag(
            **{**record, "regions": tuple(record.get("regions") or ()), **blinded_fields(first)},
            opinions=_opinions_of(case.reading),
            consensus_label=said.label if said else "",
            disagreement=said.disagreement if said else None,
            source_name_hash=case.name_hash,
        )
        with self.deciding:
            self.withdrawals.refuse_taken(who, flag)
            flag_id = self.ledger.append(flag, case.image, task)
            self.withdrawals.remember(who, dataclasses.replace(flag, flag_id=flag_id))
        return flag_id

    def withdraw(self, flag_id: str, who: str = "") -> str:
        """Takes back a flag that this reader saved here: a new row rejects it as withdrawn, and nothing is deleted.

        Args:
            flag_id: the flag.
            who: the reader, as when the flag was saved.

        Returns:
            The id of the new row, once it is on the disk.
        """
        task = self.panels.tasks[self.withdrawals.find(who, flag_id).task]
        with self.deciding:
            return self.withdrawals.withdraw(who, flag_id, task)

    def export(self) -> str:
        """All flags as CSV text, safe to open in a spreadsheet."""
        self._refuse_blinded("The table of flags, which holds opinions,")
        return flags.export_csv(self.ledger.root)

    def _unseal(self, who: str, task: str, sha256: str) -> None:
        """Lets a reader have the opinions of an image, and keeps in mind who did; raises `SealedError` where sealed."""
        if self.blinded:
            self.commitments.require(who, task, sha256)
        else:
            self.note_seen(who, task, [sha256])

    def note_seen(self, who: str, task: str, images: Iterable[str]) -> None:
        """Remembers that a reader was told opinions of images, by their sha256, without having committed to a label."""
        for sha256 in images:
            if who and self.commitments.get(who, task, sha256) is None:
                self.commitments.note_seen(who, task, sha256)

    def _refuse_blinded(self, what: str) -> None:
        if self.blinded:
            raise SealedError(f"{what} is not given out while this room reads blinded. Ask whoever runs it.")


def _check_record(record: Any) -> None:
    """Raises `FlagError` or `TaskError` unless a record has what a flag needs, and nothing that is not its sender's."""
    if not isinstance(record, Mapping):
        raise flags.FlagError("the record must be an object with task, image_sha256, reader and corrected_label.")
    ours = {"opinions", "consensus_label", "disagreement", "source_name_hash", "created_at"}
    known = [field.name for field in dataclasses.fields(flags.Flag) if field.name not in ours]
    for key in record:
        choose("key of a flag", key, known)
    for key in ("task", "image_sha256", "reader", "corrected_label"):
        if record.get(key) is None:
            raise flags.FlagError(f"`{key}` is missing; a flag needs task, image_sha256, reader and corrected_label.")
    if not isinstance(record["image_sha256"], str) or not isinstance(record.get("regions") or [], list | tuple):
        raise flags.FlagError("the record must have a text as image_sha256, and a list of boxes as regions.")
    if record.get("decides") or record.get("status", "open") != "open":
        raise flags.FlagError("the record must leave out decides and status: flags are decided on the Review page.")
    if record.get("reason") == flags.WITHDRAWN:
        raise flags.FlagError("the record must have another reason: a flag is taken back with /withdraw.")


def blinded_fields(first: Commitment | None) -> dict[str, Any]:
    """What a commitment, or that there is none, adds to a flag."""
    if first is None:
        return {"mode": "open", "first_label": "", "first_confidence": None}
    return {"mode": "blinded", "first_label": first.label, "first_confidence": first.confidence}


def _require(panel: Panel, model: str) -> None:
    """Raises `IntakeError` with the reason when a model of a panel is not there."""
    for member in panel.members:
        if isinstance(member, Opinion) and member.model == model:
            raise IntakeError(f"{model} is unavailable: {member.reason}")


def _opinions_of(reading: Reading | None) -> dict[str, Any]:
    answers = [opinion for opinion in (reading.opinions if reading else ()) if opinion.probs is not None]
    return {
        a.model: {
            "label": a.label,
            "probs": {k: round(p, 6) for k, p in (a.probs or {}).items()},
            "revision": a.revision,
        }
        for a in answers
    }
