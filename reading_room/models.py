"""What is known of a task's models: test figures, calibration, weakest label, data, licence. No gradio here."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

from reading_room import tables
from reading_room.cards import plain, title_of
from reading_room.reliability import render_reliability
from xray_models.cards import render_card
from xray_models.figures import Figures, Share, list_figures, take_figures
from xray_models.hub_cache import check_config, find_folder, read_config
from xray_models.hub_client import HubError
from xray_models.revisions import hash_weights
from xray_models.tasks import ROOT, ModelRef, Task, TaskError

RESULTS = ROOT / "evaluation" / "results"
_REPORT_LIMIT = 64 * 2**20  # bytes
_FRONT_MATTER = re.compile(r"\A---\n.*?\n---\n", re.DOTALL)
_TAG = re.compile(r"<(?=[a-zA-Z/!?])")
_GUARD = (  # the base keeps links to the report's own sections inside the frame
    '<base href="about:srcdoc">'
    '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src data:; font-src data:; '
    "style-src 'unsafe-inline'\">"
)
_ODD = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)  # raised by values of another kind
_DAMAGED = "Its config.json, or the metrics.json of its evaluation, holds what cannot be shown. Pull or train it anew."


class Entry(NamedTuple):
    """One model of a task.

    Attributes:
        model: its name in the panel.
        revision: commit on the Hub, or the first 12 digits of its weights' sha256; "" where it is missing.
        info: the `second_read` entry of its `config.json`.
        figures: of its test; None where it is missing or says none.
        problem: why it is missing, or what it does not say; else "".
        command: what gets it, or "".
        repo: where it lies on the Hub; "" for a local one.
    """

    model: str
    revision: str = ""
    info: Mapping[str, Any] = {}
    figures: Figures | None = None
    problem: str = ""
    command: str = ""
    repo: str = ""


def list_models(task: Task, reports: Path) -> list[Entry]:
    """Every model of a task; one that is missing says why, and how to get it.

    Args:
        task: the task.
        reports: folder of evaluations, `<reports>/<task>/metrics.json`; figures of these very weights come from
            there, with intervals over groups, and else from the model's own config.
    """
    metrics = read_metrics(task, reports)
    return [_describe(task, ref, metrics)._replace(repo=ref.repo or "") for ref in task.models]


def read_metrics(task: Task, reports: Path) -> list[Mapping[str, Any]]:
    """The evaluations of a task that lie here, the reader's own first."""
    found = []
    for path in (reports / task.name / "metrics.json", RESULTS / f"{task.name}.json"):
        try:
            evaluation = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        if isinstance(evaluation, Mapping):
            found.append(evaluation)
    return found


def _describe(task: Task, ref: ModelRef, metrics: Sequence[Mapping[str, Any]]) -> Entry:
    try:
        folder = find_folder(task, ref)
        config = read_config(folder)
        check_config(task, config, [path.name for path in folder.iterdir()], ref.name)
    except (HubError, TaskError, OSError) as error:
        reason, sign, command = str(error).partition("python -m ")
        return Entry(ref.name, problem=re.sub(r"[^.]*: $", "", reason).strip() or reason, command=sign + command)
    revision = ref.revision or hash_weights(folder)
    entry = Entry(ref.name, revision, config.get("second_read") or {})
    try:
        entry = _add_figures(task, ref, entry, metrics)
        render_models(task, [entry])
    except _ODD:
        return Entry(ref.name, revision, problem=_DAMAGED)
    return entry


def _add_figures(task: Task, ref: ModelRef, entry: Entry, metrics: Sequence[Mapping[str, Any]]) -> Entry:
    try:
        return entry._replace(figures=_find_figures(task, ref, entry.revision, entry.info, metrics))
    except (KeyError, TypeError):
        return entry._replace(problem="Its config holds no test figures.")


def _find_figures(
    task: Task, ref: ModelRef, revision: str, info: Mapping[str, Any], metrics: Sequence[Mapping[str, Any]]
) -> Figures:
    for evaluation in metrics:
        try:
            return take_figures(task, ref.name, revision, evaluation)
        except (TaskError, *_ODD):  # of other weights, or of another split; or damaged
            continue
    return list_figures(info)


# --- as HTML ---


def render_models(task: Task, entries: Sequence[Entry], joined: Collection[str] = ()) -> str:
    """A task's data, and a table of its models; those that joined while the room is open can be taken out again."""
    columns = ["Model", "Accuracy", "AUROC", "Calibration", "Weakest label", "Training", "Card"]
    rows = [tables.Row(_render_entry(entry, entry.model in joined), entry.model) for entry in entries]
    kinds = {entry.figures.intervals for entry in entries if entry.figures}
    note = f"In brackets: 95 % intervals ({escape('; '.join(sorted(kinds)))})." if kinds else ""
    table = tables.render_table(columns, rows, f"Models of {task.title}, on its test split", "sr-models")
    bins = [(title_of(entry.model), entry.figures.reliability) for entry in entries if entry.figures]
    return f'{_render_data(task, entries)}{table}<p class="sr-quiet">{note}</p>{render_reliability(bins)}'


def _render_data(task: Task, entries: Sequence[Entry]) -> str:
    counts = next((entry.info["counts"] for entry in entries if entry.info.get("counts")), None)
    facts = {
        "Labels": ", ".join(label.replace("_", " ") for label in task.labels),
        "Data": task.dataset.source,
        "Licence of the data": task.dataset.licence,
        "Cite": task.dataset.citation,
    }
    if counts:
        facts["Images"] = ", ".join(f"{count} for {split}" for split, count in counts.items())
    items = "".join(f"<div><dt>{name}</dt><dd>{escape(str(text))}</dd></div>" for name, text in facts.items())
    return f'<dl class="sr-facts">{items}</dl>'


def _render_entry(entry: Entry, joined: bool) -> list[str]:
    origin = " @ ".join(escape(part) for part in (entry.repo, entry.revision[:12]) if part)
    name = f"<b>{escape(title_of(entry.model))}</b><small class='sr-quiet'>{origin}</small>"
    leave = tables.render_button("leave", entry.model, "Take out", f"Take {entry.model} out of the panel")
    leave = leave if joined else ""
    if not entry.revision:
        command = f"<code>{escape(entry.command)}</code>" if entry.command else ""
        problem = f"{tables.render_mark('Missing', 'bad')} {escape(entry.problem)}{command}"
        return [name, problem, *["–"] * 4, leave or "–"]
    card = tables.render_button("card", entry.model, "Card", f"Show the card of {title_of(entry.model)}") + leave
    if entry.figures is None:
        return [name, f"{tables.render_mark('No figures', 'warn')} {escape(entry.problem)}", *["–"] * 4, card]
    figures, info = entry.figures, entry.info
    weakest = figures.find_weakest()
    after = _render_share(Share(figures.whole["ece"].value))
    before = f"{info['ece_before']:.3f} before, " if "ece_before" in info else ""
    fitted = f"temperature {info.get('temperature', 1):.2f}"
    if figures.chance:
        fitted += f" · by chance {_render_share(figures.chance)}"
    balanced = _render_share(figures.whole["balanced_accuracy"])
    return [
        name,
        f"{_render_share(figures.whole['accuracy'])}<small class='sr-quiet'>balanced {balanced}</small>",
        _render_share(figures.whole["auroc"]),
        f"ECE {before}{after} after<small class='sr-quiet'>{fitted}</small>",
        f"{plain(weakest)}<small class='sr-quiet'>sensitivity {_render_share(figures.sensitivity[weakest])}</small>"
        if weakest
        else "–",
        f"{escape(str(info.get('started_from', 'not known')))}",
        card,
    ]


def _render_share(share: Share) -> str:
    if share.value is None:
        return "–"
    between = "" if share.low is None or share.high is None else f" <span>({share.low:.3f} to {share.high:.3f})</span>"
    return f"{share.value:.3f}{between}"


# --- the card, and the report ---


def show_card(task: Task, model: str, reports: Path) -> str:
    """A model's card as Markdown without tags and pictures, so that nothing in it runs or is fetched.

    Raises:
        TaskError: for an unknown model, or one that is missing.
        HubError: for a model of the Hub that is missing.
    """
    ref = task.model(model)
    folder = find_folder(task, ref)
    if (folder / "README.md").is_file():
        return tame((folder / "README.md").read_text(encoding="utf-8", errors="replace"))
    entry = _describe(task, ref, read_metrics(task, reports))
    if entry.figures is None:
        raise TaskError(f"{model} has no card and no figures. Train it anew, or evaluate it.")
    try:
        return tame(render_card(task, dict(entry.info), entry.figures))
    except KeyError as error:
        raise TaskError(
            f"{model} has no card, and its config lacks second_read.{error.args[0]}, which one shows. Train it anew."
        ) from error
    except _ODD as error:
        raise TaskError(f"{model} has no card, and its config holds what none can show. Train it anew.") from error


def tame(markdown: str) -> str:
    """Takes what runs or is fetched out of Markdown: the front matter, tags (shown as text), pictures (as links)."""
    return _TAG.sub("‹", _FRONT_MATTER.sub("", markdown.replace("\r\n", "\n"))).replace("![", "[")


def find_report(task: Task, reports: Path) -> Path | None:
    """The report of a task's evaluation, where there is one that a page can hold."""
    path = reports / task.name / "report.html"
    return path if path.is_file() and path.stat().st_size <= _REPORT_LIMIT else None


def frame_report(path: Path, title: str) -> str:
    """A report in a frame of its own: no scripts, no connections, no way out of the frame."""
    page = path.read_text(encoding="utf-8", errors="replace")
    head = page.find("<head>")
    cut = head + len("<head>") if head >= 0 else 0
    guarded = page[:cut] + _GUARD + page[cut:]
    return f'<iframe class="sr-report" sandbox="" title="{escape(title)}" srcdoc="{escape(guarded)}"></iframe>'
