"""What a flag may hold, and the row that it makes."""

import json
import math

import pytest

from xray_models import __version__
from xray_models.flag_record import FIELDS, REASONS, SCHEMA_VERSION, Flag, FlagError, check_flag, to_row
from xray_models.rows import from_cell
from xray_models.tasks import TaskError, load_task

TASK = load_task("phantom")
BOX = {"x": 1, "y": 2.5, "width": 3, "height": 4}


def flag(**changes):
    fields = {"reader": "AB", "task": "phantom", "corrected_label": "Nodule", "image_sha256": "0" * 64}
    return Flag(**{**fields, **changes})


def test_columns_are_those_of_the_design():
    """Other columns, or others' meaning, are another version: ledgers of several versions stand side by side."""
    assert SCHEMA_VERSION == 1
    assert FIELDS == [
        "file_name",
        "flag_id",
        "created_at",
        "reader",
        "task",
        "image_sha256",
        "source_name_hash",
        "consensus_label",
        "disagreement",
        "first_label",
        "first_confidence",
        "corrected_label",
        "confidence",
        "reason",
        "comment",
        "regions",
        "opinions",
        "mode",
        "seconds",
        "status",
        "decides",
        "app_version",
        "schema_version",
    ]


@pytest.mark.parametrize(
    "changes",
    [
        *({"reason": reason} for reason in REASONS),
        *({"status": status} for status in ("open", "accepted", "rejected")),
        *({name: value} for name in ("confidence", "first_confidence", "disagreement") for value in (0, 1)),
        {"first_confidence": None, "disagreement": None, "seconds": None},
        {"reason": "withdrawn", "decides": "flag-1", "status": "rejected"},
        {"mode": "blinded", "first_label": "Normal"},
        {"reader": "x" * 80, "comment": "x" * 4000},
        {"regions": (BOX, BOX), "seconds": 1e6},
    ],
)
def test_what_makes_sense_is_taken(changes):
    check_flag(flag(**changes), TASK)


@pytest.mark.parametrize(
    ("changes", "error", "says"),
    [
        ({"corrected_label": "nodule"}, TaskError, "Valid: Normal"),
        ({"reader": "  "}, FlagError, "name is empty"),
        ({"reader": "x" * 81}, FlagError, "81 characters; at most 80"),
        ({"comment": "x" * 4001}, FlagError, "4001 characters; at most 4000"),
        ({"confidence": 80}, FlagError, r"confidence is 80; it must be in \[0, 1\]"),
        ({"confidence": -0.01}, FlagError, r"in \[0, 1\]"),
        ({"first_confidence": 1.01}, FlagError, r"first_confidence is 1.01; it must be in \[0, 1\]"),
        ({"disagreement": 1.01}, FlagError, r"disagreement is 1.01; it must be in \[0, 1\]"),
        ({"reason": "because"}, TaskError, "Valid: wrong label"),
        ({"status": "maybe"}, TaskError, "Valid: open, accepted, rejected"),
        ({"mode": "half"}, TaskError, "Valid: open, blinded"),
        ({"reason": "withdrawn"}, FlagError, "take a flag back"),
        ({"reason": "withdrawn", "decides": "flag-1"}, FlagError, "take a flag back"),
        ({"reason": "withdrawn", "status": "rejected"}, FlagError, "take a flag back"),
        ({"confidence": "0.9"}, FlagError, "confidence is '0.9'; it must be a number"),
        ({"seconds": math.inf}, FlagError, "seconds is 'inf'"),
        ({"seconds": -math.inf}, FlagError, "seconds is '-inf'"),
        ({"disagreement": math.nan}, FlagError, "disagreement is 'nan'"),
        ({"seconds": 10**400}, FlagError, "must be a number"),
        ({"reader": 5}, FlagError, "reader is '5'; it must be text"),
        ({"decides": None}, FlagError, "decides is 'None'"),
        ({"opinions": "none"}, FlagError, "opinions is 'none'; it must be an object"),
        ({"regions": (1,)}, FlagError, "must be boxes"),
        ({"regions": (BOX, BOX | {"depth": 1})}, FlagError, "must be boxes"),
        ({"regions": ({"x": 1, "y": 1, "width": 1},)}, FlagError, "must be boxes"),
        ({"regions": (BOX | {"height": math.nan},)}, FlagError, "must be boxes"),
    ],
)
def test_what_makes_no_sense_is_refused(changes, error, says):
    with pytest.raises(error, match=says):
        check_flag(flag(**changes), TASK)


def test_a_row_says_everything_in_the_order_of_the_columns():
    opinions = {"resnet18": {"label": "Ünklar", "probs": {"b": 0.25, "a": 0.75}}}
    row = to_row(flag(opinions=opinions, regions=(BOX,), confidence=1, seconds=2.5, comment="007", decides="flag-1"))
    assert list(row) == FIELDS
    assert row["file_name"] == "0" * 64 + ".png"
    assert (row["confidence"], row["seconds"], row["disagreement"]) == ("1.0", "2.5", "")
    assert (json.loads(row["opinions"]), json.loads(row["regions"])) == (opinions, [BOX])
    assert "Ünklar" in row["opinions"]
    assert (from_cell(row["comment"]), row["decides"]) == ("007", "flag-1")
    assert (row["app_version"], row["schema_version"]) == (__version__, str(SCHEMA_VERSION))


@pytest.mark.parametrize(
    "changes",
    [
        {"decides": "x" * 100_001},
        {"flag_id": "x" * 100_001},
        {"regions": (BOX,) * 5000},
        {"opinions": {"m": {"label": "x" * 100_000}}},
    ],
)
def test_a_cell_that_no_reader_of_csv_would_take_is_refused(changes):
    (name,) = changes
    with pytest.raises(FlagError, match=rf"{name} has \d{{6}} characters; at most 100000"):
        to_row(flag(**changes))


def test_the_longest_cell_is_taken():
    assert len(to_row(flag(decides="x" * 100_000))["decides"]) == 100_000
