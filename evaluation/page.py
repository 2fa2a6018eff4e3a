"""A report as one HTML file that needs nothing around it, on a screen, on a phone and on paper."""

from __future__ import annotations

import base64
import html
import re
from collections.abc import Mapping
from pathlib import Path

from evaluation.document import (
    Block,
    Cell,
    Facts,
    Figures,
    Gallery,
    Grid,
    Line,
    Paragraph,
    Picture,
    Report,
    Section,
)
from evaluation.plots import render_svg
from evaluation.predictions import CONSENSUS

_WIDE = 3.6  # inches from which on a plot is too wide for a quarter of the page


def render_page(report: Report, thumbnails: Mapping[str, bytes]) -> str:
    """Sets a report as HTML.

    Args:
        report: what it says.
        thumbnails: small JPEG pictures by image, for those of `report.images` that have one.

    Returns:
        The page; the same report gives the same bytes.
    """
    style = Path(__file__).with_name("report.css").read_text(encoding="utf-8")
    contents = "".join(
        f'<li><a href="#{_anchor(section.title)}">{_escape(section.title)}</a></li>' for section in report.sections
    )
    sections = "\n".join(_section(section, thumbnails) for section in report.sections)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{_escape(report.title)}: evaluation</title>\n<style>\n{style}</style>\n</head>\n<body>\n"
        f'{_header(report)}\n<nav aria-label="Sections"><ol>{contents}</ol></nav>\n{sections}'
        f"\n<footer><p><strong>{_escape(report.notice)}</strong></p></footer>\n</body>\n</html>\n"
    )


def _header(report: Report) -> str:
    tiles = "".join(
        f"<div><dt>{_escape(tile.name)}</dt><dd>{_escape(tile.value)}<small>{_escape(tile.small)}</small></dd></div>"
        for tile in report.tiles
    )
    words = "".join(f"<li>{_escape(sentence)}</li>" for sentence in report.words)
    warnings = "".join(f'<p class="warning">{_escape(text)}</p>' for text in report.warnings)
    return (
        f'<header><p class="eyebrow">Second Read, evaluation</p>\n<h1>{_escape(report.title)}</h1>\n'
        f'<p class="lead">{_escape(report.lead)}</p>\n<ul class="findings">{words}</ul>\n{warnings}'
        f'<p class="note">{_escape(report.notice)}</p>\n<dl class="facts">{tiles}</dl></header>'
    )


def _section(section: Section, thumbnails: Mapping[str, bytes]) -> str:
    blocks = "\n".join(_block(block, section.title, thumbnails) for block in section.blocks)
    return f'<section id="{_anchor(section.title)}"><h2>{_escape(section.title)}</h2>\n{blocks}</section>'


def _block(block: Block, title: str, thumbnails: Mapping[str, bytes]) -> str:
    if isinstance(block, Paragraph):
        kind = f' class="{block.kind}"' if block.kind else ""
        return f"<p{kind}>{_escape(block.text)}</p>"
    if isinstance(block, Grid):
        return _grid(block)
    if isinstance(block, Figures):
        return _figures(block, title)
    if isinstance(block, Gallery):
        pictures = "".join(_picture(picture, thumbnails) for picture in block.pictures)
        return f'{_note(block.note)}<div class="cases">{pictures}</div>'
    return _facts(block)


def _grid(grid: Grid) -> str:
    head = "".join(f'<th scope="col">{_head(text)}</th>' for text in grid.heads)
    body = "".join(
        f"<tr{' class=consensus' if row[0] == CONSENSUS else ''}>"
        f'<th scope="row">{_cell(row[0])}</th>{"".join(f"<td>{_cell(cell)}</td>" for cell in row[1:])}</tr>'
        for row in grid.rows
    )
    table = (
        f'<div class="scroll" tabindex="0"><table class="{grid.kind}">'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )
    caption = _escape(grid.caption)
    if grid.folded:
        return f'<details><summary class="note">{caption}</summary>{table}</details>'
    return f'<p class="note above">{caption}</p>{table}'


def _head(text: str) -> str:
    """A column's head; its count stays on one line."""
    return _escape(text).replace("n = ", "n&nbsp;=&nbsp;")


def _cell(cell: str | Cell) -> str:
    if isinstance(cell, str):
        return _escape(cell)
    return _escape(cell.text) + (f"<small>{_escape(cell.small)}</small>" if cell.small else "")


def _figures(figures: Figures, title: str) -> str:
    several = len(figures.plots) > 1
    kind = "" if several and figures.plots[0].size[0] < _WIDE else " wide"
    drawn = "".join(
        f"<figure>{f'<h3>{_escape(plot.title)}</h3>' if several else ''}"
        f'<div role="img" aria-label="{_escape(title)}: {_escape(plot.title)}">{render_svg(plot)}</div></figure>'
        for plot in figures.plots
    )
    return f'{_note(figures.note)}<div class="plots{kind}">{drawn}</div>'


def _picture(picture: Picture, thumbnails: Mapping[str, bytes]) -> str:
    found = thumbnails.get(picture.image)
    shown = ""
    if found is not None:
        shown = f'<img alt="" src="data:image/jpeg;base64,{base64.b64encode(found).decode()}">'
    lines = "".join(_line(line) for line in picture.lines)
    return (
        f'<article class="case{"" if shown else " bare"}">{shown}<div><p class="file">{_escape(picture.image)}</p>'
        f'<p class="truth">{_escape(picture.title)}</p><dl>{lines}</dl></div></article>'
    )


def _line(line: Line) -> str:
    said = f'<dd class="{line.mark}">{_escape(line.said)}</dd>'
    return f'<dt>{_escape(line.who)}</dt>{said}<dd class="share">{_escape(line.share)}</dd>'


def _facts(facts: Facts) -> str:
    lines = "".join(f"<dt>{_escape(key)}</dt><dd>{_escape(value)}</dd>" for key, value in facts.pairs)
    return f'<dl class="about">{lines}</dl>'


def _note(text: str) -> str:
    return f'<p class="note">{_escape(text)}</p>' if text else ""


def _anchor(title: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")


def _escape(text: object) -> str:
    """Text for a page; a number and its percent sign stay on one line."""
    return re.sub(r"(?<=\d) (?=%)", "&nbsp;", html.escape(str(text)))
