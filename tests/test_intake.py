import numpy as np
import pytest

from reading_room.intake import Case, Cases, IntakeError, take_in
from xray_models.images import encode_png, from_pixels


def picture(value):
    return from_pixels(np.full((100, 100), value, np.uint8))


def test_an_upload_is_read_and_its_name_is_not_kept(tmp_path, image):
    path = tmp_path / "DOE.png"
    path.write_bytes(encode_png(image))
    taken, name_hash = take_in(str(path))
    assert taken.sha256 == image.sha256
    assert name_hash.startswith("name-") and "DOE" not in name_hash


def test_a_refused_upload_is_not_named(tmp_path, caplog):
    path = tmp_path / "DOE.png"
    path.write_text("no image")
    with pytest.raises(IntakeError, match="PNG, JPEG"):
        take_in(str(path))
    assert "DOE" not in caplog.text


@pytest.mark.parametrize("path", [None, "", "/nowhere/x.png"])
def test_nothing_given_is_a_sentence(path):
    with pytest.raises(IntakeError):
        take_in(path)


def test_cases_are_bounded_and_the_oldest_goes():
    cases = Cases(capacity=25_000)  # two pictures and a half
    for value in (1, 2, 3):
        cases.put("t", Case(picture(value), ""))
    cases.get("t", picture(3).sha256)
    with pytest.raises(IntakeError, match="Read it again"):
        cases.get("t", picture(1).sha256)
    with pytest.raises(IntakeError):
        cases.get("other task", picture(3).sha256)


def test_cases_are_counted_too():
    cases = Cases(capacity=25_000, most=2)
    for value in (1, 2, 2, 2):  # the same image again takes no other's place
        cases.put("t", Case(picture(value), ""))
    assert cases.get("t", picture(1).sha256)
    cases = Cases(most=2)
    for value in (1, 2, 3):
        cases.put("t", Case(picture(value), ""))
    with pytest.raises(IntakeError, match="Read it again"):
        cases.get("t", picture(1).sha256)


def test_using_a_case_keeps_it():
    cases = Cases(capacity=25_000)
    cases.put("t", Case(picture(1), ""))
    cases.put("t", Case(picture(2), ""))
    cases.get("t", picture(1).sha256)
    cases.put("t", Case(picture(3), ""))
    assert cases.get("t", picture(1).sha256)
