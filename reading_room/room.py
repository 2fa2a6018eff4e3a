"""What happens in the reading room, apart from how the page looks: no gradio here.

Generators yield `View`s: what the page shows after each step, so that cards fill as their models answer.
"""

from __future__ import annotations

import dataclasses
import logging
import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from reading_room import cards, renders
from reading_room.cards import Card
from reading_room.intake import Case, Cases, IntakeError, take_in
from reading_room.panels import Panels
from xray_models import attribution, flags, phantom
from xray_models.images import Radiograph, from_pixels
from xray_models.panel import Panel
from xray_models.readings import Opinion, Reading
from xray_models.tasks import TaskError, choose

_log = logging.getLogger(__name__)
_CASE_LIMIT = 200  # files in one call of rank


class Shown(NamedTuple):
    """What a browser has in front of it: the key of its case, and since when."""

    task: str
    sha256: str
    since: float


class View(NamedTuple):
    """The page after a step: HTML of its parts, and what is shown."""

    viewer: str
    consensus: str
    cards: str
    shown: Shown | None


class Room:
    """The reading room's panels, recent cases and ledger.

    Args:
        flags_folder: folder of the ledger.
        engine: what runs the models.
    """

    def __init__(self, flags_folder: Path, engine: str = "torch"):
        self.panels = Panels(engine)
        self.cases = Cases()
        self.ledger = flags.Ledger(flags_folder)

    # --- the page ---

    def empty(self, task: str, message: str = "") -> View:
        """The page before an image, or after one that could not be read."""
        waiting = [Card(ref.name) for ref in self.panels.tasks[task].models]
        viewer = cards.render_error(message) if message else cards.render_viewer(None)
        consensus = cards.render_consensus(self.panels.tasks[task], None)
        return View(viewer, consensus, cards.render_cards(waiting), None)

    def read_upload(self, path: str | None, task: str, method: str) -> Iterator[View]:
        """Reads an uploaded file with a task's panel."""
        try:
            image, name_hash = take_in(path)
        except IntakeError as error:
            yield self.empty(task, str(error))
            return
        yield from self.read_image(image, name_hash, task, method)

    def read_example(self, method: str) -> Iterator[View]:
        """Draws a synthetic chest radiograph and reads it with the panel of task `phantom`."""
        seed = secrets.randbelow(2**31)
        drawn = phantom.draw_phantom(phantom.LABELS[seed % len(phantom.LABELS)], seed, size=512)
        yield from self.read_image(from_pixels(drawn.pixels), "", "phantom", method)

    def read_again(self, shown: Shown | None, task: str, method: str) -> Iterator[View]:
        """Reads the image that is shown with another task's panel."""
        if shown is None:
            yield self.empty(task)
            return
        try:
            case = self.cases.get(shown.task, shown.sha256)
        except IntakeError as error:
            yield self.empty(task, str(error))
            return
        yield from self.read_image(case.image, case.name_hash, task, method)

    def read_image(self, image: Radiograph, name_hash: str, task: str, method: str) -> Iterator[View]:
        """Asks every model, showing each opinion as it arrives, then each heatmap."""
        uri = renders.show_image(image)
        viewer = cards.render_viewer(image, uri)
        shown = Shown(task, image.sha256, time.time())
        refs = self.panels.tasks[task].models
        slots = [Card(ref.name, layer_note="reading …") for ref in refs]

        def view(reading: Reading | None = None, waiting: int = 0) -> View:
            height, width = image.pixels.shape
            consensus = cards.render_consensus(self.panels.tasks[task], reading, waiting)
            return View(viewer, consensus, cards.render_cards(slots, uri, width / height), shown)

        yield view(waiting=len(refs))
        panel = self.panels.get(task)
        opinions: list[Opinion] = []
        for index, opinion in enumerate(panel.ask(image)):
            opinions.append(opinion)
            slots[index] = Card(opinion.model, opinion, layer_note="drawing …")
            yield view(waiting=len(refs) - len(opinions))
        reading = panel.collect(image, opinions)
        self.cases.put(task, Case(image, name_hash, reading))
        for index, card in enumerate(self._draw(panel, image, opinions, method)):
            slots[index] = card
            yield view(reading)

    def draw_maps(self, shown: Shown | None, task: str, method: str) -> Iterator[str]:
        """Draws the heatmaps of the image that is shown by another method; yields the cards."""
        if shown is None:
            yield self.empty(task).cards
            return
        try:
            case = self.cases.get(shown.task, shown.sha256)
        except IntakeError:
            yield self.empty(task).cards
            return
        if case.reading is None:
            return
        uri = renders.show_image(case.image)
        height, width = case.image.pixels.shape
        slots = [Card(opinion.model, opinion, layer_note="drawing …") for opinion in case.reading.opinions]
        yield cards.render_cards(slots, uri, width / height)
        panel = self.panels.get(shown.task)
        for index, card in enumerate(self._draw(panel, case.image, case.reading.opinions, method)):
            slots[index] = card
            yield cards.render_cards(slots, uri, width / height)

    def _draw(self, panel: Panel, image: Radiograph, opinions: Sequence[Opinion], method: str) -> Iterator[Card]:
        """Each model's card with its heatmap; a heatmap that fails takes nothing else with it."""
        for opinion in opinions:
            if opinion.label is None:
                yield Card(opinion.model, opinion)
                continue
            try:
                heatmap = attribution.explain(panel.checkpoints[opinion.model], image, opinion.label, method)
            except Exception as error:  # noqa: BLE001 - the edge: one heatmap must not stop the others
                _log.warning("no heatmap of %s: %s", opinion.model, error)
                yield Card(opinion.model, opinion, layer_note=f"no heatmap: {error}")
                continue
            yield Card(opinion.model, opinion, renders.show_layer(heatmap))

    def save_flag(self, shown: Shown | None, fields: Mapping[str, Any]) -> str:
        """Records the reader's flag of the image that is shown; returns HTML that says so, or why not."""
        if shown is None:
            return cards.render_error("There is no image to flag. Read one first.")
        record = {
            "task": shown.task,
            "image_sha256": shown.sha256,
            "seconds": round(time.time() - shown.since, 1),
        }
        try:
            flag_id = self.flag(record | dict(fields))
        except (flags.FlagError, flags.LedgerError, IntakeError, TaskError) as error:
            return cards.render_error(str(error)).replace("Not read.", "Not saved.")
        return cards.render_saved(flag_id, str(fields["corrected_label"]))

    # --- the API ---

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

    def read(self, path: str | None, task: str) -> dict[str, Any]:
        """A panel's reading of a file, as plain data; the image can be flagged afterwards by its sha256."""
        choose("task", task, self.panels.tasks)
        image, name_hash = take_in(path)
        reading = self.panels.get(task).read(image)
        self.cases.put(task, Case(image, name_hash, reading))
        return reading.to_json()

    def explain(self, path: str | None, task: str, model: str, method: str, label: str | None) -> dict[str, Any]:
        """One model's heatmap of a file: `heatmap` and `overlay` as PNG data URIs, and `stats`.

        Args:
            path: the uploaded file.
            task: the task.
            model: a model of the task.
            method: a key of `xray_models.attribution.METHODS`.
            label: the label to explain; empty for the model's own.
        """
        self.panels.tasks[choose("task", task, self.panels.tasks)].model(model)
        image, _ = take_in(path)
        panel = self.panels.get(task)
        if model not in panel.checkpoints:
            reasons = [
                member.reason for member in panel.members if isinstance(member, Opinion) and member.model == model
            ]
            raise IntakeError(f"{model} is unavailable: {reasons[0]}")
        own = Panel(panel.task, [panel.checkpoints[model]], panel.device).read(image).opinions[0]
        heatmap = attribution.explain(panel.checkpoints[model], image, label or str(own.label), method)
        stats = {
            "model": model,
            "method": method,
            "label": heatmap.label,
            "probability": (own.probs or {})[heatmap.label],
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

    def rank(self, paths: Sequence[str] | None, task: str) -> list[dict[str, Any]]:
        """Files by disagreement, most first; a file that cannot be read keeps its place at the end, with its reason."""
        choose("task", task, self.panels.tasks)
        paths = list(paths or ())
        if len(paths) > _CASE_LIMIT:
            raise IntakeError(f"{len(paths)} files at once; at most {_CASE_LIMIT}. Send them in parts.")
        rows = []
        for index, path in enumerate(paths):
            try:
                reading = self.read(path, task)
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

    def flag(self, record: Mapping[str, Any]) -> str:
        """Records a flag of an image that was read here before.

        Args:
            record: `task`, `image_sha256`, `reader`, `corrected_label`, and what else a `Flag` holds.

        Returns:
            The flag's id, once it is on the disk.
        """
        if not isinstance(record, Mapping):
            raise flags.FlagError("the record must be an object with task, image_sha256, reader and corrected_label.")
        ours = {"opinions", "consensus_label", "disagreement", "source_name_hash", "created_at"}
        known = [field.name for field in dataclasses.fields(flags.Flag) if field.name not in ours]
        for key in record:
            choose("key of a flag", key, known)
        for key in ("task", "image_sha256", "reader", "corrected_label"):
            if not record.get(key):
                raise flags.FlagError(
                    f"`{key}` is missing; a flag needs task, image_sha256, reader and corrected_label."
                )
        task = self.panels.tasks[choose("task", record["task"], self.panels.tasks)]
        case = self.cases.get(task.name, record["image_sha256"])
        said = case.reading.consensus if case.reading else None
        flag = flags.Flag(
            **{**record, "regions": tuple(record.get("regions", ()))},
            opinions=_opinions_of(case.reading),
            consensus_label=said.label if said else "",
            disagreement=said.disagreement if said else None,
            source_name_hash=case.name_hash,
        )
        return self.ledger.append(flag, case.image, task)

    def export(self) -> str:
        """All flags as CSV text, safe to open in a spreadsheet."""
        return flags.export_csv(self.ledger.root)


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
