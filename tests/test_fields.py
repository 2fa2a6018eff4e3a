from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import pytest

from xray_models.fields import TaskError, build_fields, check_type, choose


@dataclasses.dataclass(frozen=True)
class Entry:
    name: str
    count: int = 1
    rate: float = 0.5
    labels: tuple[str, ...] = ()
    notes: Mapping[str, str] = dataclasses.field(default_factory=dict)


def test_what_a_mapping_says_becomes_a_dataclass():
    raw = {"name": "a", "count": 2, "rate": 1, "labels": ["x", "y"], "notes": {"k": "v"}}
    assert build_fields(Entry, "", raw) == Entry("a", 2, 1, ["x", "y"], {"k": "v"})
    assert build_fields(Entry, "", {"name": "a"}) == Entry("a")


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        ({}, "the key `here.name` is missing."),
        ([], r"`here` must be a mapping of keys, not \[\]."),
        ({"name": "a", "cuont": 1}, "Unknown key `here.cuont`; key: 'cuont'.*Did you mean 'count'"),
        ({"name": 1}, "`here.name` is 1; it must be a text: quote it."),
        ({"name": "a", "count": True}, "`here.count` is True; it must be a whole number."),
        ({"name": "a", "rate": "1e-4"}, "it must be a number. Write 0.0001."),
        ({"name": "a", "labels": ["x", ""]}, "a list of texts that are not empty"),
        ({"name": "a", "notes": {"k": 1}}, "`here.notes` is {'k': 1}; it must be keys with texts."),
    ],
)
def test_what_does_not_fit_is_named_with_its_place(raw, says):
    with pytest.raises(TaskError, match=says):
        build_fields(Entry, "here.", raw)


def test_a_text_may_be_left_open_where_it_says_so():
    check_type("x", None, "str | None")
    with pytest.raises(TaskError, match="`x` is None"):
        check_type("x", None, "str")


def test_a_choice_names_the_nearest():
    assert choose("colour", "red", ["red", "green"]) == "red"
    with pytest.raises(TaskError, match="Unknown colour: 'gren'. Valid: red, green. Did you mean 'green'?"):
        choose("colour", "gren", ["red", "green"])
    with pytest.raises(TaskError, match="Valid: none."):
        choose("colour", "red", [])
