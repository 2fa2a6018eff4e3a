"""Flags as they are shown: escaped, and by words as well as colours."""

from reading_room import review, review_view
from tests.flag_samples import IMAGES, TASK, add
from xray_models import flag_record


def test_no_ledger_is_no_flag(tmp_path):
    assert review.load_flags(tmp_path / "none").empty
    assert "No flag" in review_view.render_flags(review.load_flags(tmp_path / "none"), 0)


def test_texts_from_outside_are_escaped(ledger, monkeypatch):
    bad = "<img src=x onerror=alert(1)>"
    monkeypatch.setattr(flag_record, "_is_box", lambda box: True)  # the row of another program
    add(ledger, IMAGES[0], "Normal", bad, comment=bad, regions=({"x": bad}, {"x": 1, "y": 2, "width": 3, "height": 4}))
    add(ledger, IMAGES[0], "Nodule", "CD")
    flags = review.load_flags(ledger.root)
    row = flags[flags["reader"] == bad].iloc[0].to_dict()
    html = review_view.render_flags(flags, 0) + review_view.render_detail(row, IMAGES[0], flags)
    assert bad not in html and "&lt;img src=x" in html
    assert html.count("<rect ") == 1 and 'viewBox="0 0 64 64"' in html
    assert "All that was said of this image" in html
    assert "not in the ledger’s folder" in review_view.render_detail(row, None, flags)


def test_status_is_a_word_and_a_sign_not_a_colour_alone(ledger):
    review.decide(ledger, TASK, add(ledger, IMAGES[0], "Normal"), "rejected", "Chief")
    html = review_view.render_flags(review.load_flags(ledger.root), 0)
    assert 'class="sr-mark sr-mark-bad">rejected<' in html and "by Chief" in html
