"""One Chromium for the browser tests, and what every page must keep to: no other host, no broken script."""

import re
import shutil
from contextlib import contextmanager

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
NEEDS_CHROMIUM = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine (Debian: apt install chromium)"),
    pytest.mark.flaky(reruns=2),  # a browser on a busy machine misses a beat; a fault of ours fails three times
]
DESK, WIDE, PHONE = {"width": 1440, "height": 900}, {"width": 1920, "height": 1080}, {"width": 390, "height": 844}
TABLET = {"width": 1024, "height": 1366}


class _Running:
    """The Chromium of a file of tests, started once: that takes longer than most of what they look at."""

    def __init__(self):
        self.playwright = self.browser = None

    @contextmanager
    def held(self):
        """Inside, pages can be opened."""
        from playwright.sync_api import sync_playwright

        with sync_playwright() as self.playwright:
            try:
                yield
            finally:
                self.playwright = self.browser = None

    def new_context(self, **options):
        """A Chromium without a past; a new one takes the place of one that broke down."""
        if self.browser is None or not self.browser.is_connected():
            self.browser = self.playwright.chromium.launch(
                executable_path=CHROMIUM,
                args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"],
            )
        return self.browser.new_context(**options)

    def close_contexts(self):
        for context in self.browser.contexts:
            context.close()


RUNNING = _Running()


@contextmanager
def opened(url, size, script="", **options):
    """A page in Chromium; at its end nothing may have gone to another host or broken in the console.

    `script` runs before the page's own.
    """
    asked, errors = [], []
    page = RUNNING.new_context(viewport=size, **options).new_page()
    page.add_init_script(script)
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    try:
        visit(page, url)
        yield page
    except Exception as error:
        error.add_note(f"The page:\n{page.inner_text('body')}\nIts console: {errors}\nIts requests: {asked[-20:]}")
        raise
    finally:
        RUNNING.close_contexts()
    host = re.match(r"https?://([^/?]+)", url)[1]
    web = [address for address in asked if re.match(r"(https?|wss?)://", address)]
    elsewhere = [address for address in web if not re.match(rf"(https?|wss?)://{re.escape(host)}([/?]|$)", address)]
    assert not elsewhere, elsewhere
    broken = [text for text in errors if "404" not in text]
    assert not broken, broken


def visit(page, url):
    """Opens an address; the page is there when its image, its button and its cards are."""
    page.goto(url)
    page.wait_for_selector(".vw-stage")
    page.wait_for_selector(".sr-head input[type=file]", state="attached")
    page.wait_for_selector("#cards .sr-card", state="attached")


def leave(page, url=""):
    """Goes to another address, or loads the page anew.

    The scripts of the page that goes complain of what that cuts off, which is nobody's loss: nobody hears them.
    """
    page.evaluate(
        "() => { console.error = () => {}; addEventListener('unhandledrejection', event => event.preventDefault()) }"
    )
    page.goto(url) if url else page.reload()


def give_file(page, path):
    """Opens a file as the button does; the page has taken it when it is uploaded."""
    with page.expect_response(re.compile("/upload")):
        page.set_input_files(".sr-head input[type=file]", str(path))


def choose_method(page, title):
    """Chooses what draws the heatmaps, by the name that people see."""
    page.locator("#method input").click()
    page.get_by_role("option", name=title, exact=True).click()


def wait_for_maps(page):
    """Waits until every model's card has its heatmap, or says why not."""
    page.wait_for_function(
        "() => { const cards = [...document.querySelectorAll('.sr-card')];"
        " const done = c => c.dataset.map || c.classList.contains('sr-unavailable');"
        " return cards.length && cards.every(done) }",
        timeout=120_000,
    )
