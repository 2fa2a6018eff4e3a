import copy

import pytest
from matplotlib.figure import Figure

from evaluation.audit_section import TITLE, build_audit_section
from evaluation.document import Cell, Figures, Gallery, Grid, Paragraph

AREA = {"value": 0.91, "low": 0.88, "high": 0.94}


def entry(alarm=False, there=False):
    return {
        "auroc": {"value": 0.7, "low": 0.6, "high": 0.8},
        "labels": {"a": AREA, "b": {"value": 0.6, "low": 0.5, "high": 0.7}},
        "clearest": "a",
        "strongest": "bytes",
        "higher": False,
        "there": there,
        "alarm": alarm,
    }


FOUND = {
    "images": 1200,
    "groups": 1100,
    "faults": 3,
    "looked": True,
    "twins": {
        "pairs": 12,
        "mirrored": 4,
        "split": {"test": 100, "copies": 0, "mirrored": 0, "related": 0},
        "official": {"test": 200, "copies": 20, "mirrored": 5, "related": 30, "unsplit": 7},
        "examples": [
            {
                "image": "x.png",
                "twin": "y.png",
                "mirrored": True,
                "image_split": "train",
                "twin_split": "train",
                "image_official": "test",
                "twin_official": "train",
                "image_label": "a",
                "twin_label": "a",
            }
        ],
    },
    "contradictions": {
        "identical_files": 2,
        "near_copies": 0,
        "mirrored": 0,
        "examples": [{"image": "p.png", "other": "q.png", "kind": "identical", "image_label": "a", "other_label": "b"}],
    },
    "shortcuts": {"all": entry(there=True), "file_size": entry(alarm=True, there=True)},
    "margins": {**entry(), "hidden": None},
    "unjudged": ["c"],
    "alarms": ["Something <b>is</b> wrong."],
}


def find(section, kind):
    return [block for block in section.blocks if isinstance(block, kind)]


def test_alarms_come_first_and_as_they_are():
    section = build_audit_section(FOUND)
    assert section.title == TITLE
    assert section.blocks[0] == Paragraph("Something <b>is</b> wrong.", "warning")
    silent = build_audit_section({**FOUND, "alarms": []})
    assert silent.blocks[0].text.startswith("No alarm: no twins across splits")
    unseen = build_audit_section({**FOUND, "alarms": [], "looked": False})
    assert unseen.blocks[0].text == "No alarm: no shortcut strong enough to matter."


def test_tables_hold_the_numbers():
    twins, shortcuts = find(build_audit_section(FOUND), Grid)
    assert twins.rows[1] == ("The publisher’s split", "200", "20", "5", "30")
    assert [row[0] for row in shortcuts.rows] == ["File size", "All of these together", "Margins and corners alone"]
    assert [row[-1].text for row in shortcuts.rows] == ["alarm", "there, but weak", "nothing found"]
    assert shortcuts.rows[2][3] == Cell("–")  # no sign of what is not there
    assert shortcuts.rows[0][2:4] == (Cell("a 0.910", "0.880 to 0.940"), Cell("bytes", "lower in a"))
    for grid in (twins, shortcuts):
        assert {len(row) for row in grid.rows} == {len(grid.heads)}


def test_the_rule_and_what_is_missing_are_said():
    said = " ".join(block.text for block in find(build_audit_section(FOUND), Paragraph))
    for words in (
        "no alarm in 300",
        "at 0.65 or above, or at 0.8",
        "fewer than 20 groups: c",
        "7 images are in no split",
    ):
        assert words in said


def test_pairs_are_shown_both_ways():
    (gallery,) = find(build_audit_section(FOUND), Gallery)
    shown = [
        (picture.image, picture.title, picture.lines[0].who, picture.lines[0].said) for picture in gallery.pictures
    ]
    assert shown == [
        ("p.png", "a", "identical", "q.png"),
        ("q.png", "b", "identical", "p.png"),
        ("x.png", "a, train, the publisher’s test", "mirrored near-copy", "y.png"),
        ("y.png", "a, train, the publisher’s train", "mirrored near-copy", "x.png"),
    ]


def test_the_plot_shows_each_family_and_its_bar():
    (figures,) = find(build_audit_section(FOUND), Figures)
    axes = Figure().subplots()
    figures.plots[0].draw(axes)
    assert [label.get_text() for label in axes.get_yticklabels()][0] == "File size"
    places = [line.get_xdata() for line in axes.get_lines()]
    assert [0.88, 0.94] in [list(place) for place in places if len(place) == 2]
    assert [list(line.get_xdata()) for line in axes.get_lines()][2] == [0.8]


def test_hidden_margins_are_a_table():
    found = copy.deepcopy(FOUND)
    nothing = {"value": None, "low": None, "high": None, "n": 0}
    found["margins"]["hidden"] = {
        "n": 100,
        "share": 0.0625,
        "models": {
            "first": dict.fromkeys(("whole", "hidden", "changed"), AREA)
            | {"difference": {"value": -0.05, "low": -0.1, "high": 0.0}},
            "broken": dict.fromkeys(("whole", "hidden", "difference", "changed"), nothing),
        },
    }
    grid = find(build_audit_section(found), Grid)[-1]
    assert "the outer 6 % of each side" in grid.caption
    assert grid.rows[0][3] == Cell("−5.0", "−10.0 to 0.0")
    assert grid.rows[1][1] == Cell("–")


@pytest.mark.parametrize("looked", [True, False])
def test_a_bare_data_set_has_a_section_too(looked):
    unjudged = entry() | {"labels": {}, "clearest": "", "strongest": "", "auroc": dict.fromkeys(AREA)}
    found = {
        **FOUND,
        "looked": looked,
        "alarms": [],
        "twins": {"pairs": 0, "mirrored": 0, "split": None, "official": None, "examples": []},
        "contradictions": {"identical_files": 0, "near_copies": 0, "mirrored": 0, "examples": []},
        "shortcuts": {"file_size": unjudged},
        "margins": {**unjudged, "hidden": None},
    }
    section = build_audit_section(found)
    assert not find(section, Figures) and not find(section, Gallery) and not find(section, Grid)
    assert any("not looked for" in block.text for block in section.blocks) != looked
