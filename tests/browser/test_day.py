"""A day in the reading room, at every size and in both languages: two readers at once, from worklist to decision."""

import csv
import itertools
import threading

import pytest
from PIL import Image

from reading_room.languages import read_phrases
from tests.browser.chromium import DESK, NEEDS_CHROMIUM, PHONE, WIDE, give_file, leave, opened, visit, wait_for_maps
from xray_models import phantom
from xray_models.images import encode_png, from_pixels, read_image
from xray_models.panel import Panel

pytestmark = NEEDS_CHROMIUM
IMAGES = 50  # of the worklist, a broken one among them
TURKISH = read_phrases("tr")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The worklist's files."""
    made = tmp_path_factory.mktemp("list")
    for number in range(IMAGES - 1):
        pixels = phantom.draw_phantom(phantom.LABELS[number % 4], 1000 + number, size=96).pixels
        Image.fromarray(pixels).save(made / f"{number:02}.png")
    (made / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nno more")
    return made


def open_tab(page, name):
    page.get_by_role("tab", name=name, exact=True).click()


def wait_until_seen(page, selector):
    page.wait_for_function(
        "selector => { const one = document.querySelector(selector), box = one.getBoundingClientRect();"
        " return one.contains(document.elementFromPoint(box.left + 20, (box.top + box.bottom) / 2)) }",
        arg=selector,
    )


def press(page, *keys):
    page.locator(".vw-stage").focus()
    for key in keys:
        page.keyboard.press(key)


def flag(page, label, reader):
    """Flags with the keyboard alone; returns what the page says."""
    press(page, str(1 + phantom.LABELS.index(label)), "f")
    page.keyboard.type(reader)
    page.keyboard.press("Enter")
    said = page.wait_for_selector(".sr-saved").inner_text()
    wait_until_seen(page, "#flag-status")
    return said


def read_blinded(page, path):
    """Gives a label before the panel answers, then flags another one."""
    give_file(page, path)
    page.wait_for_selector("#commit-label", state="visible")
    assert page.locator("#cards .sr-bar").count() == 0
    press(page, "4", "Enter")
    wait_for_maps(page)
    assert page.locator(".sr-first").count() == 1
    return flag(page, "Consolidation", "BB")


def compare_maps(page):
    """Two models' maps in turns; then no more."""
    press(page, "ArrowRight", "ArrowRight", "c")
    page.locator('[data-act="compare"][aria-pressed="true"]').wait_for(state="attached")
    press(page, "Escape")
    page.locator('[data-act="compare"][aria-pressed="false"]').wait_for(state="attached")


def hold_the_worklist(monkeypatch):
    """Its first images are read; the others once the event that is returned is set."""
    go_on, calls, read_many = threading.Event(), itertools.count(), Panel.read_many

    def read(self, images):
        if next(calls):
            go_on.wait(60)
        return read_many(self, images)

    monkeypatch.setattr(Panel, "read_many", read)
    return go_on


def adjudicate(page, said, flag_id):
    """Looks at a flag of the review and settles its label."""
    open_tab(page, said("Review"))
    page.locator(f'#review-table button[data-key="{flag_id}"]').click()
    page.locator("#review-settled input").nth(phantom.LABELS.index("Nodule")).check()
    page.locator("#review-me :is(textarea, input)").fill("CC")
    page.locator("#review-settle").click()
    page.wait_for_selector("#review-message .sr-saved")


def read_rows(held):
    return {
        row["flag_id"]: row for path in held.ledger.root.glob("*/metadata.csv") for row in csv.DictReader(path.open())
    }


@pytest.mark.parametrize("language", ["en", "tr"])
@pytest.mark.parametrize("size", [DESK, WIDE, PHONE], ids=["desk", "wide", "phone"])
def test_two_readers_go_through_a_day(room, folder, tmp_path, monkeypatch, size, language):
    held, url = room
    reloaded = hold_the_worklist(monkeypatch)
    alone = tmp_path / "alone.png"  # of each day its own: nobody has flagged it
    seed = 2 * size["width"] + (language == "tr")
    alone.write_bytes(encode_png(from_pixels(phantom.draw_phantom("Nodule", seed, size=160).pixels)))
    before = read_rows(held)

    def said(text):
        return TURKISH[text] if language == "tr" else text

    with opened(f"{url}/?lang={language}", size, has_touch=size is PHONE) as page:
        other = page.context.browser.new_context(viewport=size).new_page()
        visit(other, f"{url}/?lang={language}&mode=blinded")
        open_tab(page, said("Worklist"))
        upload = page.locator("input[type=file][multiple]:not([webkitdirectory])").first
        upload.set_input_files(sorted(folder.glob("*.png")))
        page.wait_for_selector("#list-table tbody tr")
        assert said("All read") not in page.inner_text("#list-progress")
        leave(page)  # in the middle
        reloaded.set()
        read_blinded(other, alone)

        open_tab(page, said("Worklist"))
        page.locator("#list-progress", has_text=f"{said('All read')}: ").wait_for(timeout=90_000)
        page.locator("#list-after").click()
        page.locator("#list-table tbody tr").nth(IMAGES - 41).get_by_text(
            said("Not read")
        ).wait_for()  # the last of all
        page.locator("#list-before").click()
        page.locator("#list-table tbody tr").nth(39).wait_for()
        page.locator("#list-table tbody button").first.click()
        page.locator("#case-place", has_text=str(IMAGES - 1)).wait_for()
        page.wait_for_selector(".vw-stage", state="visible")
        wait_until_seen(page, ".vw-stage")
        wait_for_maps(page)
        compare_maps(page)
        assert said("Nodule") in flag(page, "Nodule", "AA")

        give_file(page, alone)
        page.wait_for_function("sha256 => secondRead.case.sha256 === sha256", arg=read_image(alone).sha256)
        wait_for_maps(page)
        page.locator("#flag-earlier", has_text="BB").wait_for()
        flag(page, "Effusion", "AA")
        made = {name: row for name, row in read_rows(held).items() if name not in before}
        theirs = next(name for name, row in made.items() if row["reader"] == "BB")
        adjudicate(page, said, theirs)
        assert page.evaluate("document.documentElement.scrollWidth") <= size["width"]
        assert page.evaluate("document.documentElement.lang") == language
    made = [row for name, row in read_rows(held).items() if name not in before]
    assert sorted((row["reader"], row["mode"], row["corrected_label"], row["status"]) for row in made) == [
        ("AA", "open", "Effusion", "open"),
        ("AA", "open", "Nodule", "open"),
        ("BB", "blinded", "Consolidation", "open"),
        ("CC", "open", "Consolidation", "rejected"),
        ("CC", "open", "Effusion", "rejected"),
        ("CC", "open", "Nodule", "accepted"),
    ]
    assert {row["first_label"] for row in made if row["mode"] == "blinded"} == {"Effusion"}
