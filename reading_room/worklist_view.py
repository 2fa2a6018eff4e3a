"""What the worklist page shows, as HTML: pure functions of a list. Every text from outside is escaped."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import NamedTuple

from reading_room import tables
from reading_room.cards import LIKE, UNLIKE, format_percent, plain, render_reader
from reading_room.worklist import DIFFER, Progress, Row, Worklist, choose_rows

PAGE = 40  # rows on one page
_STATES = {
    "waiting": "Waits until another list is read",
    "reading": "Reading",
    "watching": "Watching for files",
    "full": "The list is full, no more files are taken",
    "done": "All read",
    "cancelled": "Cancelled",
    "stopped": "Stopped by an error; what is there stays",
}


class Choice(NamedTuple):
    """What the reader chose to see.

    Attributes:
        show: a filter of `worklist.choose_rows`.
        order: an order of it.
        page: page of the table, the first is 0.
        opened: number of the case opened last, 0 for none.
    """

    show: str = "all"
    order: str = "doubt"
    page: int = 0
    opened: int = 0


class Drawn(NamedTuple):
    """A list as the page shows it: HTML of its progress, its table, which rows these are, and the page they are on.

    And the sha256 of every image whose reading is on that page.
    """

    progress: str
    table: str
    place: str
    page: int
    images: tuple[str, ...] = ()


def list_filters(labels: Sequence[str]) -> list[tuple[str, str]]:
    """The filters of the page, as people read them and as `choose_rows` takes them."""
    general = [
        ("All cases", "all"),
        ("The models differ", "differ"),
        ("Unlike the training images", "odd"),
        ("Flagged", "flagged"),
        ("Not flagged", "unflagged"),
        ("Not read", "unread"),
    ]
    return general + [(f"Consensus: {label.replace('_', ' ')}", f"label:{label}") for label in labels]


ORDERS = [
    ("Doubt, most first", "doubt"),
    ("Disagreement, most first", "disagreement"),
    ("Case number", "number"),
    ("Consensus", "consensus"),
]


def draw_list(
    found: Worklist | None,
    title: str,
    flagged: Mapping[str, Sequence[str]],
    choice: Choice,
    opens: bool,
    offer: Callable[[bytes], str],
) -> Drawn:
    """Draws a list.

    Args:
        found: the list, or None where there is none.
        title: of its task.
        flagged: readers who flagged an image, by sha256.
        choice: what to show of it.
        opens: whether rows have a button that opens the case.
        offer: makes a thumbnail fetchable and returns its address, as `prints.Prints.offer` does.
    """
    if found is None:
        empty = '<p class="sr-none">No list yet. Send images, a folder of images, or a zip of them.</p>'
        return Drawn("", empty, "", 0)
    rows = choose_rows(found.rows, flagged, choice.show, choice.order)
    page = tables.shift_page(choice.page, 0, len(rows), PAGE)
    waits = found.active and not found.rows
    none = f'<p class="sr-none">{"Reading the first images …" if waits else "No case fits this filter."}</p>'
    part = rows[page * PAGE : (page + 1) * PAGE]
    return Drawn(
        render_progress(found.progress(), title, found.aside),
        _render_rows(part, flagged, opens, choice.opened, offer) if rows else none,
        tables.render_place(page, PAGE, len(rows)),
        page,
        tuple(row.sha256 for row in part if row.reading),
    )


def render_progress(now: Progress, title: str, aside: int = 0) -> str:
    """How far a list is, for eyes and screen readers."""
    left = f" · {_render_seconds(now.seconds_left)} left" if now.seconds_left is not None else ""
    hidden = f" · {aside} hidden file{'s' * (aside > 1)} left aside" if aside else ""
    text = f"{escape(title)} · {_STATES[now.state]}: {now.done} of {now.total}{left}{hidden}"
    return (
        f'<div class="sr-progress sr-progress-{now.state}"><p role="status">{text}</p>'
        f'<progress max="{now.total}" value="{now.done}" aria-label="files read">{now.done} of {now.total}</progress>'
        "</div>"
    )


def _render_seconds(seconds: float) -> str:
    if seconds < 90:
        return f"about {max(1, round(seconds))} s"
    return f"about {round(seconds / 60)} min"


def _render_rows(
    rows: Sequence[Row], flagged: Mapping[str, Sequence[str]], opens: bool, opened: int, offer: Callable[[bytes], str]
) -> str:
    columns = ["Image", "Case", "Consensus", "Disagreement", "Likeness", "Flagged by"] + ["Open"] * opens
    body = [
        tables.Row(_render_cells(row, flagged.get(row.sha256, ()), opens, offer), str(row.number), row.number == opened)
        for row in rows
    ]
    return tables.render_table(columns, body, "Cases of this list", "sr-worklist")


def _render_cells(row: Row, readers: Sequence[str], opens: bool, offer: Callable[[bytes], str]) -> list[str]:
    said = row.consensus
    address = offer(row.thumbnail) if row.thumbnail else ""
    picture = f'<img src="{escape(address)}" alt="case {row.number}" decoding="sync">' if address else "–"
    twin = f'<small class="sr-quiet">same picture as {row.twin}</small>' if row.twin else ""
    button = [tables.render_button("open", str(row.number), "Open", f"Open case {row.number}") if row.sha256 else "–"]
    if said is None:
        problem = f"{tables.render_mark('Not read', 'bad')} {escape(row.problem)}"
        return [picture, f"<b>{row.number}</b>", problem, "–", "–", "–", *button * opens]
    sure = format_percent(said.probs[said.label])
    left_out = f"<small class='sr-quiet'>{said.asked - said.answered} unavailable</small>"
    return [
        picture,
        f"<b>{row.number}</b>{twin}",
        f"<b>{plain(said.label)}</b> {sure}{left_out if said.asked > said.answered else ''}",
        f"{render_disagreement(said.disagreement)}<small class='sr-quiet'>doubt {said.doubt:.2f}</small>",
        _render_likeness(said.in_distribution),
        ", ".join(map(render_reader, readers)) or "–",
        *button * opens,
    ]


def render_disagreement(value: float) -> str:
    """A disagreement in [0, 1] as a figure, a bar, and a word where the models differ."""
    word = tables.render_mark("differ", "warn") if value >= DIFFER else ""
    return f'<span class="sr-amount">{value:.2f}<i style="--p:{value:.4f}"></i></span>{word}'


def _render_likeness(like: bool | None) -> str:
    if like is None:
        return tables.render_mark("not known", "quiet")
    return tables.render_mark(LIKE, "good") if like else tables.render_mark(UNLIKE, "warn")


def list_steps(found: Worklist | None, flagged: Mapping[str, Sequence[str]], show: str, order: str) -> list[int]:
    """Numbers of a list's cases that can be opened, as the table shows them; none where there is no list."""
    return [row.number for row in choose_rows(found.rows, flagged, show, order) if row.sha256] if found else []


def find_step(numbers: Sequence[int], number: int | None, place: int, step: int) -> int | None:
    """The case before or after another.

    Args:
        numbers: from `list_steps`.
        number: of the case to step from; None for none, then the first comes next.
        place: where that case stood when it was opened. It counts where the case is not among `numbers` any more (its
            flag, say, takes it out of the unflagged ones): then the next one has moved up into its place.
        step: -1 or 1.

    Returns:
        The number; None where there is none.
    """
    if number in numbers:
        place = numbers.index(number) + step
    elif step < 0:
        place = min(place, len(numbers)) - 1
    return numbers[place] if 0 <= place < len(numbers) else None


def render_step(numbers: Sequence[int], number: int | None, sha256: str) -> str:
    """Which case of the list the first page shows; "" where there is no case to step to.

    Args:
        numbers: from `list_steps`.
        number: of the case opened last, or None.
        sha256: of its image, by which the page knows whether it still shows it.
    """
    if not numbers:
        return ""
    every = f"{len(numbers)} case{'s' * (len(numbers) > 1)}"
    if number is None:
        here = every
    elif number in numbers:
        here = f"Case {number} · {numbers.index(number) + 1} of {len(numbers)}"
    else:
        here = f"Case {number} · {len(numbers)} other{'s' * (len(numbers) > 1)}"
    return (
        f'<p class="sr-step" role="status" data-sha256="{escape(sha256)}"><span class="sr-here">{here}</span>'
        f"<span hidden>{every}</span></p>"
    )
