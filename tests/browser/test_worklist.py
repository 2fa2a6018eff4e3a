"""From a worklist to a saved flag, and on to its review, in a browser."""

import csv

from PIL import Image

from tests.browser.chromium import DESK, NEEDS_CHROMIUM, opened, wait_for_maps
from xray_models import phantom

pytestmark = NEEDS_CHROMIUM
UPRIGHT = {"width": 820, "height": 1180}  # a tablet


def test_a_case_goes_from_the_worklist_to_a_flag_and_its_review(room, tmp_path):
    held, url = room
    for number in range(5):
        pixels = phantom.draw_phantom(phantom.LABELS[number % 4], 700 + number, size=96).pixels
        Image.fromarray(pixels).save(tmp_path / f"Doe_John_{number}.png")
    (tmp_path / "Doe_Jane.png").write_bytes(b"\x89PNG\r\n\x1a\nno more")
    with opened(url, DESK) as page:
        asked = []
        page.on("request", lambda request: asked.append(request.url))
        page.get_by_role("tab", name="Worklist").click()
        cancel, clear = page.locator("#list-cancel"), page.locator("#list-clear")
        assert cancel.is_disabled() and clear.is_disabled()
        upload = page.locator("input[type=file][multiple]:not([webkitdirectory])").first
        upload.set_input_files(sorted(tmp_path.glob("*.png")))
        page.wait_for_function("() => document.body.innerText.includes('All read: 6 of 6')", timeout=120_000)
        page.wait_for_function("() => document.querySelector('#list-cancel').disabled")
        assert clear.is_enabled()
        assert "Doe" not in page.content()
        rows = page.get_by_role("tabpanel").locator("tbody tr")
        assert rows.count() == 6
        assert "Not read" in rows.nth(5).inner_text()
        assert page.locator("#list-order input").input_value() == "Doubt, most first"
        page.locator("#list-order input").click()
        page.get_by_role("option", name="Disagreement, most first").click()
        page.wait_for_function(
            "() => { const shown = [...document.querySelectorAll('#list-table tbody tr')].slice(0, 5)"
            ".map(row => parseFloat(row.cells[3].innerText)); return shown.every((d, k) => !k || shown[k - 1] >= d) }"
        )
        page.wait_for_function(
            "() => [...document.querySelectorAll('#list-table img')].filter(e => e.naturalWidth === 96).length === 5"
        )
        prints = [address for address in asked if "/prints/" in address]
        assert len(prints) == len(set(prints)) == 5  # however often the table was drawn

        page.get_by_role("button", name="Open").first.click()
        page.wait_for_selector(".vw-stage", state="visible")
        wait_for_maps(page)
        page.locator(".vw-stage").focus()
        for key in ("3", "f", "J", "R", "Enter"):
            page.keyboard.press(key)
        saved = page.wait_for_selector(".sr-saved").inner_text()
        written = [row for path in held.ledger.root.glob("*/metadata.csv") for row in csv.DictReader(path.open())]
        assert written[-1]["flag_id"] in saved
        assert written[-1]["corrected_label"] == "Nodule"

        here, step = page.locator("#case-place"), page.locator("#case-place .sr-step")
        first = here.inner_text()
        assert first.endswith("· 1 of 5")
        assert page.locator("#case-previous").is_disabled()
        for key, said in (("j", "· 2 of 5"), ("j", "· 3 of 5"), ("k", "· 2 of 5")):
            page.keyboard.press(key)
            here.get_by_text(said).wait_for()
            page.wait_for_function(
                "() => secondRead.case.sha256 === document.querySelector('#case-place .sr-step').dataset.sha256"
            )
        assert step.get_attribute("role") == "status"

        page.get_by_role("tab", name="Review").click()
        page.get_by_role("button", name="Load anew").click()
        page.locator("#review-table caption", has_text=f"{len(written)} flag").wait_for()
        page.get_by_role("button", name="Look").first.click()
        page.wait_for_function("id => document.body.innerText.includes(id)", arg=written[-1]["flag_id"])
        page.get_by_role("tab", name="Worklist").click()
        page.locator("#list-table tbody", has_text="JR").wait_for()

        page.get_by_role("tab", name="Review").click()
        page.locator("#review-detail").get_by_role("button", name="Open this image in the viewer").click()
        page.wait_for_selector(".vw-stage", state="visible")
        page.wait_for_function("wanted => secondRead.case.sha256 === wanted", arg=written[-1]["image_sha256"])
        page.locator("#flag-earlier", has_text="Nodule").wait_for()

        page.set_viewport_size(UPRIGHT)
        page.get_by_role("tab", name="Review").click()
        page.get_by_role("button", name="Look").first.click()  # nothing lies over it
        page.wait_for_function(
            "() => { const [above, below] = ['#review-table', '#review-detail'].map("
            "part => document.querySelector(part).getBoundingClientRect()); return above.bottom <= below.top }"
        )  # at one moment: the page may be scrolling
        page.get_by_role("tab", name="Models").click()
        card = page.locator("#models-table .sr-small").first.bounding_box()
        assert card["x"] + card["width"] < UPRIGHT["width"]
