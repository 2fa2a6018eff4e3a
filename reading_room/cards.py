"""What the page shows, as HTML: pure functions of readings. Every text from outside is escaped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import NamedTuple

from xray_models.architectures import ARCHITECTURES
from xray_models.radiograph import Radiograph
from xray_models.readings import Opinion, Reading
from xray_models.tasks import Task

METHOD_TITLES = {
    "grad_cam": "Grad-CAM",
    "integrated_gradients": "Integrated Gradients",
    "occlusion": "Occlusion",
}


class Card(NamedTuple):
    """One model's place on the page: its opinion and heatmap layer, each None until it is there."""

    model: str
    opinion: Opinion | None = None
    layer: str | None = None
    layer_note: str = ""


def title_of(model: str) -> str:
    """A model's name as people read it."""
    return ARCHITECTURES[model].title if model in ARCHITECTURES else model


def plain(label: str) -> str:
    """A label as people read it."""
    return escape(label.replace("_", " "))


def render_viewer(image: Radiograph | None, uri: str = "") -> str:
    """The image, with what is known about it and what went wrong on the way in."""
    if image is None:
        return '<div class="sr-empty">Drop an image above, or draw a synthetic example.</div>'
    height, width = image.pixels.shape
    view = " ".join(str(image.metadata[key]) for key in ("modality", "body_part", "view") if image.metadata.get(key))
    facts = f"{escape(image.format)} · {width} × {height} · {image.bits} bit" + (f" · {escape(view)}" if view else "")
    warnings = "".join(f"<li>{escape(text)}</li>" for text in image.warnings)
    note = f'<ul class="sr-warnings">{warnings}</ul>' if warnings else ""
    return (
        f'<figure class="sr-viewer"><img alt="the image being read" src="{uri}">'
        f"<figcaption>{facts}</figcaption>{note}</figure>"
    )


def render_error(message: str) -> str:
    """What went wrong, in the reader's words."""
    return f'<div class="sr-error" role="alert"><b>Not read.</b> {escape(message)}</div>'


def render_cards(cards: Sequence[Card], image_uri: str = "", aspect: float = 1.0) -> str:
    """All models side by side.

    Args:
        cards: one a model.
        image_uri: the image, shown under each heatmap.
        aspect: its width over its height.
    """
    style = f"--image:url({image_uri});--aspect:{aspect:.4f}" if image_uri else ""
    return f'<div class="sr-cards" style="{style}">{"".join(_render_card(card) for card in cards)}</div>'


def _render_card(card: Card) -> str:
    state, body = "waiting", '<p class="sr-state">waits for an image</p>'
    if card.opinion is None:
        if card.layer_note:
            state, body = "thinking", f'<p class="sr-state">{escape(card.layer_note)}</p>'
    elif card.opinion.status != "ok":
        state = "unavailable"
        body = f'<p class="sr-state"><b>Unavailable</b>: {escape(card.opinion.reason or "no reason given")}</p>'
    else:
        state, body = "ok", _render_opinion(card.opinion)
    layer = f'<img class="sr-layer" alt="heatmap of {escape(card.model)}" src="{card.layer}">' if card.layer else ""
    note = f'<span class="sr-layer-note">{escape(card.layer_note)}</span>' if state == "ok" and not card.layer else ""
    return (
        f'<article class="sr-card sr-{state}" data-model="{escape(card.model)}">'
        f'<div class="sr-map">{layer}{note}</div>'
        f'<div class="sr-words"><header>{escape(title_of(card.model))}</header>{body}</div></article>'
    )


def _render_opinion(opinion: Opinion) -> str:
    odd = '<p class="sr-ood">Unlike its training images</p>' if opinion.in_distribution is False else ""
    kept = opinion.prediction_set
    ruled = ""
    if kept is not None:
        ruled = f"<p class='sr-set'>Not ruled out: {', '.join(map(plain, kept)) or 'none clearly; it is unsure'}</p>"
    return (
        f'{odd}<p class="sr-label">{plain(opinion.label or "")}</p>'
        f"{render_bars(opinion.probs or {}, opinion.label)}"
        f'{ruled}<p class="sr-ms">{_render_time(opinion.milliseconds)}</p>'
    )


def _render_time(milliseconds: float | None) -> str:
    return "&lt;1 ms" if (milliseconds or 0) < 1 else f"{milliseconds:.0f} ms"


def render_bars(probs: Mapping[str, float], top: str | None) -> str:
    """Calibrated probabilities as bars, in the task's order."""
    rows = "".join(
        f'<div class="sr-bar{" sr-top" if label == top else ""}"><span>{plain(label)}</span>'
        f'<b>{_percent(p)}</b><i style="--p:{p:.4f}"></i></div>'
        for label, p in probs.items()
    )
    return f'<div class="sr-bars">{rows}</div>'


def _percent(p: float) -> str:
    return "&lt;1 %" if 0 < p < 0.005 else "&gt;99 %" if 0.995 <= p < 1 else f"{p:.0%}".replace("%", " %")


def render_consensus(task: Task, reading: Reading | None, waiting: int = 0) -> str:
    """The panel's consensus, votes and disagreement; out of distribution is said before any label."""
    if reading is None or reading.consensus is None:
        if waiting:
            text = f"{waiting} of {len(task.models)} models still to answer"
        else:
            text = "No model answered." if reading else "The consensus of the panel appears here."
        return f'<section class="sr-consensus"><p class="sr-state">{text}</p></section>'
    said = reading.consensus
    odd = (
        '<p class="sr-ood">Unlike the training images: do not rely on any label</p>'
        if said.in_distribution is False
        else ""
    )
    votes = ", ".join(f"{count} × {plain(label)}" for label, count in said.votes.items())
    missing = said.asked - said.answered
    left_out = f" · {missing} unavailable, left out" if missing else ""
    level = "agree" if len(said.votes) == 1 else "differ somewhat" if said.disagreement < 0.3 else "disagree"
    return (
        f'<section class="sr-consensus">{odd}'
        f'<div><small>Consensus</small><p class="sr-label">{plain(said.label)}</p></div>'
        f"<div><small>Probability</small><p>{_percent(said.probs[said.label])}</p></div>"
        f"<div><small>Votes</small><p>{votes}{left_out}</p></div>"
        f'<div class="sr-meter"><small>Disagreement</small><i style="--p:{said.disagreement:.4f}"></i>'
        f"<p>{said.disagreement:.2f} <span>the models {level}</span></p></div></section>"
    )


def render_saved(flag_id: str, label: str) -> str:
    """That a flag is on the disk."""
    return f'<p class="sr-saved" role="status">Saved as <b>{plain(label)}</b> · {escape(flag_id)}</p>'
