"""What a tab kept over a reload: opened again for who was shown it, and for nobody else."""

import json

import pytest

from reading_room.drafts import Draft, read_draft
from xray_models.tasks import load_tasks

KEPT = {"task": "phantom", "sha256": "aa", "label": 2, "comment": "blurred"}


def read(**changes):
    return read_draft(json.dumps(KEPT | changes), load_tasks())


def test_what_was_kept_is_read_with_its_label_by_name():
    assert read() == Draft("phantom", "aa", "Nodule", "blurred", [])
    assert read(label=-1).label is None and read(label=9).label is None


@pytest.mark.parametrize(
    "text",
    ["", "null", "[]", "{", "{}", *(json.dumps(KEPT | odd) for odd in ({"task": "x"}, {"task": []}, {"label": "2"}))],
)
def test_what_is_no_draft_is_nothing(text):
    assert read_draft(text, load_tasks()) is None


def test_boxes_are_boxes():
    box = {"x": 1, "y": 2, "width": 3, "height": 4}
    assert read(boxes=[box, {"x": "<"}, 3]).boxes == [box]
    assert read(boxes=box).boxes == read(boxes=None).boxes == []


def test_texts_are_texts():
    assert read(comment=3) is None and read(sha256=None) is None
