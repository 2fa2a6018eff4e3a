"""PERFORMANCE.md says what the records in benchmarks/results say."""

import json
import re
from pathlib import Path

import pytest

from tests.test_benchmarks import spreads

ROOT = Path(__file__).resolve().parents[1]
SECTIONS = re.split(r"^##? ", (ROOT / "PERFORMANCE.md").read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
SPREAD = re.compile(r"([\d.]+) \(([\d.]+) to ([\d.]+)\)")
RECORD = re.compile(r"python -m benchmarks\.(\w+)")
RECORDED = {found[1]: section for section in SECTIONS if (found := RECORD.search(section))}


def test_every_record_has_its_section():
    records = {path.stem for path in (ROOT / "benchmarks" / "results").glob("*.json")}
    assert records == set(RECORDED) - {"bootstrap"}  # which prints its own table


@pytest.mark.parametrize(("name", "least"), [("panel", 6), ("start", 4), ("evaluate", 6), ("train", 9), ("flags", 9)])
def test_spreads_are_those_of_the_record(name, least):
    record = json.loads((ROOT / "benchmarks" / "results" / f"{name}.json").read_text(encoding="utf-8"))
    known = [[entry[key] for key in ("median", "low", "high")] for entry in find_spreads(record)]
    told = SPREAD.findall(RECORDED[name])
    assert len(told) >= least
    for texts in told:
        assert any(all(map(is_rounded, texts, values)) for values in known), texts


def find_spreads(record):
    """As `spreads`, and those that tell besides how many were lost."""
    yield from spreads(record)
    yield from record.get("flags_per_second", {}).values()


def is_rounded(text, value):
    """Whether a text is what a value becomes with as many digits; a half may go either way."""
    digits = len(text.partition(".")[2])
    return abs(float(text.replace(",", "")) - value) <= 0.5 * 10**-digits + 1e-9
