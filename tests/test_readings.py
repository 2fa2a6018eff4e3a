"""What several opinions make together, by hand and against scipy."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import jensenshannon
from scipy.stats import entropy

from xray_models.images import from_pixels
from xray_models.readings import Opinion, Reading, agree, describe_image, disagreement
from xray_models.tasks import load_task

TASK = load_task("phantom")
SILENT = Opinion("silent", status="unavailable", reason="gone")


def say(model, *probs, **more):
    """An opinion with these probabilities of the task's labels."""
    label = TASK.labels[int(np.argmax(probs))]
    return Opinion(model, "r", label=label, probs=dict(zip(TASK.labels, probs, strict=True)), **more)


@given(st.lists(st.lists(st.floats(0.001, 1), min_size=3, max_size=3), min_size=2, max_size=2))
def test_disagreement_of_two_is_scipys_divergence(rows):
    probs = np.array(rows) / np.sum(rows, axis=1, keepdims=True)
    with np.errstate(invalid="ignore"):  # of equal rows, scipy may take the root of -1e-17
        expected = np.nan_to_num(jensenshannon(*probs, base=3)) ** 2
    assert disagreement(probs) == pytest.approx(expected, abs=1e-9)


def test_disagreement_of_known_cases():
    assert disagreement(np.eye(4)) == pytest.approx(1)
    assert disagreement(np.tile([0.7, 0.2, 0.1], (5, 1))) == pytest.approx(0)
    assert disagreement(np.array([[0.3, 0.7]])) == 0
    assert agree(load_task("covid"), []) is None


@pytest.mark.parametrize(
    ("novelties", "together", "known"),
    [
        ((0.6, 0.7, 3.0), np.sqrt((0.36 + 0.49 + 9) / 3), False),  # one is very surprised, two hardly
        ((0.6, 0.7, 1.1), np.sqrt((0.36 + 0.49 + 1.21) / 3), True),
        ((None, 0.5), 0.5, True),
        ((None, None), None, None),
    ],
)
def test_the_models_say_together_whether_an_image_is_in_distribution(novelties, together, known):
    task = load_task("phantom")
    probs = dict.fromkeys(task.labels, 1 / len(task.labels))
    said = agree(task, [Opinion(str(i), label="None", probs=probs, novelty=far) for i, far in enumerate(novelties)])
    assert said.novelty == (together if together is None else pytest.approx(together))
    assert said.in_distribution is known


def test_the_consensus_is_the_mean_of_those_that_answered():
    first = say("a", 0.7, 0.1, 0.1, 0.1, prediction_set=("Normal",))
    second = say("b", 0.3, 0.5, 0.1, 0.1, prediction_set=("Consolidation", "Normal"))
    third = say("c", 0.2, 0.6, 0.1, 0.1, prediction_set=())
    found = agree(TASK, [first, SILENT, second, third])
    assert found.probs == pytest.approx(dict(zip(TASK.labels, (0.4, 0.4, 0.1, 0.1), strict=True)))
    assert list(found.votes.items()) == [("Consolidation", 2), ("Normal", 1)]
    assert found.prediction_set == ("Normal", "Consolidation")  # in the task's order
    assert (found.answered, found.asked) == (3, 4)
    assert agree(TASK, [second, third]).label == "Consolidation"
    assert agree(TASK, [SILENT]) is None


@given(st.lists(st.lists(st.floats(0, 1), min_size=4, max_size=4).filter(sum), min_size=1, max_size=5))
def test_doubt_is_the_entropy_of_the_mean_which_holds_disagreement(rows):
    probs = np.array(rows) / np.sum(rows, axis=1, keepdims=True)
    found = agree(TASK, [say(str(place), *row) for place, row in enumerate(probs)])
    assert found.doubt == pytest.approx(entropy(probs.mean(axis=0), base=4), abs=1e-9)
    assert found.doubt == pytest.approx(found.disagreement + entropy(probs, base=4, axis=1).mean(), abs=1e-9)


def test_a_reading_is_plain_data_without_what_does_not_apply():
    opinion = say("a", 0.7, 0.1, 0.1, 0.1, prediction_set=("Normal",), novelty=1.0)
    raw = Reading("phantom", {}, (opinion, SILENT), agree(TASK, [opinion, SILENT])).to_json()
    assert raw["opinions"][1] == {"model": "silent", "status": "unavailable", "reason": "gone"}
    assert raw["opinions"][0]["prediction_set"] == ["Normal"]
    assert raw["opinions"][0]["in_distribution"] is True  # 1 is the last that is
    assert raw["consensus"]["votes"] == {"Normal": 1}
    assert Reading("phantom", {}, (SILENT,), None).to_json()["consensus"] is None


def test_without_any_set_the_consensus_rules_nothing_in_or_out():
    """An empty set would say that every label is ruled out."""
    bare = say("a", 0.7, 0.1, 0.1, 0.1)
    assert "prediction_set" not in Reading("phantom", {}, (bare,), agree(TASK, [bare])).to_json()["consensus"]
    assert agree(TASK, [bare, say("b", 0.3, 0.5, 0.1, 0.1, prediction_set=())]).prediction_set == ()


def test_an_image_is_described_without_its_patient():
    image = from_pixels(np.arange(2400, dtype=np.uint16).reshape(40, 60))
    assert describe_image(image) == {
        "sha256": image.sha256,
        "height": 40,
        "width": 60,
        "bits": 16,
        "format": image.format,
        "warnings": [],
    }
