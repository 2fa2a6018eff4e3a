"""What a report says, apart from how it is set: sections of text, tables, figures, pictures and facts.

Every analysis gives a `Section`; `page.render_page` sets a report as HTML, `markdown.render_markdown` as Markdown. All
text is plain.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from matplotlib.axes import Axes


class Plot(NamedTuple):
    """One set of axes: what it shows, how it is drawn, its width and height in inches."""

    title: str
    draw: Callable[[Axes], None]
    size: tuple[float, float] = (3.0, 2.9)


class Paragraph(NamedTuple):
    """Running text; `kind` is "", "lead", "note" or "warning"."""

    text: str
    kind: str = ""


class Cell(NamedTuple):
    """A cell of a table: what it says, and in small type below, as a rule its interval."""

    text: str
    small: str = ""


Row = tuple[str | Cell, ...]


class Grid(NamedTuple):
    """A table.

    Attributes:
        caption: one sentence above it.
        heads: of all columns, the first too.
        rows: as many cells as heads each; the first is the row's name.
        kind: "" for figures, "words" where the cells are sentences.
        folded: whether only its caption shows until it is asked for; on paper it always shows.
    """

    caption: str
    heads: tuple[str, ...]
    rows: tuple[Row, ...]
    kind: str = ""
    folded: bool = False


class Figures(NamedTuple):
    """Plots of one kind side by side, also written to `<name>.png`."""

    name: str
    plots: tuple[Plot, ...]
    note: str = ""


class Line(NamedTuple):
    """One voice on an image: who, what it said, how sure (or ""), and "right", "wrong" or ""."""

    who: str
    said: str
    share: str = ""
    mark: str = ""


class Picture(NamedTuple):
    """An image of the data set (its name in the manifest) with what is said about it."""

    image: str
    title: str
    lines: tuple[Line, ...] = ()


class Gallery(NamedTuple):
    """Images to look at."""

    pictures: tuple[Picture, ...]
    note: str = ""


class Facts(NamedTuple):
    """Names and what they stand for."""

    pairs: tuple[tuple[str, str], ...]


Block = Paragraph | Grid | Figures | Gallery | Facts


class Section(NamedTuple):
    """A heading and what stands below it."""

    title: str
    blocks: tuple[Block, ...]


class Tile(NamedTuple):
    """One of the few numbers that stand first."""

    name: str
    value: str
    small: str


class Report(NamedTuple):
    """A whole report: the answer in words, the numbers that matter most, and the sections."""

    title: str
    lead: str
    words: tuple[str, ...]
    warnings: tuple[str, ...]
    notice: str
    tiles: tuple[Tile, ...]
    sections: tuple[Section, ...]

    @property
    def figures(self) -> tuple[Figures, ...]:
        """Every set of plots in it."""
        return tuple(block for section in self.sections for block in section.blocks if isinstance(block, Figures))

    @property
    def images(self) -> tuple[str, ...]:
        """Every image that it shows, once."""
        shown = (
            picture.image
            for section in self.sections
            for block in section.blocks
            if isinstance(block, Gallery)
            for picture in block.pictures
        )
        return tuple(dict.fromkeys(shown))
