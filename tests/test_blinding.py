import pytest

from reading_room.blinding import Commitment, Commitments, SealedError
from xray_models.tasks import TaskError

LABELS = ("Normal", "Nodule")


def test_a_commitment_is_kept_for_its_reader_task_and_image_alone():
    kept = Commitments()
    kept.lock("ann", "t", "1", Commitment("Nodule", 0.7), LABELS)
    assert kept.require("ann", "t", "1") == ("Nodule", 0.7)
    for key in (("bob", "t", "1"), ("ann", "u", "1"), ("ann", "t", "2")):
        assert kept.get(*key) is None
        with pytest.raises(SealedError, match="lock your own label"):
            kept.require(*key)


def test_a_commitment_is_not_changed_in_hindsight():
    kept = Commitments()
    kept.lock("ann", "t", "1", Commitment("Nodule", 0.7), LABELS)
    kept.lock("ann", "t", "1", Commitment("Nodule", 0.7), LABELS)
    for other in (Commitment("Normal", 0.7), Commitment("Nodule", 0.8)):
        with pytest.raises(SealedError, match="locked as Nodule"):
            kept.lock("ann", "t", "1", other, LABELS)
    assert kept.require("ann", "t", "1") == ("Nodule", 0.7)


@pytest.mark.parametrize(
    ("label", "confidence", "error"),
    [
        ("", 0.5, SealedError),
        ("Nodul", 0.5, TaskError),
        ("Nodule", 1.2, SealedError),
        ("Nodule", None, SealedError),
        ("Nodule", -0.1, SealedError),
    ],
)
def test_a_commitment_that_is_none_is_refused(label, confidence, error):
    kept = Commitments()
    with pytest.raises(error):
        kept.lock("ann", "t", "1", Commitment(label, confidence), LABELS)
    assert kept.get("ann", "t", "1") is None


def test_commitments_are_bounded():
    kept = Commitments(capacity=2)
    for image in "123":
        kept.lock("ann", "t", image, Commitment("Nodule", 0.7), LABELS)
    assert [kept.get("ann", "t", image) is not None for image in "123"] == [False, True, True]


def test_what_was_shown_openly_is_known_for_its_reader_task_and_image_alone():
    kept = Commitments()
    assert not kept.has_seen("ann", "t", "1")
    kept.note_seen("ann", "t", "1")
    assert kept.has_seen("ann", "t", "1")
    assert not any(kept.has_seen(*key) for key in (("bob", "t", "1"), ("ann", "u", "1"), ("ann", "t", "2")))
    assert kept.get("ann", "t", "1") is None


def test_what_was_shown_is_bounded():
    kept = Commitments(capacity=2)
    for image in "123":
        kept.note_seen("ann", "t", image)
    assert [kept.has_seen("ann", "t", image) for image in "123"] == [False, True, True]


@pytest.mark.parametrize("confidence", [0, 1])
def test_the_ends_of_the_scale_are_confidences(confidence):
    kept = Commitments()
    kept.lock("ann", "t", "1", Commitment("Nodule", confidence), LABELS)
    assert kept.require("ann", "t", "1").confidence == confidence


def test_who_has_seen_the_opinions_locks_no_reading_any_more():
    kept = Commitments()
    kept.note_seen("ann", "t", "1")
    with pytest.raises(SealedError, match="seen the models’ opinions of this image meanwhile"):
        kept.lock("ann", "t", "1", Commitment("Nodule", 0.7), LABELS)
    assert kept.get("ann", "t", "1") is None
    for key in (("bob", "t", "1"), ("ann", "t", "2")):
        kept.lock(*key, Commitment("Nodule", 0.7), LABELS)


def test_a_reading_locked_before_the_opinions_were_seen_stays():
    kept = Commitments()
    kept.lock("ann", "t", "1", Commitment("Nodule", 0.7), LABELS)
    kept.note_seen("ann", "t", "1")
    kept.lock("ann", "t", "1", Commitment("Nodule", 0.7), LABELS)
    with pytest.raises(SealedError, match="locked as Nodule"):
        kept.lock("ann", "t", "1", Commitment("Normal", 0.7), LABELS)
    assert kept.require("ann", "t", "1") == ("Nodule", 0.7)
