"""Flags in a real browser: taken back by key and by button, told when the image comes again; the notice."""

import numpy as np
import pytest

from tests.browser.chromium import DESK, NEEDS_CHROMIUM, PHONE, give_file, leave, opened, wait_for_maps
from tests.browser.wire import tapped
from xray_models.flags import read_flags
from xray_models.images import encode_png, from_pixels

pytestmark = NEEDS_CHROMIUM


@pytest.fixture
def image(lesion):
    """An image that nobody has flagged, at every try of a test."""
    pixels = lesion[0].pixels.copy()
    pixels[:2, :16] = np.random.default_rng().integers(0, 256, (2, 16))
    return from_pixels(pixels)


@pytest.fixture
def file(tmp_path, image):
    path = tmp_path / "image.png"
    path.write_bytes(encode_png(image))
    return path


def rows(held, image):
    """The rows of the ledger about an image, as they are on the disk."""
    known = read_flags(held.ledger.root)
    return known[known["image_sha256"] == image.sha256].to_dict("records")


def save(page, key, reader):
    """Flags the image that is shown; returns the flag's id."""
    before = page.locator("#flag-status").inner_text()
    page.get_by_label("Reader", exact=True).fill(reader)
    page.locator(".vw-stage").focus()
    page.keyboard.press(key)
    page.keyboard.press("Enter")
    page.wait_for_function(
        "old => { const said = document.querySelector('.sr-saved'); return said && said.innerText !== old }",
        arg=before,
    )
    return page.locator(".sr-saved").inner_text().split("·")[1].strip()


def test_a_flag_is_taken_back_and_told_when_the_image_comes_again(room, file, image):
    held, url = room
    with opened(url, DESK) as page:
        page.keyboard.press("u")
        assert "nothing to undo" in page.wait_for_selector("#flag-status .sr-error").inner_text()
        give_file(page, file)
        wait_for_maps(page)
        assert not page.locator("#flag-undo").is_visible() and not page.locator(".sr-earlier").is_visible()
        confidence = page.locator("#flag-confidence input[type=number]")
        confidence.fill("65")
        confidence.press("Tab")
        confidence.fill("")  # which gradio takes for 0 %
        first = save(page, "3", "JR")
        assert float(rows(held, image)[0]["confidence"]) == 0.65
        undo, said = page.locator("#flag-undo").bounding_box(), page.locator(".sr-saved").bounding_box()
        assert abs(undo["y"] + undo["height"] / 2 - said["y"] - said["height"] / 2) < 6  # beside what it undoes
        assert undo["y"] + undo["height"] <= DESK["height"]
        assert page.locator(".sr-earlier").inner_text().startswith("Flagged as Nodule · JR · 2")

        page.keyboard.press("u")
        page.wait_for_selector(".sr-back")
        assert [(row["decides"], row["status"], row["reason"]) for row in rows(held, image)] == [
            ("", "open", "wrong label"),
            (first, "rejected", "withdrawn"),
        ]
        assert "withdrawn" in page.locator(".sr-earlier").inner_text()
        assert not page.locator("#flag-undo").is_visible()
        page.keyboard.press("u")
        assert "withdrawn already" in page.wait_for_selector("#flag-status .sr-error").inner_text()
        assert len(rows(held, image)) == 2

        second = save(page, "4", "JR")
        page.wait_for_selector(".sr-more")
        page.locator("#flag-undo").click()
        page.wait_for_selector(".sr-back")
        assert rows(held, image)[-1]["decides"] == second
        save(page, "2", "JR")
        page.get_by_label("Comment (nothing of the patient)").focus()
        page.keyboard.press("u")  # typed, not done
        page.wait_for_timeout(300)
        assert len(rows(held, image)) == 5

        page.reload()  # the same reader after a reload: told of the own flag, which can still be undone
        give_file(page, file)
        page.wait_for_selector(".sr-saved")
        assert page.locator(".sr-saved").inner_text().startswith("Your flag: Consolidation")
        wait_for_maps(page)
        page.locator("#flag-undo").click()
        page.wait_for_selector(".sr-back")
        assert rows(held, image)[-1]["reason"] == "withdrawn"
        save(page, "2", "JR")

    with opened(url, DESK) as page:  # another reader: told of the flag, and cannot undo it
        give_file(page, file)
        wait_for_maps(page)
        assert page.locator(".sr-earlier summary").inner_text().startswith("Flagged as Consolidation · JR")
        page.locator(".sr-earlier summary").click()
        assert page.locator(".sr-earlier li").count() == 3
        page.locator(".vw-stage").focus()
        page.keyboard.press("u")
        assert "nothing to undo" in page.wait_for_selector("#flag-status .sr-error").inner_text()
        assert len(rows(held, image)) == 7
        page.locator("#example").click()  # another image: nothing of this one stays
        page.wait_for_function("() => document.querySelector('#flag-status').innerText.trim() === ''")
        wait_for_maps(page)
        assert not page.locator(".sr-earlier").is_visible()


TOLD = b'sr-earlier\\"'  # as a value from the server has it; the style sheet's has no quotation mark


def see_tables_closed(page):
    for title, table in (("Review", "#review-table"), ("Worklist", "#list-table")):
        page.get_by_role("tab", name=title).click()
        page.wait_for_function(
            "id => document.querySelector(id)?.innerText.includes('while you read blinded')", arg=table
        )
        assert not page.locator(".sr-filters #review-status, .sr-filters #list-show").locator("visible=true").count()
    assert not page.locator("#review-out, #review-agreement, #review-retraining").count()


def test_blinded_no_earlier_flag_is_on_the_wire_before_the_commitment(room, file, image):
    held, url = room
    held.read(str(file), "phantom")
    held.flag({"task": "phantom", "image_sha256": image.sha256, "reader": "Zebra", "corrected_label": "Effusion"})
    options = {"extra_http_headers": {"Accept-Encoding": "identity"}}
    with tapped(url) as wire, opened(f"{wire.url}/?mode=blinded", DESK, **options) as page:
        page.wait_for_function("() => document.querySelector('#blinded input').checked")
        give_file(page, file)
        page.wait_for_selector("#commit-label", state="visible")
        page.wait_for_function("() => secondRead.plate !== null")
        page.locator(".vw-stage").focus()
        page.keyboard.press("u")  # answers, but not with the image's flags
        page.wait_for_selector("#flag-status .sr-error")
        assert TOLD not in wire.log and not page.locator(".sr-earlier").is_visible()
        see_tables_closed(page)
        page.get_by_role("tab", name="Read", exact=True).click()
        assert b"Zebra" not in wire.log  # nor does the table of flags say anything
        page.locator(".vw-stage").focus()
        page.keyboard.press("1")
        page.keyboard.press("Enter")
        page.wait_for_selector(".sr-earlier")
        assert TOLD in wire.log and "Zebra" in page.locator(".sr-earlier").inner_text()


def test_the_switch_for_blinded_reading_closes_the_tables_and_opens_them_again(room, file, image):
    held, url = room
    held.read(str(file), "phantom")
    held.flag({"task": "phantom", "image_sha256": image.sha256, "reader": "Zebra", "corrected_label": "Effusion"})
    with opened(url, DESK) as page:
        for _ in range(2):
            page.get_by_role("tab", name="Review").click()
            page.wait_for_function("() => document.querySelector('#review-table').innerText.includes('Zebra')")
            page.get_by_role("tab", name="Read", exact=True).click()
            page.get_by_label("Read blinded").click()
            see_tables_closed(page)
            page.get_by_role("tab", name="Read", exact=True).click()
            page.get_by_label("Read blinded").click()
        for title, control in (("Review", "#review-status"), ("Worklist", "#list-show")):
            page.get_by_role("tab", name=title).click()
            page.locator(control).wait_for()


@pytest.mark.parametrize("size", [DESK, PHONE], ids=["desk", "phone"])
def test_the_notice_is_there_until_it_is_understood(room, size):
    with opened(room[1], size) as page:
        page.wait_for_selector(".sr-notice", state="visible")
        text = page.locator(".sr-notice").inner_text()
        assert all(part in text for part in ("research and teaching", "Not a medical device", "patients’ care"))
        page.evaluate("() => secondRead.followCards()")  # as when the cards come after the viewer
        assert page.evaluate("() => document.activeElement === document.body")
        assert page.evaluate("() => document.documentElement.scrollWidth") <= size["width"]
        before = page.locator(".vw-stage").bounding_box()
        box = page.locator(".sr-notice").bounding_box()
        for selector in ("#file", "#example", "#task", "#pages button[role=tab]"):  # it covers nothing
            other = page.locator(selector).first.bounding_box()
            assert (
                other["x"] + other["width"] <= box["x"]
                or other["y"] >= box["y"] + box["height"]
                or other["y"] + other["height"] <= box["y"]
            ), selector
        page.get_by_role("button", name="Understood").focus()
        page.keyboard.press("Enter")
        page.wait_for_selector(".sr-notice", state="hidden")
        after = page.locator(".vw-stage").bounding_box()
        if size is DESK:
            assert after == before  # nothing moves
        assert page.evaluate("() => document.activeElement.className") == "vw-stage"
        assert page.locator(".sr-head .sr-disclaimer").is_visible()
        page.reload()
        page.wait_for_selector("#cards .sr-card", state="attached")
        page.wait_for_timeout(500)
        assert not page.locator(".sr-notice").is_visible()
        if size is DESK:
            assert page.locator(".vw-stage").bounding_box() == before
            assert page.evaluate("() => document.documentElement.scrollHeight") <= DESK["height"]


def test_a_reload_keeps_the_image_and_what_was_said_of_it(room, file):
    """Also that by which gradio comes back after a break in the connection; another reader's tab opens nothing."""
    held, url = room
    with opened(url, DESK) as page:
        give_file(page, file)
        wait_for_maps(page)
        page.keyboard.press("3")
        page.keyboard.press("n")
        page.locator("#flag-comment textarea").fill('blurred & "odd"')
        shown, boxes = (page.evaluate(f"() => secondRead.{part}") for part in ("case.sha256", "marks.regions"))
        leave(page)
        wait_for_maps(page)
        assert page.evaluate("() => secondRead.case.sha256") == shown
        assert page.locator("#flag-comment textarea").input_value() == 'blurred & "odd"'
        assert page.locator("#flag-label input").nth(2).is_checked()
        assert len(boxes) == 1 and page.evaluate("() => secondRead.marks.regions") == boxes
        page.context.clear_cookies()  # another reader, as after a log-out
        leave(page)
        page.wait_for_selector("#cards .sr-card", state="attached")
        page.wait_for_timeout(1000)
        assert page.evaluate("() => secondRead.case.state") == "empty"


def test_earlier_flags_take_no_height_from_the_cards(room, file):
    _, url = room
    with opened(url, DESK) as page:
        give_file(page, file)
        wait_for_maps(page)
        cards = page.locator(".sr-right > .sr-scroll")
        before = cards.bounding_box()["height"]
        save(page, "1", "ann")
        earlier, form = (
            page.locator(part).first.bounding_box() for part in (".sr-earlier", ".sr-form:has(#flag-label)")
        )
        assert form["y"] <= earlier["y"] <= earlier["y"] + earlier["height"] <= form["y"] + 34  # on its first line
        answer = page.locator(".sr-answer").bounding_box()["height"]
        assert before - cards.bounding_box()["height"] <= answer + 6 + 1  # the gap between two parts
        covered = page.locator("#flag-label label").first.bounding_box()
        assert earlier["y"] + earlier["height"] <= covered["y"]
