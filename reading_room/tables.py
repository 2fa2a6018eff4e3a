"""Tables that stay readable on a phone: rows become cards there, each cell under its own heading. Pure HTML."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import NamedTuple


class Row(NamedTuple):
    """One row of a table.

    Attributes:
        cells: HTML, escaped already, one a column.
        key: what a script finds the row by, or "".
        chosen: whether it is the row that is shown beside the table.
    """

    cells: Sequence[str]
    key: str = ""
    chosen: bool = False


def render_table(columns: Sequence[str], rows: Sequence[Row], caption: str, kind: str = "") -> str:
    """Sets a table.

    Roles are written out, since browsers drop them where CSS turns rows into cards.

    Args:
        columns: headings as plain text; "" for a column that needs none.
        rows: the rows.
        caption: what the table holds, for screen readers and above it.
        kind: CSS class of its own.
    """
    heads = "".join(f'<th role="columnheader" scope="col">{escape(name)}</th>' for name in columns)
    body = "".join(_render_row(columns, row) for row in rows)
    return (
        f'<table class="sr-table {escape(kind)}" role="table"><caption>{escape(caption)}</caption>'
        f'<thead role="rowgroup"><tr role="row">{heads}</tr></thead><tbody role="rowgroup">{body}</tbody></table>'
    )


def _render_row(columns: Sequence[str], row: Row) -> str:
    cells = "".join(
        f'<td role="cell" data-head="{escape(name)}"><div>{cell}</div></td>'
        for name, cell in zip(columns, row.cells, strict=True)
    )
    chosen = ' aria-current="true"' if row.chosen else ""
    return f'<tr role="row" data-key="{escape(row.key)}"{chosen}>{cells}</tr>'


def render_button(action: str, key: str, text: str, about: str) -> str:
    """A button inside a table, which `ON_LOAD` turns into gradio's click event.

    Args:
        action: what it does, a word.
        key: of which row.
        text: what it says.
        about: what it says to a screen reader.
    """
    return (
        f'<button type="button" class="sr-small" data-action="{escape(action)}" data-key="{escape(key)}" '
        f'aria-label="{escape(about)}">{escape(text)}</button>'
    )


def render_mark(text: str, kind: str) -> str:
    """A short word with a sign before it; `kind` is "good", "warn", "bad" or "quiet", and each has its own sign."""
    return f'<span class="sr-mark sr-mark-{escape(kind)}">{escape(text)}</span>'


def shift_page(page: int, step: int, count: int, size: int) -> int:
    """The page `step` further, within those that `count` rows fill (the first is 0)."""
    last = max(0, (count - 1) // size)
    return min(max(page + step, 0), last)


def render_place(page: int, size: int, count: int) -> str:
    """Which rows a page shows; "" where one page holds all."""
    if count <= size:
        return ""
    return f'<span class="sr-place">{page * size + 1} to {min((page + 1) * size, count)} of {count}</span>'


def bring_up(table: str) -> str:
    """A script that scrolls up to where a table begins, for another page of its rows.

    Args:
        table: its selector.
    """
    return f"() => {{ const table = document.querySelector('{table}'); {_BRING_UP} }}"


_BRING_UP = "if (table.getBoundingClientRect().top < 0) table.scrollIntoView({behavior: 'auto'});"
ON_LOAD = """
let held = null;
element.addEventListener('focusin', event => {
  const button = event.target.closest('[data-action]');
  held = button && {action: button.dataset.action, key: button.dataset.key};
});
element.addEventListener('focusout', event => { if (event.relatedTarget) held = null; });
element.addEventListener('click', event => {
  const button = event.target.closest('[data-action]');
  if (button) trigger('click', {action: button.dataset.action, key: button.dataset.key});
});
watch('value', () => {
  if (!held || document.activeElement !== document.body) return;
  const buttons = [...element.querySelectorAll('[data-action]')];
  buttons.find(b => b.dataset.action === held.action && b.dataset.key === held.key)?.focus({preventScroll: true});
});
"""
"""For `gr.HTML(js_on_load=…)`: clicks on buttons become events with `action` and `key`, and a table that is drawn
anew leaves the keyboard where it was."""
