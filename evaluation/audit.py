"""What is wrong with a data set before any model sees it: `python -m evaluation.audit --task covid --data DIR`.

Twins across splits, pictures under two labels, and traits that are no finding but tell the label. Prints the alarms,
writes `audit.json`, `twins.csv` and `contradictions.csv`. An alarm says: look at this; it does not say that a model
uses it. `--panel N` asks the task's panel about N images with their margins hidden.
"""

from __future__ import annotations

if __name__ == "__main__":  # answers --help before what follows is imported
    from evaluation.audit_command import main
    from xray_models.commands import leave, leave_in_order

    leave_in_order("SIGTERM", "SIGHUP")  # drafts in the cache go
    leave(main)

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from evaluation.shortcuts import FEWEST, Shortcut, judge_shortcuts
from evaluation.statistics import describe
from evaluation.traits import FAMILIES
from xray_models.datasets import THUMBNAIL, Manifest, count_twins, load_arrays
from xray_models.grouping import NearCopies
from xray_models.headers import read_headers
from xray_models.layouts import name_below
from xray_models.rows import write_sheet
from xray_models.tasks import Task

TWINS = ["image", "twin", "mirrored", "image_split", "twin_split", "image_official", "twin_official"]
TWINS += ["image_label", "twin_label"]
CONTRADICTIONS = ["image", "other", "kind", "image_label", "other_label"]
LOSS = 0.05  # accuracy that a panel must lose for certain without the margins to raise an alarm
_EXAMPLES = 6


class Audit(NamedTuple):
    """What was found.

    Attributes:
        found: plain data, as in `audit.json`.
        twins: near-copies in different splits, the publisher's or those in use; columns `TWINS`.
        contradictions: pictures under two labels; columns `CONTRADICTIONS`.
    """

    found: dict[str, Any]
    twins: pd.DataFrame
    contradictions: pd.DataFrame


def audit_dataset(task: Task, manifest: Manifest, hidden: Mapping[str, Any] | None = None, seed: int = 0) -> Audit:
    """Audits a data set.

    Args:
        task: the task.
        manifest: its data, opened.
        hidden: what `margins.judge_margins` gives; None where no panel was asked.
        seed: of folds and bootstrap.

    Returns:
        The audit. Its `found` holds `images`, `groups`, `faults`, `looked` (whether near-copies were looked for),
        `twins`, `contradictions`, `shortcuts` by family, `margins`, `unjudged` labels and `alarms`, sentences.

    Raises:
        ImageError: when a file went missing since the data set was opened.
    """
    rows = manifest.rows
    paths = sorted([*rows["path"], *manifest.faults["path"]])  # as the data set was read: the cache holds them
    arrays = load_arrays(paths, THUMBNAIL)
    contradictions = list_contradictions(manifest, dict(zip(paths, arrays.sha256, strict=True)))
    twins = list_twins(manifest)
    headers = read_headers(rows["path"])
    thumbnails = arrays.pixels[np.searchsorted(paths, rows["path"].to_numpy(object))]
    traits = {name: family.measure(headers, thumbnails) for name, family in FAMILIES.items()}
    judged = judge_shortcuts(list(rows["label"]), rows["group"].to_numpy(), traits, seed)
    told = {name: _describe_shortcut(shortcut) for name, shortcut in judged.items()}
    groups = rows.groupby("label")["group"].nunique()
    found = {
        "images": len(rows),
        "groups": int(rows["group"].nunique()),
        "faults": len(manifest.faults),
        "looked": task.split.group != "none",
        "twins": _describe_twins(manifest, twins),
        "contradictions": _describe_contradictions(contradictions),
        "margins": told.pop("margins") | {"hidden": None if hidden is None else dict(hidden)},
        "shortcuts": told,
        "unjudged": [label for label in task.labels if groups.get(label, 0) < FEWEST],
    }
    return Audit(found | {"alarms": raise_alarms(found)}, twins, contradictions)


def list_twins(manifest: Manifest) -> pd.DataFrame:
    """Pairs of near-copies whose images lie in different splits, one a row; paths as seen from the data folder."""
    rows, (pairs, mirrored) = manifest.rows, manifest.copies
    named = rows.assign(name=[name_below(path, manifest.folder) for path in rows["path"]])
    first, second = (named.iloc[column].reset_index(drop=True) for column in (pairs[:, 0], pairs[:, 1]))
    table = {"image": first["name"], "twin": second["name"], "mirrored": mirrored}
    for column in ("split", "official", "label"):
        table |= {f"image_{column}": first[column], f"twin_{column}": second[column]}
    apart = (first["split"] != second["split"]) | (first["official"] != second["official"])
    return pd.DataFrame(table)[TWINS][apart.to_numpy(bool)].reset_index(drop=True)


def list_contradictions(manifest: Manifest, names: Mapping[str, str]) -> pd.DataFrame:
    """Pictures under two labels: files of equal pixels (each with the first of another label), and near-copies.

    Args:
        manifest: the data set.
        names: sha256 of the pixels by path, of the files left out too; "" where a file could not be read.

    Returns:
        One pair a row, `kind` "identical", "near-copy" or "mirrored near-copy"; identical ones first.
    """
    files = pd.concat([manifest.rows[["path", "label"]], manifest.faults[["path", "label"]]]).sort_values("path")
    files = files.assign(sha256=[names[path] for path in files["path"]])
    files = files[files["sha256"] != ""]
    listed: dict[tuple[str, str], tuple[str, str, str]] = {}
    torn = files.groupby("sha256")["label"].transform("nunique") > 1
    for _, same in files[torn].groupby("sha256", sort=False):
        for path, label in zip(same["path"], same["label"], strict=True):
            other = same[same["label"] != label].iloc[0]
            if (other["path"], path) not in listed:
                listed[path, other["path"]] = ("identical", label, other["label"])
    path, label = manifest.rows["path"].to_numpy(object), manifest.rows["label"].to_numpy(object)
    for (a, b), mirrored in zip(*manifest.copies, strict=True):
        if label[a] != label[b]:
            listed[path[a], path[b]] = ("mirrored near-copy" if mirrored else "near-copy", label[a], label[b])
    lines = [(name_below(a, manifest.folder), name_below(b, manifest.folder), *rest) for (a, b), rest in listed.items()]
    return pd.DataFrame(lines, columns=CONTRADICTIONS)


def _describe_twins(manifest: Manifest, twins: pd.DataFrame) -> dict[str, Any]:
    split, official = manifest.rows["split"], manifest.rows["official"]
    theirs = None
    if {"train", "test"} <= set(official):
        theirs = _count(dataclasses.replace(manifest, rows=manifest.rows.assign(split=official)))
        theirs["unsplit"] = int((official == "").sum())
    pairs, mirrored = manifest.copies
    crossing = {"test", "train"}
    shown = [
        line
        for line in _list_lines(twins)
        if crossing in ({line["image_split"], line["twin_split"]}, {line["image_official"], line["twin_official"]})
    ]
    return {
        "pairs": len(pairs),
        "mirrored": int(mirrored.sum()),
        "split": _count(manifest) if {"train", "test"} <= set(split) else None,
        "official": theirs,
        "examples": _spread(shown),
    }


def _count(manifest: Manifest) -> dict[str, int]:
    """Test images, those with a near-copy in train, with a mirrored one, and with one of their group in train."""
    copies, mirrored = manifest.copies
    twins = count_twins(manifest)
    turned = count_twins(dataclasses.replace(manifest, copies=NearCopies(copies[mirrored], mirrored[mirrored])))
    return {"test": twins.test, "copies": twins.copies, "mirrored": turned.copies, "related": twins.related}


def _describe_contradictions(table: pd.DataFrame) -> dict[str, Any]:
    identical = table[table["kind"] == "identical"]
    return {
        "identical_files": int(pd.concat([identical["image"], identical["other"]]).nunique()),
        "near_copies": len(table) - len(identical),
        "mirrored": int((table["kind"] == "mirrored near-copy").sum()),
        "examples": _spread(_list_lines(table)),
    }


def _spread(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """At most six of many, evenly spaced."""
    places = np.unique(np.linspace(0, len(lines) - 1, min(_EXAMPLES, len(lines))).round().astype(int))
    return [lines[place] for place in places]


def _list_lines(table: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows as plain data."""
    return [{str(key): value for key, value in line.items()} for line in table.to_dict("records")]


def _describe_shortcut(shortcut: Shortcut) -> dict[str, Any]:
    return {
        "auroc": describe(*shortcut.auroc),
        "labels": {label: describe(*interval) for label, interval in shortcut.labels.items()},
        "clearest": shortcut.clearest,
        "strongest": shortcut.strongest,
        "higher": shortcut.higher,
        "there": shortcut.there,
        "alarm": shortcut.alarm,
    }


def raise_alarms(found: Mapping[str, Any]) -> list[str]:
    """Says in plain sentences what must be looked at; nothing where there is nothing.

    Args:
        found: the content of `audit.json`, but for the alarms.
    """
    twins, torn = found["twins"], found["contradictions"]
    alarms = [
        _word_twins(whose, counts)
        for whose, counts in (("the split in use", twins["split"]), ("the publisher’s split", twins["official"]))
        if counts and counts["related"]
    ]
    if torn["identical_files"]:
        alarms.append(
            f"Files that show exactly the same picture as a file of another label: {torn['identical_files']:,}."
        )
    if torn["near_copies"]:
        alarms.append(
            f"Pairs of near-copies under two labels: {torn['near_copies']:,}, of them mirrored: {torn['mirrored']:,}."
        )
    told = dict(found["shortcuts"]) | {"margins": found["margins"]}
    alone = [name for name, entry in told.items() if entry["alarm"] and name != "all"]
    joint = ["all"] if not alone and told.get("all", {}).get("alarm") else []
    alarms += [word_shortcut(name, told[name]) for name in alone + joint]
    for name, entry in (found["margins"]["hidden"] or {}).get("models", {}).items():
        high = entry["difference"]["high"]
        if high is not None and high <= -LOSS:
            alarms.append(
                f"{name} is right in {100 * entry['hidden']['value']:.0f} % of the images with hidden margins, and in "
                f"{100 * entry['whole']['value']:.0f} % with them: it looks at the margins."
            )
    return alarms


def _word_twins(whose: str, counts: Mapping[str, int]) -> str:
    return (
        f"In {whose} {counts['related']:,} of {counts['test']:,} test images share a patient or a chain of near-copies "
        f"with the training images; {counts['copies']:,} have a near-copy there, {counts['mirrored']:,} a mirrored one."
    )


def word_shortcut(name: str, entry: Mapping[str, Any]) -> str:
    """One sentence on what a family of traits tells."""
    family, label = FAMILIES[name], entry["clearest"]
    area = entry["labels"][label]
    others = [other for other in entry["labels"] if other != label]
    rest = others[0] if len(others) == 1 else "the other labels"
    sign = f" Strongest sign: {entry['strongest']}, {word_sign(entry)}." if entry["strongest"] else ""
    return (
        f"{family.title} can tell {label} from {rest}: AUROC {area['value']:.2f} ({area['low']:.2f} to "
        f"{area['high']:.2f}).{sign} What may lie behind it: {family.behind}."
    )


def word_sign(entry: Mapping[str, Any]) -> str:
    """In which label the strongest trait is higher or lower."""
    return f"{'higher' if entry['higher'] else 'lower'} in {entry['clearest']}"


def write_audit(audit: Audit, out: Path) -> None:
    """Writes `audit.json`, `twins.csv` and `contradictions.csv`."""
    out.mkdir(parents=True, exist_ok=True)
    text = json.dumps(audit.found, indent=1, sort_keys=True, allow_nan=False, ensure_ascii=False)
    (out / "audit.json").write_text(text + "\n", encoding="utf-8")
    write_sheet(audit.twins, out / "twins.csv")
    write_sheet(audit.contradictions, out / "contradictions.csv")
