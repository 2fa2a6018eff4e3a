"""What an image was flagged as before: the same as the review says, without reading the ledger anew."""

import numpy as np
import pytest

from reading_room import earlier, review
from reading_room.earlier import Earlier, History, look_back, render_earlier
from tests.test_flags import TASK, flag
from xray_models import phantom, rows
from xray_models.flags import Ledger
from xray_models.images import from_pixels

IMAGES = [from_pixels(phantom.draw_phantom("Nodule", seed, 64).pixels) for seed in range(2)]


def told(history, image):
    return [(f.flag_id, f.status, f.decided_by) for f in history.find("phantom", image.sha256)]


def take_back(ledger, image, flag_id):
    ledger.append(flag(image, reason="withdrawn", status="rejected", decides=flag_id), image, TASK)


def test_any_course_of_events_is_told_as_the_review_tells_it(tmp_path):
    """Two processes' files that grow under the eyes of a reader."""
    rng, ids = np.random.default_rng(0), []
    history, ledgers = History(tmp_path), [Ledger(tmp_path), Ledger(tmp_path)]
    assert told(history, IMAGES[0]) == []
    for step in range(30):
        ledger, image = ledgers[rng.integers(2)], IMAGES[rng.integers(2)]
        more = {"created_at": f"2026-01-01T00:00:{step:02d}.000+00:00", "reader": f"R{step}"}
        if not ids or rng.random() < 0.4:
            ids.append((ledger.append(flag(image, **more), image, TASK), image))
        else:
            target, image = ids[rng.integers(len(ids))]
            status, reason = [("accepted", "other"), ("rejected", "other"), ("rejected", "withdrawn")][rng.integers(3)]
            ledger.append(flag(image, decides=target, status=status, reason=reason, **more), image, TASK)
        known = review.load_flags(tmp_path, withdrawn=True)
        for image in IMAGES:
            own = known[(known["image_sha256"] == image.sha256) & (known["decides"] == "")]
            expected = list(zip(own["flag_id"], own["verdict"], own["decided_by"], strict=True))
            assert told(history, image) == expected


def test_nothing_is_read_where_nothing_was_added(tmp_path, image, monkeypatch):
    ledger, history, read = Ledger(tmp_path), History(tmp_path), []
    monkeypatch.setattr(earlier, "read_part", lambda *given: read.append(given[1]) or rows.read_part(*given))
    ledger.append(flag(image), image, TASK)
    first = (ledger.folder / "metadata.csv").stat().st_size
    for _ in range(3):
        assert len(told(history, image)) == 1
    ledger.append(flag(image), image, TASK)
    assert len(told(history, image)) == 2
    assert read == [0, first]  # and then only what was added


def test_a_ledger_that_shrank_is_read_anew(tmp_path, image):
    ledger, history = Ledger(tmp_path), History(tmp_path)
    for number in range(2):
        ledger.append(flag(image, flag_id=f"flag-{number}"), image, TASK)
    assert len(told(history, image)) == 2
    file = ledger.folder / "metadata.csv"
    file.write_bytes(b"".join(file.read_bytes().splitlines(keepends=True)[:2]))
    assert [flag_id for flag_id, *_ in told(history, image)] == ["flag-0"]
    file.unlink()
    assert told(history, image) == []


def test_other_tasks_and_images_do_not_count(tmp_path, image):
    ledger, history = Ledger(tmp_path), History(tmp_path)
    ledger.append(flag(image), image, TASK)
    assert history.find("covid", image.sha256) == history.find("phantom", IMAGES[0].sha256) == []


def test_a_ledger_that_cannot_be_read_is_a_sentence(tmp_path, image):
    ledger = Ledger(tmp_path)
    ledger.append(flag(image), image, TASK)
    with (ledger.folder / "metadata.csv").open("ab") as file:
        file.write(b"\xff\xfe\n")
    html = look_back(History(tmp_path), "phantom", image.sha256)
    assert "Earlier flags unknown" in html and str(tmp_path) not in html


@pytest.mark.parametrize(("count", "tag"), [(1, "<p "), (3, "<details ")])
def test_one_line_with_the_rest_behind_it(count, tag):
    known = [Earlier(f"f{k}", "2026-03-04T05:06:07.000+00:00", f"R{k}", "Lung_Opacity", "open") for k in range(count)]
    html = render_earlier(known)
    assert html.startswith(tag)
    assert all(text in html for text in ("Lung Opacity", "R0", ">2026-03-04<", ">open<"))
    assert (f"and {count - 1} more" in html) == (count > 1)
    assert render_earlier([]) == ""


def test_what_counts_comes_first_and_what_does_not_is_struck_out():
    known = [
        Earlier("f2", "2026-01-03", "CD", "Nodule", "withdrawn", "CD"),
        Earlier("f1", "2026-01-02", "CD", "Normal", "rejected", "Chief"),
        Earlier("f0", "2026-01-01", "AB", "Effusion", "accepted", "Chief"),
    ]
    html = render_earlier(known)
    assert html.index("<b>Effusion</b>") < html.index("<s>Nodule</s>") < html.index("<s>Normal</s>")
    assert '>accepted</span> by <bdi translate="no">Chief<' in html and ">withdrawn<" in html


@pytest.mark.parametrize(
    ("said", "differ"),
    [
        ([("AB", "Nodule", "open"), ("CD", "Normal", "accepted")], True),
        ([("AB", "Nodule", "open"), ("CD", "Normal", "rejected")], False),
        ([("AB", "Nodule", "open"), ("AB", "Normal", "open")], False),  # the last word of each counts
        ([("AB", "Nodule", "open"), ("CD", "Nodule", "open"), ("CD", "Normal", "open")], False),
    ],
)
def test_that_readers_differ_is_said_first_and_never_cut_off(said, differ):
    html = render_earlier([Earlier("f", "2026-01-01", reader, label, status) for reader, label, status in said])
    assert ("readers differ" in html) == differ
    assert html.index("Flagged as") < html.index('</span> <span class="sr-more">')  # which stands outside what is cut
    if differ:
        assert html.index("readers differ") < html.index("Flagged as")


def test_texts_from_outside_are_escaped():
    bad = "<img src=x onerror=alert(1)>"
    html = render_earlier([Earlier(bad, bad, bad, bad, bad, "B")]) + earlier.render_withdrawn(bad, bad)
    assert "<img" not in html
