"""Readings as one HTML file: every image with each model's opinion and heatmap. Nothing of the patient is in it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from html import escape
from pathlib import Path
from typing import TextIO

from PIL import Image

from xray_models.attribution import DEFAULT, TITLES, explain
from xray_models.batches import first_line
from xray_models.images import Radiograph, to_display
from xray_models.overlays import lay_over, to_uri
from xray_models.panel import Panel
from xray_models.readings import Opinion, Reading
from xray_models.tasks import TaskError

_PICTURE, _MAP = 640, 360  # pixels of the longer side
_STYLE = """
:root { color-scheme: light dark; --line: #8886; --bar: #35ab9866; --bad: #b3261e; }
@media (prefers-color-scheme: dark) { :root { --bad: #ff8a80; } }
body { margin: 2rem auto; max-width: 75rem; padding: 0 1rem; font: 15px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.5rem; margin: 0; } h2 { font-size: 1.1rem; margin: 0 0 .5rem; } h3 { font-size: 1rem; margin: 0; }
article { margin-top: 2rem; padding-top: 1.5rem; border-top: 1px solid var(--line); break-inside: avoid; }
.image { display: grid; gap: 1.5rem; grid-template-columns: minmax(0, 2fr) minmax(0, 3fr); }
.models { display: grid; gap: 1.25rem; grid-template-columns: repeat(auto-fill, minmax(min(100%, 13rem), 1fr)); }
@media (max-width: 50rem) { .image { grid-template-columns: minmax(0, 1fr); } }
img { display: block; width: 100%; height: auto; background: #000; }
.bar { position: relative; isolation: isolate; display: flex; justify-content: space-between; }
.bar { padding: 0 .35rem; font-size: .85rem; }
.bar i { position: absolute; inset: 1px auto 1px 0; width: calc(100% * var(--p)); background: var(--bar); z-index: -1; }
.bad { color: var(--bad); font-weight: 600; } small, .quiet { font-size: .85rem; opacity: .8; } p { margin: .25rem 0; }
"""
_ABOUT = (
    "For research and teaching; not a medical device. A heatmap shows what moved a model’s score, not where disease "
    "is. Images are numbered as they were given; their files’ names are left out, since they may name a patient."
)

_FAMILIAR = {  # by `Opinion.in_distribution`
    True: "",
    False: '<p class="bad">Unlike the training images</p>',
    None: '<p class="quiet">Likeness to the training images not known</p>',
}


class ReadingReport:
    """Writes the report image by image, so that a long list takes no memory.

    Args:
        file: open for text.
        panel: the panel that reads.
    """

    def __init__(self, file: TextIO, panel: Panel):
        self._file, self._panel, self._count = file, panel, 0
        title = escape(panel.task.title)
        file.write(
            '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
            f"<title>{title}: readings</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
            f'<h1>{title}</h1>\n<p class="quiet">{_ABOUT}</p>\n'
        )

    def read(self, image: Radiograph) -> Reading:
        """Reads an image and writes what the panel says; returns the reading."""
        features: dict = {}
        reading = self._panel.collect(image, list(self._panel.ask(image, features)))
        cards = "".join(self._render_opinion(image, opinion, features) for opinion in reading.opinions)
        self._count += 1
        warnings = "".join(f'<p class="bad">{escape(text)}</p>' for text in reading.image["warnings"])
        picture = to_uri(Image.fromarray(to_display(image, _PICTURE)), "JPEG")
        bits = image.bits if image.stored is None else image.stored.bits
        facts = f"{image.format}, {image.pixels.shape[1]} × {image.pixels.shape[0]} pixels, {bits} bit"
        self._file.write(
            f'<article>\n<h2>Image {self._count}</h2>\n<div class="image">\n<div><img src="{picture}" '
            f'alt="Image {self._count}"><small>{escape(facts)} · {image.sha256[:12]}</small>{warnings}'
            f"{_render_consensus(reading)}</div>\n"
            f'<div class="models">{cards}</div>\n</div>\n</article>\n'
        )
        return reading

    def note_unread(self, reason: str) -> None:
        """Writes that an image could not be read, and why."""
        self._count += 1
        self._file.write(
            f'<article>\n<h2>Image {self._count}</h2><p class="bad">Not read: {escape(reason)}</p></article>\n'
        )

    def _render_opinion(self, image: Radiograph, opinion: Opinion, features: dict) -> str:
        head = f"<section><h3>{escape(opinion.model)}</h3>"
        if opinion.probs is None or opinion.label is None:
            return f'{head}<p class="bad">Unavailable: {escape(opinion.reason or "no reason given")}</p></section>'
        odd = _FAMILIAR[opinion.in_distribution]
        kept = opinion.prediction_set
        sets = "" if kept is None else f"<small>{_say_set(kept)}</small>"
        drawn = self._render_map(image, opinion, features)
        return f"{head}{odd}<p><b>{_plain(opinion.label)}</b></p>{_render_bars(opinion.probs)}{sets}{drawn}</section>"

    def _render_map(self, image: Radiograph, opinion: Opinion, features: dict) -> str:
        label = opinion.label or ""
        try:
            checkpoint = self._panel.checkpoints[opinion.model]
            heatmap = explain(checkpoint, image, label, DEFAULT, features.get(opinion.model))
        except (RuntimeError, ValueError) as error:
            return f'<p class="bad">No heatmap: {escape(first_line(error))}</p>'
        about = f"{TITLES[heatmap.method]} of {opinion.model} for {label.replace('_', ' ')}"
        picture = to_uri(lay_over(image, heatmap, _MAP), "JPEG")
        return f'<img src="{picture}" alt="{escape(about)}"><small>{escape(about)}</small>'


@contextmanager
def writing_report(path: Path, panel: Panel) -> Iterator[ReadingReport]:
    """Opens a report that takes its place when it is whole.

    Args:
        path: the file, `.html`; one that is there is replaced.
        panel: the panel that reads.

    Raises:
        TaskError: as `check_path` does.
        OSError: when it cannot be written.
    """
    check_path(path)
    draft = path.with_name(f".{path.name}.{os.getpid()}.draft")
    try:
        with draft.open("w", encoding="utf-8") as file:
            yield ReadingReport(file, panel)
            file.write("</body>\n</html>\n")
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def check_path(path: Path) -> None:
    """Raises `TaskError` where a report cannot be: under another ending, which might be an image, or in no folder."""
    if path.suffix.lower() not in (".html", ".htm"):
        raise TaskError(f"--report is {str(path)!r}; the report is an HTML file: give a name that ends in .html.")
    if path.is_dir():
        raise TaskError(f"--report is {str(path)!r}, which is a folder; give the name of a file in it.")
    if not os.access(path.parent, os.W_OK):
        known = "cannot be written to" if path.parent.is_dir() else "is no folder"
        raise TaskError(f"--report is {str(path)!r}, but {str(path.parent)!r} {known}; give a file in another folder.")


def _render_consensus(reading: Reading) -> str:
    said = reading.consensus
    if said is None:
        return '<p class="bad">No model answered.</p>'
    odd = ""
    if said.in_distribution is False:
        odd = '<p class="bad">Unlike the training images: do not rely on any label.</p>'
    missing = said.asked - said.answered
    facts = [
        ", ".join(f"{count} × {_plain(label)}" for label, count in said.votes.items()),
        *([f"{missing} unavailable, left out"] if missing else []),
        f"disagreement {said.disagreement:.2f}",
        *([_say_set(said.prediction_set)] if said.prediction_set is not None else []),
    ]
    head = f"{odd}<h3>Consensus: {_plain(said.label)}</h3>"
    return f"{head}{_render_bars(said.probs)}<p><small>{' · '.join(facts)}</small></p>"


def _render_bars(probs: dict[str, float]) -> str:
    return "".join(
        f'<div class="bar" style="--p:{p:.4f}"><i></i><span>{_plain(label)}</span><span>{p:.3f}</span></div>'
        for label, p in probs.items()
    )


def _say_set(kept: tuple[str, ...]) -> str:
    return f"Not ruled out: {', '.join(map(_plain, kept))}" if kept else "No label is clear enough"


def _plain(label: str) -> str:
    return escape(label.replace("_", " "))
