"""What stands beside a map says what was measured, and no more."""

import json

import pytest

from xray_models.map_words import describe_maps


def judged(low, passed=True, kept=0.0, **places):
    gain = {"value": 0.15, "low": low, "high": 0.2, "n": 24}
    sanity = {"passed": passed, "correlation": {"value": kept}}
    return {"gain": gain, "regions": 12 if places else 0, "sanity": sanity, **places}


def say(model, regions=""):
    note = describe_maps({"method": "hires_cam", "regions": regions, "models": {"resnet18": model}}, "HiResCAM")
    assert json.dumps(note["resnet18"])
    return note["resnet18"]


@pytest.mark.parametrize(("low", "faithful"), [(0.02, True), (0.0, False), (-0.1, False), (None, False)])
def test_a_map_is_called_faithful_only_when_its_interval_says_so(low, faithful):
    note = say(judged(low))
    assert note.faithful is faithful
    assert ("not shown" in note.short) is not faithful
    assert "On 24 test images, what HiResCAM calls important" in note.text
    assert "point into" not in note.text


def test_where_the_peak_lies_is_said_beside_chance():
    places = {"pointing": {"value": 0.083, "n": 12}, "pointing_chance": {"value": 0.018}}
    note = say(judged(0.1, **places), "finding")
    assert note.short.endswith("peak in finding 8 % (chance 2 %)")
    assert note.text.endswith("Its maps point into the annotated finding in 8 % of 12 images (chance 2 %).")


def test_a_map_that_a_random_network_draws_too_says_so():
    assert "a random network draws it, too" in say(judged(0.1, passed=False)).short
    assert "a random network" not in say(judged(0.1, passed=False, kept=None)).text
    assert "its maps are flat" in say(judged(0.1, passed=False, kept=None)).short
