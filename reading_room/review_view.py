"""What the review page shows, as HTML: pure functions of flags. Every text from outside is escaped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import pandas as pd
from PIL import Image

from reading_room import renders, tables
from reading_room.agreements import Kappa, Switch, draw_agreement
from reading_room.cards import plain, render_bars, render_reader, title_of
from xray_models.flag_record import read_number, read_opinions, read_regions
from xray_models.flags import WITHDRAWN, list_rows
from xray_models.images import Radiograph, to_display

PAGE = 15  # rows on one page
_LONGEST = 896  # pixels of the picture's longer side
_MINUTES_FROM = 120  # seconds
_ABOUT_OPEN = "Open this image in the viewer of the first page, and ask the panel anew"
_BESIDE = 8  # raters whose figures stand beside their plot; of more, the pairs fill pages
NO_FLAG = (
    '<p class="sr-none">There is no flag yet. On the first page, a reader who sees another label than the panel saves '
    "one; it then stands here.</p>"
)
_KINDS = {"open": "quiet", "accepted": "good", "rejected": "bad", "decision": "quiet", "withdrawn": "back"}


def render_flags(flags: pd.DataFrame, page: int, chosen: str = "", titles: Mapping[str, str] | None = None) -> str:
    """A page of the flags, in their order.

    Args:
        flags: those that the filter left, as `review.load_flags` gives them.
        page: the first is 0.
        chosen: id of the flag that is shown beside the table.
        titles: the tasks' titles by name; a task without one is shown by its name.
    """
    if flags.empty:
        return '<p class="sr-none">No flag fits this filter.</p>'
    part = list_rows(flags.iloc[page * PAGE : (page + 1) * PAGE])
    named = [(row, (titles or {}).get(row["task"], row["task"])) for row in part]
    rows = [tables.Row(_render_flag(row, title), row["flag_id"], row["flag_id"] == chosen) for row, title in named]
    columns = ["When (UTC)", "Reader", "Panel", "Flagged as", "Status", "Look"]
    return tables.render_table(columns, rows, f"{_count(flags)}, newest first", "sr-flags")


def _count(flags: pd.DataFrame) -> str:
    """How many of the rows are flags, and how many are decisions on them."""
    decisions = int((flags["decides"] != "").sum())
    counts = ((len(flags) - decisions, "flag"), (decisions, "decision"))
    return " and ".join(f"{count} {word}{'s' * (count != 1)}" for count, word in counts if count)


def _render_flag(row: Mapping[str, Any], title: str) -> list[str]:
    return [
        f"{_render_time(row['created_at'])}<small class='sr-quiet'>{escape(title)}</small>",
        render_reader(row["reader"]),
        plain(row["consensus_label"]) or "–",
        f"<b>{plain(row['corrected_label'])}</b>",
        _render_status(row),
        tables.render_button("look", row["flag_id"], "Look", f"Look at the flag of {row['reader']}"),
    ]


def _render_status(row: Mapping[str, Any]) -> str:
    """What became of a flag and by whom, or what a row decides, in words and signs."""
    if row["decides"]:
        return f"{_render_mark(row)}<small class='sr-quiet'>a decision</small>"
    by = f"<small class='sr-quiet'>by {render_reader(row['decided_by'])}</small>" if row["decided_by"] else ""
    return _render_mark(row) + by


def _render_mark(row: Mapping[str, Any]) -> str:
    """A flag's state, or a decision's word; a reader who took a flag back did not reject it."""
    word = row["verdict"]
    if row["decides"]:
        word = WITHDRAWN if row["reason"] == WITHDRAWN else row["status"]
    return tables.render_mark(word, _KINDS[word])


def _render_time(text: str) -> str:
    """A moment to the minute; its date stays on one line."""
    day = f'<span class="sr-whole">{escape(text[:10])}</span>'
    return f'<time datetime="{escape(text)}">{day} {escape(text[11:16])}</time>'


def render_detail(
    row: Mapping[str, Any], image: Radiograph | None, others: pd.DataFrame, title: str | None = None
) -> str:
    """One flag with its image, what the reader said, and the opinions of then.

    Args:
        row: the flag.
        image: its image; None where it is gone.
        others: all rows about the same image and task, this one included.
        title: of its task; None where there is no such task any more: then its name is shown, and nothing can read
            the image.
    """
    opening = tables.render_button("open", row["flag_id"], "Open in the viewer", _ABOUT_OPEN) if title else ""
    picture = _render_picture(image, read_regions(row["regions"]), opening)
    items = "".join(f"<div><dt>{name}</dt><dd>{text}</dd></div>" for name, text in _list_facts(row, others) if text)
    return (
        f'<article class="sr-detail" data-flag="{escape(row["flag_id"])}" data-verdict="{escape(row["verdict"])}">'
        f"<div>{picture}</div>"
        f'<div><p class="sr-said-of">{escape(row["task"] if title is None else title)}</p>'
        f'<dl class="sr-facts">{items}</dl>{_render_others(others, row["flag_id"])}</div></article>'
        f"<h2>Opinions at the time of the flag</h2>{_render_opinions(row)}"
    )


def _list_facts(row: Mapping[str, Any], others: pd.DataFrame) -> list[tuple[str, str]]:
    """What a row says, by its headings; of a decision only what is its own, and which flag it decides."""
    said = f"{render_reader(row['reader'])}, {_render_time(row['created_at'])} UTC"
    label = f"<b>{plain(row['corrected_label'])}</b>"
    comment = f'<span class="sr-comment" translate="no">{escape(row["comment"])}</span>' if row["comment"] else ""
    if row["decides"]:
        decided = list_rows(others[others["flag_id"] == row["decides"]])
        whose = f"{render_reader(decided[0]['reader'])} " if decided else ""
        of = f"{whose}<code>{escape(row['decides'])}</code>"
        return [
            ("Decided by", said),
            ("Decision", _render_mark(row)),
            ("Flag that it decides", of),
            ("Label", label),
            ("Comment", comment),
        ]
    first = f"{plain(row['first_label'])}, {_share(row['first_confidence'])} sure" if row["first_label"] else ""
    return [
        ("Flagged by", said),
        ("Status", _render_status(row)),
        ("Flagged as", f"{label}, {_share(row['confidence'])} sure"),
        ("Before the panel spoke", first),
        ("Reason", escape(row["reason"])),
        ("Comment", comment),
        ("Took", _render_duration(row["seconds"])),
        ("Flag", f"<code>{escape(row['flag_id'])}</code>"),
    ]


def _render_duration(cell: str) -> str:
    seconds = read_number(cell)
    if seconds is None:
        return ""
    return f"{seconds:.0f} s" if seconds < _MINUTES_FROM else f"{seconds / 60:.0f} min"


def _share(text: str) -> str:
    share = read_number(text)
    return "not said how" if share is None else f"{100 * share:.0f} %"


def _render_picture(image: Radiograph | None, regions: Sequence[Mapping[str, float]], opening: str) -> str:
    """The image with the reader's boxes, which are in image pixels; `opening` is what opens it elsewhere, as HTML."""
    if image is None:
        return '<p class="sr-none">The image is not in the ledger’s folder any more.</p>'
    uri = renders.to_uri(Image.fromarray(to_display(image, _LONGEST)), "JPEG")
    height, width = image.pixels.shape
    boxes = "".join(map(_render_box, regions))
    marks = f'<svg viewBox="0 0 {width} {height}" aria-hidden="true">{boxes}</svg>' if boxes else ""
    marked = f"<span>{len(regions)} marked region{'s' * (len(regions) > 1)}</span>" if boxes else ""
    note = f"<figcaption>{opening}{marked}</figcaption>" if opening or marked else ""
    frame = f'<div class="sr-frame" style="--aspect:{width / height:.4f}">'
    return f'<figure class="sr-flagged">{frame}<img src="{uri}" alt="the flagged image">{marks}</div>{note}</figure>'


def _render_box(box: Mapping[str, Any]) -> str:
    sides = " ".join(f'{name}="{box[name]:g}"' for name in ("x", "y", "width", "height"))
    return f"<rect {sides}/>"


def _render_others(others: pd.DataFrame, flag_id: str) -> str:
    if len(others) < 2:
        return ""
    rows = "".join(_render_other(row, row["flag_id"] == flag_id) for row in list_rows(others))
    return f'<h2>All that was said of this image</h2><ul class="sr-said">{rows}</ul>'


def _render_other(row: Mapping[str, Any], current: bool) -> str:
    kind = "<i>decision</i> " if row["decides"] else ""
    said = f"{render_reader(row['reader'])}: {kind}<b>{plain(row['corrected_label'])}</b>"
    return f"<li{' aria-current=true' * current}>{_render_time(row['created_at'])} {said} {_render_mark(row)}</li>"


def _render_opinions(row: Mapping[str, Any]) -> str:
    opinions = read_opinions(row["opinions"])
    if not opinions:
        return '<p class="sr-none">No model had answered.</p>'
    cards = "".join(
        f'<section class="sr-opinion"><header>{escape(title_of(model))} '
        f"<small>{escape(str(said.get('revision') or '')[:12])}</small></header>"
        f'<p class="sr-label">{plain(str(said["label"]))}</p>{render_bars(said["probs"], said["label"])}</section>'
        for model, said in opinions.items()
    )
    return f'<div class="sr-opinions">{cards}</div>'


# --- agreement ---


def render_kappas(kappas: Sequence[Kappa]) -> str:
    """The figures of every two raters."""
    rows = [
        tables.Row([escape(k.first), escape(k.second), _render_kappa(k), str(k.images)])
        for k in sorted(kappas, key=lambda k: (k.value is None, -(k.value or 0)))
    ]
    columns = ["One", "Other", "Cohen’s κ (95 % interval)", "Images"]
    return tables.render_table(columns, rows, "Agreement beyond chance on flagged images", "sr-kappas")


def _render_kappa(kappa: Kappa) -> str:
    if kappa.value is None or kappa.low is None or kappa.high is None:
        return "not defined: no image in common, or one label throughout"
    value, low, high = (f"{number:.2f}".replace("-", "−") for number in (kappa.value, kappa.low, kappa.high))
    if kappa.high == kappa.low:
        return f"<b>{value}</b> (no spread)"
    return f"<b>{value}</b> ({low} to {high})"


def render_switches(switches: Sequence[Switch]) -> str:
    """How often blinded readers changed to the panel's label."""
    if not any(switch.cases for switch in switches):
        return (
            '<p class="sr-none">Nothing to count yet. This needs flags of blinded readings in which the reader first '
            "said something else than the panel, and whose image has an accepted label.</p>"
        )
    rows = []
    for right, wrong in zip(switches[::2], switches[1::2], strict=True):
        name = right.reader if right is switches[0] else render_reader(right.reader)
        rows.append(tables.Row([name, _render_switch(right), _render_switch(wrong)]))
    columns = ["Reader", "Changed to the panel’s label when it was right", "… when it was wrong"]
    return tables.render_table(columns, rows, "Blinded readers who first said something else", "sr-switches")


def _render_switch(switch: Switch) -> str:
    if switch.interval is None:
        return "no case"
    low, high = switch.interval
    share = switch.switched / switch.cases
    return f"<b>{100 * share:.0f} %</b> ({100 * low:.0f} to {100 * high:.0f}) · {switch.switched} of {switch.cases}"


def render_agreement(kappas: Sequence[Kappa], raters: Sequence[str], switches: Sequence[Switch]) -> str:
    """Agreement as a plot and a table, and what blinded readers did at the panel's word."""
    if len(raters) < 2:
        return '<p class="sr-none">Nothing to compare yet: no flag of this task holds two labels.</p>'
    svg = draw_agreement(kappas, raters)
    plot = f'<figure class="sr-plot" style="--raters: {len(raters)}" tabindex="0">{svg}</figure>'
    table, many = render_kappas(kappas), ""
    if len(raters) > _BESIDE:
        many = " sr-many"
        table = f"<details><summary>The figures of all {len(kappas)} pairs</summary>{table}</details>"
    return (
        f'<div class="sr-agreement{many}">{plot}<div>{table}</div></div>'
        f"<h2>What the panel’s word did to blinded readers</h2>{render_switches(switches)}"
    )


# --- retraining ---


def render_retraining(relabels: pd.DataFrame, commands: Sequence[str]) -> str:
    """What training with the flags would be given, and the commands that show what it changes.

    Args:
        relabels: the flags that training applies, as `review.list_relabels` gives them.
        commands: training, and evaluation.
    """
    if relabels.empty:
        return '<p class="sr-none">No flag of this task stands, so training would be given nothing new.</p>'
    moves = relabels.groupby(["consensus_label", "corrected_label"]).size().sort_values(ascending=False)
    pairs = zip(moves.index.tolist(), moves.tolist(), strict=True)
    rows = [tables.Row([plain(old) or "–", f"<b>{plain(new)}</b>", str(count)]) for (old, new), count in pairs]
    table = tables.render_table(["Panel’s label", "Label it gets", "Images"], rows, "Flags that stand", "sr-moves")
    opened = int((relabels["verdict"] == "open").sum())
    count = f"{len(relabels)} images get" if len(relabels) > 1 else "1 image gets"
    they = "they count until they are" if opened > 1 else "it counts until it is"
    note = f" {opened} of them nobody has decided yet: {they} rejected." if opened else ""
    lines = "".join(f"<pre><code>{escape(line)}</code></pre>" for line in commands)
    return f"<p>{count} the label of a flag in training.{note}</p>{table}{lines}"
