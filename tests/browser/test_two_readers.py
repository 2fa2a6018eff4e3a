"""Two readers on one room at the same time: nobody waits for the other, and nobody sees anything of the other."""

import csv
import threading

import pytest

from tests.browser.chromium import DESK, NEEDS_CHROMIUM, choose_method, give_file, opened, visit, wait_for_maps
from xray_models import phantom
from xray_models.images import encode_png, from_pixels, read_image
from xray_models.panel import Panel

pytestmark = NEEDS_CHROMIUM
READ = "() => document.querySelectorAll('#cards .sr-ok').length"
SHARES = "bars => bars.map(bar => bar.style.getPropertyValue('--p'))"


@pytest.fixture
def files(tmp_path):
    """One image for each reader."""
    paths = [tmp_path / "first.png", tmp_path / "second.png"]
    for path, label in zip(paths, ("Nodule", "Effusion"), strict=True):
        path.write_bytes(encode_png(from_pixels(phantom.draw_phantom(label, 8, size=200).pixels)))
    return paths


def beside(page, url):
    """Another reader's page: the same Chromium, but nothing in common with the first."""
    other = page.context.browser.new_context(viewport=DESK).new_page()
    visit(other, url)
    return other


def flag(page, name, label):
    page.locator(".vw-stage").focus()
    page.keyboard.press(str(1 + phantom.LABELS.index(label)))
    page.locator("#flag-reader textarea, #flag-reader input").fill(name)
    page.locator("#flag-save").click()


def read_rows(held):
    return [row for path in held.ledger.root.glob("*/metadata.csv") for row in csv.DictReader(path.open())]


def test_two_readers_read_and_flag_at_once(room, files, monkeypatch):
    held, url = room
    meeting, met, ask = threading.Barrier(2), threading.Event(), Panel.ask

    def ask_together(self, *args):
        meeting.wait(timeout=20)  # breaks when one reading waits until the other is done
        met.set()
        return ask(self, *args)

    images = [read_image(path) for path in files]
    expected = [held.panels.get("phantom").read(image) for image in images]
    monkeypatch.setattr(Panel, "ask", ask_together)
    with opened(url, DESK) as first:
        pages = [first, beside(first, url)]
        for page, file in zip(pages, files, strict=True):
            give_file(page, file)
        assert met.wait(timeout=30)
        for page, image, reading in zip(pages, images, expected, strict=True):
            wait_for_maps(page)
            page.wait_for_function("() => secondRead.plate !== null")
            assert page.evaluate("() => secondRead.case.sha256") == image.sha256
            said = page.locator("#cards .sr-card .sr-label").all_inner_texts()
            assert said == [opinion.label.replace("_", " ") for opinion in reading.opinions]
            shares = page.eval_on_selector_all("#cards .sr-bar i", SHARES)
            assert shares == [f"{p:.4f}" for opinion in reading.opinions for p in opinion.probs.values()]
        assert page.locator(".sr-saved").count() == 0

        for page, name, label in zip(pages, ("AB", "CD"), ("Normal", "Nodule"), strict=True):
            flag(page, name, label)
        ids = [page.wait_for_selector(".sr-saved").inner_text() for page in pages]
        assert "Normal" in ids[0] and "Nodule" in ids[1]
    rows = {row["reader"]: row for row in read_rows(held)}
    for name, label, image, shown in zip(("AB", "CD"), ("Normal", "Nodule"), images, ids, strict=True):
        assert rows[name]["image_sha256"] == image.sha256
        assert rows[name]["corrected_label"] == label
        assert rows[name]["flag_id"] in shown


def test_one_readers_commitment_unseals_nothing_for_the_other(room, files):
    url = f"{room[1]}/?mode=blinded"
    with opened(url, DESK) as first:
        pages = [first, beside(first, url)]
        for page in pages:
            give_file(page, files[0])  # the same image
        for page in pages:
            page.wait_for_selector("#commit-label", state="visible")
        first.locator(".vw-stage").focus()
        first.keyboard.press("2")
        first.keyboard.press("Enter")
        wait_for_maps(first)
        assert first.evaluate(READ) > 0

        second = pages[1]
        choose_method(second, "Grad-CAM")  # asks for maps
        second.wait_for_timeout(500)
        assert second.evaluate(READ) == 0
        assert second.locator("#cards [data-map], #cards .sr-bar").count() == 0
        assert "Sealed" in second.locator("#consensus").inner_text()
        assert second.locator("#commit-label").is_visible() and not second.locator("#flag-label").is_visible()
        second.locator(".vw-stage").focus()
        second.keyboard.press("4")
        second.keyboard.press("Enter")
        wait_for_maps(second)
        own = [page.locator(".sr-first").inner_text() for page in pages]
        assert "Consolidation" in own[0] and "Effusion" in own[1]
