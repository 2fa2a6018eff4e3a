"""What the review page shows, as HTML: pure functions of flags. Every text from outside is escaped."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import pandas as pd
from PIL import Image

from reading_room import renders, tables
from reading_room.agreements import Kappa, Switch, draw_agreement
from reading_room.cards import plain, render_bars, title_of
from xray_models.images import Radiograph, to_display

PAGE = 15  # rows on one page
_LONGEST = 896  # pixels of the picture's longer side
_KINDS = {"open": "quiet", "accepted": "good", "rejected": "bad", "decision": "quiet", "withdrawn": "back"}


def render_flags(flags: pd.DataFrame, page: int, chosen: str = "") -> str:
    """A page of the flags, in their order.

    Args:
        flags: those that the filter left, as `review.load_flags` gives them.
        page: the first is 0.
        chosen: id of the flag that is shown beside the table.
    """
    if flags.empty:
        return '<p class="sr-none">No flag fits this filter.</p>'
    part = flags.iloc[page * PAGE : (page + 1) * PAGE].to_dict("records")
    rows = [tables.Row(_render_flag(row), row["flag_id"], row["flag_id"] == chosen) for row in part]
    columns = ["When", "Reader", "Panel", "Flagged as", "Status", "Look"]
    return tables.render_table(
        columns, rows, f"{len(flags)} {'flag' if len(flags) == 1 else 'flags'}, newest first", "sr-flags"
    )


def _render_flag(row: Mapping[str, Any]) -> list[str]:
    by = f"<small class='sr-quiet'>by {escape(row['decided_by'])}</small>" if row["decided_by"] else ""
    status = tables.render_mark(row["verdict"], _KINDS[row["verdict"]])
    if row["decides"]:
        status = f"{tables.render_mark(row['status'], _KINDS[row['status']])}<small class='sr-quiet'>a decision</small>"
    return [
        f"{_render_time(row['created_at'])}<small class='sr-quiet'>{escape(row['task'])}</small>",
        f'<bdi translate="no">{escape(row["reader"])}</bdi>',
        plain(row["consensus_label"]) or "–",
        f"<b>{plain(row['corrected_label'])}</b>",
        status + by,
        tables.render_button("look", row["flag_id"], "Look", f"Look at the flag of {row['reader']}"),
    ]


def _render_time(text: str) -> str:
    return f'<time datetime="{escape(text)}">{escape(text[:16].replace("T", " "))}</time>'


def render_detail(row: Mapping[str, Any], image: Radiograph | None, others: pd.DataFrame) -> str:
    """One flag with its image, what the reader said, and the opinions of then.

    Args:
        row: the flag.
        image: its image; None where it is gone.
        others: all rows about the same image and task, this one included.
    """
    picture = _render_picture(image, json.loads(row["regions"] or "[]"))
    facts = {
        "Flagged as": f"<b>{plain(row['corrected_label'])}</b>, {_share(row['confidence'])} sure",
        "Before the panel spoke": (
            f"{plain(row['first_label'])}, {_share(row['first_confidence'])} sure" if row["first_label"] else ""
        ),
        "Reason": escape(row["reason"]),
        "Comment": f'<span class="sr-comment" translate="no">{escape(row["comment"])}</span>' if row["comment"] else "",
        "Took": f"{float(row['seconds']):.0f} s" if row["seconds"] else "",
        "Flag": f"<code>{escape(row['flag_id'])}</code>",
    }
    items = "".join(f"<div><dt>{name}</dt><dd>{text}</dd></div>" for name, text in facts.items() if text)
    return (
        f'<article class="sr-detail"><div>{picture}</div><div><dl class="sr-facts">{items}</dl>'
        f"{_render_others(others, row['flag_id'])}</div></article>"
        f"<h2>Opinions at the time of the flag</h2>{_render_opinions(row)}"
    )


def _share(text: str) -> str:
    return f"{100 * float(text):.0f} %" if text else "not said how"


def _render_picture(image: Radiograph | None, regions: Sequence[Mapping[str, float]]) -> str:
    """The image with the reader's boxes, which are in image pixels."""
    if image is None:
        return '<p class="sr-none">The image is not in the ledger’s folder any more.</p>'
    uri = renders.to_uri(Image.fromarray(to_display(image, _LONGEST)), "JPEG")
    height, width = image.pixels.shape
    boxes = "".join(map(_render_box, regions))
    marks = f'<svg viewBox="0 0 {width} {height}" aria-hidden="true">{boxes}</svg>' if boxes else ""
    note = f"<figcaption>{len(regions)} marked region{'s' * (len(regions) > 1)}</figcaption>" if boxes else ""
    frame = f'<div class="sr-frame" style="--aspect:{width / height:.4f}">'
    return f'<figure class="sr-flagged">{frame}<img src="{uri}" alt="the flagged image">{marks}</div>{note}</figure>'


def _render_box(box: Mapping[str, Any]) -> str:
    """A region as the API took it: one that is no box is left out of the picture; the export has it."""
    try:
        sides = " ".join(f'{name}="{float(box[name]):g}"' for name in ("x", "y", "width", "height"))
    except (KeyError, TypeError, ValueError):
        return ""
    return f"<rect {sides}/>"


def _render_others(others: pd.DataFrame, flag_id: str) -> str:
    if len(others) < 2:
        return ""
    rows = "".join(_render_other(row, row["flag_id"] == flag_id) for row in others.to_dict("records"))
    return f'<h2>All that was said of this image</h2><ul class="sr-said">{rows}</ul>'


def _render_other(row: Mapping[str, Any], current: bool) -> str:
    kind, status = ("<i>decision</i> ", row["status"]) if row["decides"] else ("", row["verdict"])
    said = f"<bdi translate='no'>{escape(row['reader'])}</bdi>: {kind}<b>{plain(row['corrected_label'])}</b>"
    mark = tables.render_mark(status, _KINDS[status])
    return f"<li{' aria-current=true' * current}>{_render_time(row['created_at'])} {said} {mark}</li>"


def _render_opinions(row: Mapping[str, Any]) -> str:
    opinions = json.loads(row["opinions"] or "{}")
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
        rows.append(tables.Row([escape(right.reader), _render_switch(right), _render_switch(wrong)]))
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
    plot = f'<figure class="sr-plot">{draw_agreement(kappas, raters)}</figure>'
    return (
        f'<div class="sr-agreement">{plot}<div>{render_kappas(kappas)}</div></div>'
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
    rows = [
        tables.Row([plain(str(old)) or "–", f"<b>{plain(str(new))}</b>", str(n)]) for (old, new), n in moves.items()
    ]
    table = tables.render_table(["Panel’s label", "Label it gets", "Images"], rows, "Flags that stand", "sr-moves")
    opened = int((relabels["verdict"] == "open").sum())
    note = f" {opened} of them nobody has decided yet: they count until they are rejected." if opened else ""
    lines = "".join(f"<pre><code>{escape(line)}</code></pre>" for line in commands)
    return f"<p>{len(relabels)} images get the label of a flag in training.{note}</p>{table}{lines}"
