"""A report as Markdown, for a repository or a pull request; its plots are the PNG files beside it."""

from __future__ import annotations

import re

from evaluation.document import Block, Cell, Facts, Figures, Gallery, Grid, Paragraph, Picture, Report


def render_markdown(report: Report) -> str:
    """Sets a report as GitHub-flavoured Markdown, without thumbnails.

    Args:
        report: what it says.

    Returns:
        The text; the same report gives the same bytes.
    """
    tiles = Grid("", ("", "", ""), tuple((tile.name, tile.value, tile.small) for tile in report.tiles))
    lines = [
        f"# {_escape(report.title)}: evaluation",
        _escape(report.lead),
        "\n".join(f"- {_escape(sentence)}" for sentence in report.words),
        *(f"> {_escape(text)}" for text in report.warnings),
        f"**{_escape(report.notice)}**",
        _grid(tiles),
    ]
    for section in report.sections:
        lines.append(f"## {_escape(section.title)}")
        lines += [_block(block) for block in section.blocks]
    return "\n\n".join(line for line in lines if line) + "\n"


def _block(block: Block) -> str:
    if isinstance(block, Paragraph):
        return _escape(block.text)
    if isinstance(block, Grid):
        return f"{_escape(block.caption)}\n\n{_grid(block)}"
    if isinstance(block, Figures):
        titles = _escape(", ".join(plot.title for plot in block.plots))
        return f"{_escape(block.note)}\n\n![{titles}]({block.name}.png)".strip()
    if isinstance(block, Gallery):
        return "\n\n".join([_escape(block.note), *map(_picture, block.pictures)]).strip()
    assert isinstance(block, Facts)
    return "\n".join(f"- {_escape(key)}: {_escape(value)}" for key, value in block.pairs)


def _grid(grid: Grid) -> str:
    rows = [grid.heads, *grid.rows]
    lines = ["| " + " | ".join(map(_cell, row)) + " |" for row in rows]
    return "\n".join([lines[0], "|---" * len(grid.heads) + "|", *lines[1:]])


def _cell(cell: str | Cell) -> str:
    if isinstance(cell, str):
        return _escape(cell)
    return _escape(f"{cell.text} ({cell.small})" if cell.small else cell.text)


def _picture(picture: Picture) -> str:
    said = "; ".join(f"{line.who}: {line.said} {line.share}".strip() for line in picture.lines)
    return f"- {_escape(picture.image)}. {_escape(picture.title)}. {_escape(said)}"


def _escape(text: str) -> str:
    """Keeps a name from being read as Markdown or HTML, and a line from being broken."""
    return re.sub(r"([\\`*_\[\]<>|#])", r"\\\1", " ".join(str(text).split()))
