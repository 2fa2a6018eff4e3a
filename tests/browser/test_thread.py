"""The whole thread in a real browser: an image in, cards, heatmaps, a flag, a data set that loads."""

import os
import re
import shutil
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import pytest
from PIL import Image

from tests.conftest import XRAY_DATA, has_starters
from xray_models import phantom

ROOT = Path(__file__).resolve().parents[2]
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine (Debian: apt install chromium)"),
]
DESK, PHONE = {"width": 1440, "height": 900}, {"width": 390, "height": 844}


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


@contextmanager
def opened(url, size):
    """A page in Chromium; at its end nothing may have gone to another host or broken in the console."""
    from playwright.sync_api import sync_playwright

    outside, errors = [], []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM,
            args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"],
        )
        page = browser.new_page(viewport=size)
        page.on(
            "request",
            lambda request: outside.append(request.url) if re.match(r"(https?|wss?)://", request.url) else 0,
        )
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(url)
        page.wait_for_selector("#file input[type=file]", state="attached")
        yield page
        browser.close()
    host = url.removeprefix("http://")
    assert [address for address in outside if not re.match(rf"(https?|wss?)://{host}(/|$)", address)] == []
    assert errors == []


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
    page.set_input_files("#file input[type=file]", str(path))
    page.wait_for_selector(".sr-card", timeout=60_000)
    page.wait_for_function(
        "() => { const cards = [...document.querySelectorAll('.sr-card')];"
        " const done = c => c.querySelector('.sr-layer') || c.classList.contains('sr-unavailable');"
        " return cards.length && cards.every(done) }",
        timeout=120_000,
    )


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
        assert page.locator(".sr-consensus .sr-label").inner_text()
        assert page.locator(".sr-meter").is_visible()
        low = max(
            cards.nth(i).bounding_box()["y"] + cards.nth(i).bounding_box()["height"] for i in range(cards.count())
        )
        picture = page.locator(".sr-viewer img").bounding_box()
        assert max(low, picture["y"] + picture["height"]) <= DESK["height"]  # all of it without scrolling

        page.get_by_label("Viral Pneumonia" if has_starters("covid") else "Nodule", exact=True).check()
        page.get_by_label("Reader").fill("AB")
        page.get_by_label(re.compile("Comment")).fill("left base")
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


def test_method_opacity_and_example(dashboard):
    url, _, _ = dashboard
    with opened(url, DESK) as page:
        page.locator("#example").click()
        page.wait_for_selector(".sr-card.sr-ok .sr-layer, .sr-card.sr-unavailable", timeout=60_000)
        page.wait_for_function("() => document.querySelector('#task input').value === 'Synthetic chest phantom'")
        if not has_starters("phantom"):
            pytest.skip("no starter models of phantom")
        page.wait_for_function("() => document.querySelectorAll('.sr-layer').length === 3", timeout=60_000)
        first = page.locator(".sr-layer").first.get_attribute("src")
        page.get_by_label("Integrated Gradients").check()
        page.wait_for_function(
            "src => { const layers = document.querySelectorAll('.sr-layer');"
            " return layers.length === 3 && layers[0].src !== src }",
            arg=first,
            timeout=120_000,
        )
        page.locator("#opacity input[type=number]").fill("0")
        page.locator("#opacity input[type=number]").press("Enter")
        page.wait_for_function("() => getComputedStyle(document.querySelector('.sr-layer')).opacity === '0'")


def test_the_worst_input_gets_a_sentence(dashboard, tmp_path):
    url, _, _ = dashboard
    bad = tmp_path / "<img src=x onerror=alert(1)>.png"
    bad.write_text("this is not an image")
    with opened(url, DESK) as page:
        page.locator("#flag-save").click()
        assert "no image to flag" in page.wait_for_selector(".sr-error").inner_text()
        page.set_input_files("#file input[type=file]", str(bad))
        page.wait_for_selector("#viewer .sr-error")
        assert "not an image" in page.locator("#viewer .sr-error").inner_text()


def test_it_works_on_a_phone(dashboard, radiograph):
    url, _, _ = dashboard
    with opened(url, PHONE) as page:
        read_file(page, radiograph)
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
        card = page.locator(".sr-card").first.bounding_box()
        assert card["width"] > 0.85 * PHONE["width"]
