"""What the page shows, as HTML: pure functions of readings. Every text from outside is escaped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import NamedTuple

from xray_models.architectures import ARCHITECTURES
from xray_models.map_words import MapNote
from xray_models.methods import TITLES
from xray_models.readings import Opinion, Reading
from xray_models.tasks import Task

GUEST = " (not signed in)"
"""After the name of a reader who only typed it, where readers can sign in: anybody can type a colleague's."""
LIKE, UNLIKE = "like the training images", "unlike the training images"
_OF_SET = "Set so that on 9 of 10 validation images the right one is among them; for test images see the model’s card."
_OF_SETS = "Labels that at least one model does not rule out."
_OF_METER = "How far the models’ probabilities lie apart: 0 where all agree, 1 where each is sure of another label."
SEEN = '<p class="sr-first">Read openly: you have seen what the panel says of this image.</p>'


class Layer(NamedTuple):
    """A heatmap on its way to the page.

    Attributes:
        thumb: address of the transparent layer for the card, from `prints.Prints.offer`.
        values: address of the map's own values as grey levels for the viewer.
        method: a key of `attribution.METHODS`.
        signed: whether it has values against the label.
    """

    thumb: str
    values: str
    method: str
    signed: bool


class Card(NamedTuple):
    """One model's place on the page: its opinion and heatmap, each None until it is there.

    Attributes:
        model: its name in the panel.
        opinion: what it said.
        layer: its heatmap.
        layer_note: why there is no heatmap, or not yet.
        waits_for: what has to come before its opinion.
        note: what its heatmaps were found to be worth; None where nobody looked.
    """

    model: str
    opinion: Opinion | None = None
    layer: Layer | None = None
    layer_note: str = ""
    waits_for: str = "an image"
    note: MapNote | None = None


def title_of(model: str) -> str:
    """A model's name as people read it."""
    return ARCHITECTURES[model].title if model in ARCHITECTURES else model


def plain(label: str) -> str:
    """A label as people read it."""
    return escape(label.replace("_", " "))


def render_reader(name: str) -> str:
    """A reader's name, which no language changes; that it was only typed is said in the page's."""
    own = name.removesuffix(GUEST)
    return f'<bdi translate="no">{escape(own)}</bdi>{GUEST if own != name else ""}'


def render_error(message: str, lead: str = "Not read.") -> str:
    """What went wrong, in the reader's words."""
    return f'<div class="sr-error" role="alert"><b>{escape(lead)}</b> {escape(message)}</div>'


def render_cards(cards: Sequence[Card], image: str = "", aspect: float = 1.0) -> str:
    """All models side by side.

    Args:
        cards: one a model.
        image: address of the image's thumbnail, shown under each heatmap.
        aspect: its width over its height.
    """
    style = f"--image:url({image});--aspect:{aspect:.4f}" if image else ""
    return f'<div class="sr-cards" style="{style}">{"".join(_render_card(card) for card in cards)}</div>'


def _render_card(card: Card) -> str:
    state, body = "waiting", f'<p class="sr-state">waits for {escape(card.waits_for)}</p>'
    if card.opinion is None:
        if card.layer_note:
            state, body = "thinking", f'<p class="sr-state">{escape(card.layer_note)}</p>'
    elif card.opinion.status != "ok":
        state = "unavailable"
        body = f'<p class="sr-state"><b>Unavailable</b>: {escape(card.opinion.reason or "no reason given")}</p>'
    else:
        state, body = "ok", _render_opinion(card.opinion)
    name = escape(title_of(card.model))
    known = f'data-model="{escape(card.model)}"{_render_data(card)}'
    return (
        f'<article class="sr-card sr-{state}" aria-label="{name}" {known}>'
        f"<header><h2>{_render_name(card.model)}</h2>{_render_tag(card.opinion)}</header>"
        f'{_render_map(card, name)}<div class="sr-words">{body}</div></article>'
    )


def _render_name(model: str) -> str:
    """A model's name, which opens its card on the page of the models."""
    name = escape(title_of(model))
    what = f'data-action="card" data-key="{escape(model)}" title="Show the card of {name}"'
    return f'<button type="button" class="sr-about" {what}>{name}</button>'


def _render_data(card: Card) -> str:
    """What the viewer asks of a card whose heatmap is there."""
    if card.layer is None or card.opinion is None:
        return ""
    facts = {
        "title": title_of(card.model),
        "label": (card.opinion.label or "").replace("_", " "),
        "method": TITLES[card.layer.method],
        "signed": str(card.layer.signed).lower(),
        "note": card.note.short if card.note else "",
        "map": card.layer.values,
    }
    return "".join(f' data-{key}="{escape(value)}"' for key, value in facts.items())


def _render_map(card: Card, name: str) -> str:
    if card.layer is None:
        return f'<div class="sr-map"><span class="sr-layer-note">{escape(card.layer_note)}</span></div>'
    doubt = ""
    if card.note and not card.note.faithful:
        doubt = f'<span class="sr-doubt" role="img" aria-label="Doubtful" title="{escape(card.note.text)}">!</span>'
    about = f"Show this heatmap on the image. {escape(card.note.text if card.note else '')}".strip()
    return (
        f'<button type="button" class="sr-map sr-show" aria-pressed="false" title="{about}">'
        f'<img class="sr-layer" alt="Heatmap of {name}: show it on the image" src="{escape(card.layer.thumb)}" '
        f'decoding="sync">{doubt}</button>'
    )


def _render_opinion(opinion: Opinion) -> str:
    label = f'<p class="sr-label">{plain(opinion.label or "")}</p>'
    about = f"Labels that the model does not rule out. {_OF_SET}"
    return f"{label}{render_bars(opinion.probs or {}, opinion.label)}{_render_set(opinion.prediction_set, about)}"


def _render_set(kept: Sequence[str] | None, about: str) -> str:
    """The labels that are not ruled out; None where that is not known. `about` says what that means."""
    said = f"Not ruled out: {', '.join(map(plain, kept))}" if kept else "No label is clear enough"
    return f'<p title="{about}" class="sr-set">{"" if kept is None else said}</p>'


def _render_tag(opinion: Opinion | None) -> str:
    """Beside the model's name, read before any label: in distribution or not; its title says the time."""
    if opinion is None or opinion.status != "ok":
        return ""
    taken = opinion.milliseconds or 0
    about = f'title="Answered in {"less than 1" if taken < 1 else f"{taken:.0f}"} ms"'
    if opinion.in_distribution is False:
        return f'<span class="sr-tag sr-ood" {about}>{UNLIKE}</span>'
    return f'<span class="sr-tag" {about}>{"likeness not known" if opinion.in_distribution is None else LIKE}</span>'


def render_bars(probs: Mapping[str, float], top: str | None) -> str:
    """Calibrated probabilities as bars, in the task's order."""
    rows = "".join(
        f'<div class="sr-bar{" sr-top" if label == top else ""}"><span>{plain(label)}</span>'
        f'<b>{format_percent(p)}</b><i style="--p:{p:.4f}"></i></div>'
        for label, p in probs.items()
    )
    return f'<div class="sr-bars">{rows}</div>'


def format_percent(p: float) -> str:
    """A probability as people read it, escaped for HTML: no model is certain, and what says 0 or 1 is rounded."""
    return "&lt;1 %" if p < 0.005 else "&gt;99 %" if p >= 0.995 else f"{p:.0%}".replace("%", " %")


def render_sealed(task: Task) -> str:
    """The panel's place while the reader reads first: nothing of it is known here."""
    return (
        '<section class="sr-consensus sr-sealed"><p class="sr-state"><b>Sealed.</b> '
        f"{len(task.models)} models are asked when your own reading is locked.</p></section>"
    )


def render_first(label: str, confidence: float) -> str:
    """The reader's locked reading, above the panel's."""
    return f'<p class="sr-first">Your reading, locked: <b>{plain(label)}</b>, {confidence * 100:.0f} %</p>'


def render_consensus(task: Task, reading: Reading | None, waiting: int = 0, place: int | None = None) -> str:
    """The panel's consensus, votes and disagreement; out of distribution is said before any label.

    Args:
        task: the task.
        reading: the panel's; None until it is there.
        waiting: number of models still to answer.
        place: per cent of the test images on which the panel is less split; None where not known.
    """
    if reading is None or reading.consensus is None:
        if waiting:
            text = f"{waiting} of {len(task.models)} models still to answer"
        else:
            text = "No model answered." if reading else "The consensus of the panel appears here."
        return f'<section class="sr-consensus"><p class="sr-state">{text}</p></section>'
    said = reading.consensus
    warning = _warn(reading)
    odd = f'<p class="sr-ood">{warning}</p>' if warning else ""
    votes = [f"{count} × {plain(label)}" for label, count in said.votes.items()]
    missing = said.asked - said.answered
    left_out = f" · {missing} unavailable, left out" if missing else ""
    level = "agree" if len(said.votes) == 1 else "differ somewhat" if said.disagreement < 0.3 else "disagree"
    sure = format_percent(said.probs[said.label])
    place_said = _say_place(place, len(said.votes) == 1)
    known = any(opinion.prediction_set is not None for opinion in reading.opinions)
    aloud = [warning, f"Consensus: {plain(said.label)}", sure, ", ".join(votes), f"models {level}"]
    return (
        f'<section class="sr-consensus" aria-label="Consensus" data-said="{" · ".join(filter(None, aloud))}">{odd}'
        f'<div><small>Consensus</small><p class="sr-label">{plain(said.label)}</p></div>'
        f"<div><small>Probability</small><p>{sure}</p></div>"
        f'<div class="sr-votes"><small>Votes</small><p>{_keep_whole(votes)}{left_out}</p></div>'
        f'<div class="sr-meter" title="{_OF_METER}"><small>Disagreement <b>{said.disagreement:.2f}</b></small>'
        f'<i style="--p:{said.disagreement:.4f}"></i><p>models {level}{place_said}</p></div>'
        f"{_render_set(said.prediction_set, _OF_SETS) if known else ''}</section>"
    )


def _warn(reading: Reading) -> str:
    """Of an image unlike those that the panel, or some of its models, were trained on."""
    if reading.consensus is not None and reading.consensus.in_distribution is False:
        return "Unlike the training images: do not rely on any label"
    known = [opinion.in_distribution for opinion in reading.opinions if opinion.in_distribution is not None]
    odd = known.count(False)
    return f"Unlike the training images for {odd} of {len(known)} models: do not rely on theirs" if odd else ""


def _say_place(place: int | None, alike: bool) -> str:
    """On what share of the test images the panel is less split, where any: nobody knows of all images."""
    words = "probabilities further apart" if alike else "more split"
    return f" · {words} than on {min(place, 99)}\u00a0% of test images" if place else ""


def _keep_whole(phrases: Sequence[str]) -> str:
    """Phrases with commas between, none of which is broken over two lines."""
    return ", ".join(f"<span>{phrase}</span>" for phrase in phrases)


def render_saved(flag_id: str, label: str, where: str = "") -> str:
    """That a flag is on the disk; `where` is HTML that says where it is besides."""
    return f'<p class="sr-saved" role="status">Saved as <b>{plain(label)}</b> · {escape(flag_id)}{where}</p>'


def render_own(flag_id: str, label: str, where: str = "") -> str:
    """The reader's own flag of an image that is opened again, to be undone; `where` as in `render_saved`."""
    return f'<p class="sr-saved" role="status">Your flag: <b>{plain(label)}</b> · {escape(flag_id)}{where}</p>'
