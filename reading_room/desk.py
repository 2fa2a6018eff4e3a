"""What happens on the reading page, apart from how it looks: no gradio here.

Generators yield `View`s: what the page shows after each step, so that cards fill as their models answer.
"""

from __future__ import annotations

import functools
import logging
import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import wait
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from reading_room import cards, renders, viewer
from reading_room.blinding import Commitment, SealedError
from reading_room.cards import Card, Layer
from reading_room.earlier import look_back
from reading_room.intake import Case, IntakeError, take_in
from reading_room.prints import Prints
from reading_room.room import Room
from reading_room.standing import NOTHING, Standing, find_standing
from reading_room.turns import OvertakenError, Turns
from xray_models import flags, phantom
from xray_models.images import Radiograph, from_pixels
from xray_models.methods import DEFAULT
from xray_models.readings import Opinion, Reading
from xray_models.tasks import TaskError
from xray_models.workers import WORKERS

if TYPE_CHECKING:
    from xray_models.panel import Panel

_log = logging.getLogger(__name__)
_PAUSE = 0.4  # seconds between two words on how far a heatmap is
_NOTHING_KEPT: Mapping[str, Any] = MappingProxyType({})
SAYING = (flags.FlagError, flags.LedgerError, IntakeError, SealedError, TaskError)
"""Errors whose messages are for the reader."""


class Setting(NamedTuple):
    """How a page is set when it asks for a reading.

    Attributes:
        task: the task.
        method: what draws the heatmaps, a key of `attribution.METHODS`.
        who: the reader, as `Commitments` knows one.
        blinded: whether the reader reads first.
        check: raises `OvertakenError` once the page has asked for something else.
        page: the page's session.
    """

    task: str
    method: str = DEFAULT
    who: str = ""
    blinded: bool = False
    check: Callable[[], None] = lambda: None
    page: str = ""


class Shown(NamedTuple):
    """What a browser has in front of it: the key of its case, since when, and whether it is read blinded."""

    task: str
    sha256: str
    since: float
    blinded: bool = False


class View(NamedTuple):
    """The page after a step: the viewer's value, HTML of the other parts, and what is shown.

    Attributes:
        sealed: whether the reader's own reading is asked for now, and nothing of the panel may be sent.
        earlier: the flags that the image has had; None leaves what the page says of them.
        own: the reader's own flag among them, which can be undone; None leaves what the page says last of a flag.
    """

    viewer: dict[str, Any]
    consensus: str
    cards: str
    shown: Shown | None
    sealed: bool = False
    earlier: str | None = ""
    own: str | None = ""


class Desk:
    """The pages' work with a room; it keeps nothing but whose turn it is."""

    def __init__(self, room: Room):
        self.room = room
        self.turns = Turns()

    def empty(self, task: str, message: str = "") -> View:
        """The page before an image, or after one that could not be read."""
        wanted = self.room.panels.tasks[task]
        waiting = cards.render_cards([Card(ref.name) for ref in wanted.models])
        shown = viewer.show_error(message) if message else viewer.NOTHING
        return View(shown, cards.render_consensus(wanted, None), waiting, None)

    def read_upload(self, path: str | None, setting: Setting) -> Iterator[View]:
        """Reads an uploaded file with a task's panel."""
        try:
            image, name_hash = take_in(path)
        except IntakeError as error:
            yield self.empty(setting.task, str(error))
            return
        yield from self.open_image(image, name_hash, setting)

    def read_example(self, setting: Setting) -> Iterator[View]:
        """Draws a synthetic chest radiograph and reads it with the panel of task `phantom`."""
        seed = secrets.randbelow(2**31)
        drawn = phantom.draw_phantom(phantom.LABELS[seed % len(phantom.LABELS)], seed, size=512)
        yield from self.open_image(from_pixels(drawn.pixels), "", setting._replace(task="phantom"))

    def read_again(self, shown: Shown | None, setting: Setting) -> Iterator[View]:
        """Reads the image that is shown with another task's panel."""
        if shown is None:
            self.room.panels.warm(setting.task)  # the next image will be for it
            yield self.empty(setting.task)
            return
        try:
            case = self.room.cases.get(shown.task, shown.sha256)
        except IntakeError as error:
            yield self.empty(setting.task, str(error))
            return
        yield from self.open_image(case.image, case.name_hash, setting)

    def open_image(self, image: Radiograph, name_hash: str, setting: Setting) -> Iterator[View]:
        """Shows an image and asks the panel; where it is read blinded, only after the reader has committed."""
        key = (setting.who, setting.task, image.sha256)
        blinded = (setting.blinded or self.room.blinded) and not self.room.commitments.has_seen(*key)
        shown = Shown(setting.task, image.sha256, time.time(), blinded)
        self.room.cases.offer(setting.task, Case(image, name_hash))  # from now on it can be flagged
        if blinded and self.room.commitments.get(*key) is None:
            yield self._sealed(image, shown)
            return
        yield from self._ask(Case(image, name_hash), shown, setting)

    def commit(self, shown: Shown | None, label: str | None, confidence: float, setting: Setting) -> Iterator[View]:
        """Locks the reader's own reading, then asks the panel.

        Raises:
            SealedError: without an image or a label, or when another label is locked already.
            IntakeError: when the image is not at hand any more.
        """
        if shown is None:
            raise SealedError("There is no image to read. Open one first.")
        labels = self.room.panels.tasks[shown.task].labels
        case = self.room.cases.get(shown.task, shown.sha256)
        first = Commitment(label or "", confidence)
        self.room.commitments.lock(setting.who, shown.task, shown.sha256, first, labels)
        yield from self._ask(case, shown, setting)

    def _sealed(self, image: Radiograph, shown: Shown) -> View:
        task = self.room.panels.tasks[shown.task]
        waiting = cards.render_cards([Card(ref.name, waits_for="your reading") for ref in task.models])
        picture = viewer.show_case(image, self.room.plates.offer(image), shown.since) | {"task": shown.task}
        return View(picture, cards.render_sealed(task), waiting, shown, sealed=True)

    def _find_own(self, shown: Shown, who: str) -> str:
        try:
            flag = self.room.withdrawals.find_last(who, shown.task, shown.sha256)
        except flags.LedgerError:  # told with the earlier flags
            return ""
        if flag is None:
            return ""
        where = self.room.hub_copy.render(flag.flag_id) if self.room.hub_copy else ""
        return cards.render_own(flag.flag_id, flag.corrected_label, where)

    def _ask(self, case: Case, shown: Shown, setting: Setting) -> Iterator[View]:
        """Asks every model, showing each opinion as it arrives, then each heatmap."""
        task, image = self.room.panels.tasks[shown.task], case.image
        slots = [Card(ref.name, layer_note="reading …") for ref in task.models]
        view = self._show(image, shown, setting)
        if not shown.blinded:
            self.room.commitments.note_seen(setting.who, shown.task, shown.sha256)
        yield view(slots, waiting=len(slots))._replace(earlier="", own="")
        earlier = look_back(self.room.history, shown.task, shown.sha256)
        yield view(slots, waiting=len(slots))._replace(earlier=earlier, own=self._find_own(shown, setting.who))
        panel = self.room.panels.get(task.name)
        slots = [Card(ref.name, layer_note="reading …") for ref in panel.task.models]  # one may have joined meanwhile
        opinions: list[Opinion] = []
        features: dict[str, Any] = {}
        for index, opinion in enumerate(panel.ask(image, features)):
            opinions.append(opinion)
            slots[index] = Card(opinion.model, opinion, layer_note="drawing …")
            yield view(slots, waiting=len(slots) - len(opinions))
        reading = panel.collect(image, opinions)
        self.room.cases.put(task.name, Case(image, case.name_hash, reading))
        known = find_standing(task, opinions, self.room.reports)
        for index, card in _draw(self.room.prints, panel, image, opinions, setting, features):
            slots[index] = card._replace(note=known.note(card.model, setting.method))
            yield view(slots, reading, known=known)

    def _show(self, image: Radiograph, shown: Shown, setting: Setting) -> Callable[..., View]:
        """What makes a view of cards and, where it is there, their reading."""
        task = self.room.panels.tasks[shown.task]
        picture = viewer.show_case(image, self.room.plates.offer(image), shown.since) | {"task": shown.task}
        first = self.room.commitments.get(setting.who, shown.task, shown.sha256) if shown.blinded else None
        locked = cards.render_first(*first) if first else cards.SEEN if setting.blinded and not shown.blinded else ""
        thumb = self.room.prints.offer(renders.draw_thumb(image))
        height, width = image.pixels.shape

        def view(
            slots: Sequence[Card], reading: Reading | None = None, waiting: int = 0, known: Standing = NOTHING
        ) -> View:
            said = reading.consensus if reading else None
            place = known.place(said.disagreement) if said else None
            consensus = locked + cards.render_consensus(task, reading, waiting, place)
            html = cards.render_cards(slots, thumb, width / height)
            return View(picture, consensus, html, shown, earlier=None, own=None)

        return view

    def shows(self, shown: Shown | None, task: str, page: str) -> bool:
        """Whether a page shows an image with a task's panel already, or is about to."""
        return shown is not None and self.turns.shows(page) == (task, shown.sha256)

    def draw_maps(self, shown: Shown | None, setting: Setting) -> Iterator[View]:
        """Draws the heatmaps of the image that is shown by another method, as soon as its models have answered."""
        if shown is None:
            yield self.empty(setting.task)._replace(earlier=None, own=None)
            return
        try:
            case = self.room.cases.get(shown.task, shown.sha256)
        except IntakeError:
            yield self.empty(setting.task)._replace(earlier=None, own=None)
            return
        if self.is_sealed(shown, setting.who):
            yield self._sealed(case.image, shown)._replace(earlier=None, own=None)
            return
        reading = case.reading
        if reading is None:  # this has overtaken it
            yield from self._ask(case, shown, setting)
            return
        view = self._show(case.image, shown, setting)
        slots = [Card(opinion.model, opinion, layer_note="drawing …") for opinion in reading.opinions]
        panel = self.room.panels.get(shown.task)
        known = find_standing(panel.task, reading.opinions, self.room.reports)
        yield view(slots, reading, known=known)
        for index, card in _draw(self.room.prints, panel, case.image, reading.opinions, setting):
            slots[index] = card._replace(note=known.note(card.model, setting.method))
            yield view(slots, reading, known=known)

    def is_sealed(self, shown: Shown, who: str) -> bool:
        """Whether the reader has yet to commit to a label of the image: then no opinion of it may be sent."""
        return shown.blinded and self.room.commitments.get(who, shown.task, shown.sha256) is None


def _draw(
    prints: Prints,
    panel: Panel,
    image: Radiograph,
    opinions: Sequence[Opinion],
    setting: Setting,
    features: Mapping[str, Any] = _NOTHING_KEPT,
) -> Iterator[tuple[int, Card]]:
    """Each model's place and card with its heatmap, before that how far it is; one that fails takes no other with it.

    Args:
        prints: where the heatmaps can be fetched.
        panel: the models.
        image: the image.
        opinions: what they said of it.
        setting: names the heatmaps' method, and says when nobody waits for them any more.
        features: what `Panel.ask` kept, which spares the models a second look.
    """
    from xray_models import attribution  # torch takes seconds to import

    for index, opinion in enumerate(opinions):
        if opinion.label is None or opinion.model not in panel.checkpoints:  # or it has left the panel since
            yield index, Card(opinion.model, opinion)
            continue
        done = [0.0]

        def step(share: float, done: list[float] = done) -> None:
            setting.check()
            done[0] = share

        member, kept = panel.checkpoints[opinion.model], features.get(opinion.model)
        asked = (member, image, opinion.label, setting.method, kept, step)
        try:
            drawing = WORKERS.start(functools.partial(attribution.explain, *asked))
            while not wait([drawing], _PAUSE).done:
                yield index, Card(opinion.model, opinion, layer_note=f"drawing {100 * done[0]:.0f} %")
            heatmap = drawing.result()
        except OvertakenError:
            raise
        except Exception as error:  # noqa: BLE001 - the edge: one heatmap must not stop the others
            _log.warning("no heatmap of %s: %s", opinion.model, error)
            yield index, Card(opinion.model, opinion, layer_note=f"no heatmap: {error}")
            continue
        thumb, values = prints.offer(renders.draw_layer(heatmap)), prints.offer(renders.draw_map(heatmap))
        layer = Layer(thumb, values, setting.method, heatmap.signed)
        yield index, Card(opinion.model, opinion, layer)
