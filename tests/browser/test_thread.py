"""The whole thread in a real browser: an image in, cards, heatmaps, a flag, a data set that loads."""

import os
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
from PIL import Image

from tests.browser.chromium import DESK, NEEDS_CHROMIUM, PHONE, choose_method, give_file, opened, wait_for_maps
from tests.conftest import XRAY_DATA, has_starters
from xray_models import phantom

ROOT = Path(__file__).resolve().parents[2]
pytestmark = NEEDS_CHROMIUM


@pytest.fixture(scope="module")
def dashboard(tmp_path_factory):
    """`python dashboard.py`, as a user starts it; yields its address and its ledger."""
    ledger, port = tmp_path_factory.mktemp("ledger") / "flags", 7893
    task = "covid" if has_starters("covid") else "phantom"
    command = [sys.executable, "dashboard.py", "--port", str(port), "--flags", str(ledger), "--task", task]
    log = tmp_path_factory.mktemp("log") / "dashboard.log"
    with log.open("w") as output:
        process = subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT, env={**os.environ})
        url = f"http://127.0.0.1:{port}"
        try:
            wait_for(url, process, log)
            yield url, ledger, log
        finally:
            process.terminate()
            process.wait(timeout=20)


def wait_for(url, process, log):
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        assert process.poll() is None, log.read_text()
        try:
            urllib.request.urlopen(url, timeout=2)
        except OSError:
            time.sleep(0.3)
        else:
            return
    raise AssertionError("the page did not answer: " + log.read_text())


@pytest.fixture(scope="module")
def radiograph(tmp_path_factory):
    """A real X-ray of the COVID project where there is one, else a phantom."""
    if XRAY_DATA and has_starters("covid"):
        images = sorted(Path(XRAY_DATA, "covid").glob("COVID-19_Radiography_Dataset/COVID/images/*"))
        if images:
            return images[0]
    path = tmp_path_factory.mktemp("image") / "phantom.png"
    Image.fromarray(phantom.draw_phantom("Effusion", 4).pixels).save(path)
    return path


def read_file(page, path):
    give_file(page, path)
    wait_for_maps(page)


def test_an_image_goes_in_and_a_flag_comes_out(dashboard, radiograph, tmp_path):
    url, ledger, log = dashboard
    with opened(url, DESK) as page:
        read_file(page, radiograph)
        cards = page.locator(".sr-card.sr-ok")
        assert cards.count() >= (4 if has_starters("covid") else 3)
        for index in range(cards.count()):
            card = cards.nth(index)
            label = card.locator(".sr-label").inner_text()
            assert label in card.locator(".sr-bar.sr-top span").inner_text()
            assert card.locator(".sr-bar i").count() == card.locator(".sr-bar b").count() >= 4
            assert card.locator(".sr-layer").evaluate("img => img.complete && img.naturalWidth > 0")
            box = card.bounding_box()
            assert (
                box["y"] + box["height"] <= page.locator("#flag-label").bounding_box()["y"]
            )  # all cards without scrolling
        assert page.locator(".sr-consensus .sr-label").inner_text()
        assert page.locator(".sr-meter").is_visible()
        for selector in (".vw-stage", ".vw-overlay", "#flag-save"):
            box = page.locator(selector).bounding_box()
            assert box["y"] + box["height"] <= DESK["height"], selector

        page.get_by_label("Viral Pneumonia" if has_starters("covid") else "Nodule", exact=True).locator(
            "visible=true"
        ).check()
        page.get_by_label("Reader", exact=True).fill("AB")
        page.get_by_label("Comment (nothing of the patient)").fill("left base")
        page.locator("#flag-save").click()
        flag_id = page.wait_for_selector(".sr-saved", timeout=20_000).inner_text().split("·")[1].strip()
        with page.expect_download() as download:
            page.locator("#flag-download").click()
        assert flag_id in Path(download.value.path()).read_text()

    from datasets import load_dataset

    rows = load_dataset("imagefolder", data_dir=str(ledger), cache_dir=str(tmp_path))["train"]
    row = next(row for row in rows if row["flag_id"] == flag_id)
    assert row["corrected_label"] == ("Viral Pneumonia" if has_starters("covid") else "Nodule")
    assert row["image"].size == Image.open(radiograph).size
    assert radiograph.stem not in log.read_text()


def test_another_method_and_the_example(dashboard):
    url, _, _ = dashboard
    with opened(url, DESK) as page:
        page.locator("#example").click()
        page.wait_for_selector(".sr-card.sr-ok .sr-layer, .sr-card.sr-unavailable", timeout=60_000)
        page.wait_for_function("() => document.querySelector('#task input').value === 'Synthetic chest phantom'")
        if not has_starters("phantom"):
            pytest.skip("no starter models of phantom")
        page.wait_for_function("() => document.querySelectorAll('.sr-layer').length === 3", timeout=60_000)
        page.locator(".vw-stage").focus()
        page.keyboard.press("Space")
        page.wait_for_selector("[data-legend=map]", state="visible")
        choose_method(page, "Integrated Gradients")
        page.wait_for_function(
            "() => { const maps = document.querySelectorAll('.sr-card[data-map]');"
            " return maps.length === 3 && [...maps].every(m => m.dataset.method === 'Integrated Gradients') }",
            timeout=120_000,
        )
        page.wait_for_function("() => document.querySelector('[data-legend=map]').innerText.includes('Integrated')")
        assert (
            "against" in page.locator("[data-legend=map]").inner_text()
        )  # the map on the image follows; this one has a sign


def test_the_worst_input_gets_a_sentence(dashboard, tmp_path):
    url, _, _ = dashboard
    bad = tmp_path / "<img src=x onerror=alert(1)>.png"
    bad.write_text("this is not an image")
    with opened(url, DESK) as page:
        page.get_by_label("Normal", exact=True).locator("visible=true").check()
        page.locator("#flag-save").click()
        assert "no image to flag" in page.wait_for_selector("#flag-status .sr-error").inner_text()
        give_file(page, bad)
        page.wait_for_selector(".vw-error", state="visible")
        assert "not an image" in page.locator(".vw-error").inner_text()


def test_it_works_on_a_phone(dashboard, radiograph):
    url, _, _ = dashboard
    with opened(url, PHONE, has_touch=True) as page:
        read_file(page, radiograph)
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
        card = page.locator(".sr-card").first.bounding_box()
        assert card["width"] > 0.85 * PHONE["width"]
