"""What is known of other models, or of another panel, is never said of these."""

import json

import pytest

from reading_room import models
from reading_room.standing import NOTHING, find_standing
from xray_models.readings import Opinion

OPINIONS = [Opinion("resnet18", "aaa", label="Normal"), Opinion("simple_cnn", "bbb", label="Normal")]
GAIN = {"gain": {"value": 0.1, "low": 0.05, "high": 0.2, "n": 24}, "regions": 0, "sanity": {"passed": True}}


@pytest.fixture
def reports(tmp_path, monkeypatch):
    monkeypatch.setattr(models, "RESULTS", tmp_path / "none")
    return tmp_path


def write(reports, **changes):
    metrics = {
        "task": "phantom",
        "split": "test",
        "models": {"resnet18": {"revision": "aaa"}, "simple_cnn": {"revision": "bbb"}, "consensus": {}},
        "worklist": {"levels": [level / 200 for level in range(101)]},
        "heatmaps": {"method": "hires_cam", "regions": "", "models": {"resnet18": GAIN, "simple_cnn": GAIN}},
    }
    (reports / "phantom").mkdir(exist_ok=True)
    (reports / "phantom" / "metrics.json").write_text(json.dumps(metrics | changes))


def test_a_disagreement_has_its_place_among_the_test_images(untrained, reports):
    write(reports)
    known = find_standing(untrained, OPINIONS, reports)
    assert [known.place(value) for value in (0.0, 0.2, 0.47, 0.5, 0.9)] == [0, 40, 94, 100, 100]
    assert known.note("resnet18", "hires_cam").faithful
    assert known.note("resnet18", "occlusion") is None  # those maps were not judged


def test_of_other_weights_nothing_is_said(untrained, reports):
    others = {"resnet18": {"revision": "aaa"}, "simple_cnn": {"revision": "ccc"}, "consensus": {}}
    write(reports, models=others)
    known = find_standing(untrained, OPINIONS, reports)
    assert known.place(0.4) is None  # the panel is another
    assert known.note("resnet18", "hires_cam") is not None
    assert known.note("simple_cnn", "hires_cam") is None


@pytest.mark.parametrize("changes", [{"split": "all"}, {"task": "covid"}, {"worklist": {}, "heatmaps": None}])
def test_of_another_split_or_before_it_was_measured_nothing_is_said(untrained, reports, changes):
    write(reports, **changes)
    assert find_standing(untrained, OPINIONS, reports) == NOTHING


@pytest.mark.parametrize(
    "changes",
    [{"models": ["resnet18"]}, {"models": {"resnet18": 3}}, {"worklist": None}, {"heatmaps": {"method": "tarot"}}],
)
def test_an_evaluation_of_another_form_is_passed_over(untrained, reports, changes):
    write(reports, **changes)
    assert find_standing(untrained, OPINIONS, reports) == NOTHING


def test_a_panel_with_a_missing_model_is_another_panel(untrained, reports):
    write(reports)
    missing = [OPINIONS[0], Opinion("simple_cnn", status="unavailable", reason="gone")]
    assert find_standing(untrained, missing, reports).place(0.4) is None
