"""The reading page in a real browser: by keys alone, blinded, at every size, for every reader."""

import csv
import json
import threading
from dataclasses import replace
from pathlib import Path

import gradio as gr
import pytest

from reading_room import app as app_module
from reading_room import models, panels, streams
from reading_room.desk import Shown
from reading_room.intake import Case
from tests.browser.chromium import (
    DESK,
    NEEDS_CHROMIUM,
    PHONE,
    WIDE,
    choose_method,
    give_file,
    leave,
    opened,
    wait_for_maps,
)
from tests.browser.wire import tapped
from xray_models import attribution
from xray_models.images import encode_png, from_pixels
from xray_models.panel import Panel

pytestmark = NEEDS_CHROMIUM


@pytest.fixture
def other_file(tmp_path, lesion):
    path = tmp_path / "other.png"
    path.write_bytes(encode_png(from_pixels(lesion[0].pixels[:, ::-1].copy())))
    return path


def test_a_receipt_is_taken_once_the_end_of_the_last_stream_was(room):
    """`streams.js` with another server: one whose news of the end are slow."""
    script = """async script => {
      const headers = {"x-stream": "7", "x-ended-stream": "7"}, sent = [], taken = [];
      const open = () => fetch(new Request("http://room/queue/data?session_hash=a", {signal: reading.signal}));
      window.fetch = async (request, options) => {
        sent.push(new Headers(options?.headers).get("x-follows-streams"));
        return new Response("{}", {headers});
      };
      (0, eval)(script);
      let reading = new AbortController();
      await open();
      const join = () => fetch("http://room/queue/join", {method: "POST", headers: {"content-type": "a"}});
      const receipt = join().then(() => taken.push("held"));
      await new Promise(resolve => setTimeout(resolve, 100));
      taken.push("end");
      reading.abort();
      await receipt;
      headers["x-stream"] = "8";
      reading = new AbortController();
      const stream = await open();
      await join(); // which waits for no stream that is newer
      headers["x-ended-stream"] = "8";
      const late = join().then(() => taken.push("late"));
      await new Promise(resolve => setTimeout(resolve, 300));
      taken.push(await stream.text()); // read to its end, of which no abort tells
      await Promise.race([late, new Promise(resolve => setTimeout(resolve, 5000))]);
      return [...taken, ...sent];
    }"""
    with opened(room[1], DESK) as page:
        blank = page.context.new_page()  # where gradio has no requests of its own
        found = blank.evaluate(script, Path(streams.__file__).with_suffix(".js").read_text(encoding="utf-8"))
    assert found == ["end", "held", "{}", "late", None, "1", None, "1", "1"]


def test_the_keyboard_alone_flags_with_boxes(room, file):
    held, url = room
    with opened(url, DESK) as page:
        give_file(page, file)
        wait_for_maps(page)
        page.keyboard.press("n")
        page.keyboard.press("Alt+ArrowLeft")
        drawn = json.loads(page.evaluate("() => secondRead.regions"))["boxes"]
        keys = ["3", "f", "J", "R", "Enter"]  # label, to the empty name, the name, save
        for key in keys:
            page.keyboard.press(key)
        assert len(keys) <= 6
        said = page.wait_for_selector(".sr-saved", timeout=20_000).inner_text()
        page.locator(".vw-stage").focus()
        page.keyboard.press("1")
        page.keyboard.press("Enter")  # two keys from now on: the name is known
        page.wait_for_function("old => document.querySelector('.sr-saved')?.innerText !== old", arg=said)
        page.keyboard.press("Enter")
        page.wait_for_selector("#flag-status .sr-error")  # a third Enter has no label to save

        # keys rest while a text is typed
        before = page.evaluate("() => JSON.stringify([secondRead.geometry, secondRead.tool, secondRead.inverted])")
        page.locator("#flag-comment textarea, #flag-comment input").click()
        page.keyboard.type("ribs? 12 x ", delay=5)
        now = page.evaluate("() => JSON.stringify([secondRead.geometry, secondRead.tool, secondRead.inverted])")
        assert now == before
        assert not page.locator(".vw-sheet").is_visible()
        page.locator(".vw-stage").focus()
        page.keyboard.press("?")
        assert "Rotate" in page.locator(".vw-sheet").inner_text()
        page.keyboard.press("?")
        page.keyboard.press("b")
        page.keyboard.press("Delete")
        assert json.loads(page.evaluate("() => secondRead.regions"))["boxes"] == []
        place = page.locator(".vw-stage").bounding_box()
        page.mouse.move(place["x"] + 300, place["y"] + 300)
        page.mouse.down()
        page.mouse.move(place["x"] + 340, place["y"] + 360, steps=3)
        page.mouse.up()
        box = json.loads(page.evaluate("() => secondRead.regions"))["boxes"][0]
        scale = page.evaluate("() => secondRead.geometry.scale")
        assert abs(box["width"] * scale - 40) < 5 and abs(box["height"] * scale - 60) < 5
    rows = list(csv.DictReader(next(held.ledger.root.glob("*/metadata.csv")).open()))
    assert [row["corrected_label"] for row in rows[-2:]] == ["Nodule", "Normal"]
    assert json.loads(rows[-2]["regions"]) == drawn and len(drawn) == 1
    assert {row["reader"] for row in rows[-2:]} == {"JR"}
    assert float(rows[-2]["seconds"]) > 0


def test_an_image_opened_meanwhile_never_shows_another_ones_opinions(room, file, other_file, lesion, monkeypatch):
    """Slow maps of the first image are asked for; while they are drawn, a second image is opened."""
    first, explain = lesion[0].sha256, attribution.explain
    begun, go_on = threading.Event(), threading.Event()

    def slowly(member, picture, *rest):
        if picture.sha256 == first and "occlusion" in rest:
            begun.set()
            go_on.wait(60)
        return explain(member, picture, *rest)

    monkeypatch.setattr(attribution, "explain", slowly)
    with opened(room[1], DESK) as page:
        give_file(page, file)
        wait_for_maps(page)
        choose_method(page, "Occlusion")
        assert begun.wait(30)
        choose_method(page, "HiResCAM")  # the last choice counts, although the one before goes on
        wait_for_maps(page)
        assert page.locator(".sr-card").first.get_attribute("data-method") == "HiResCAM"
        begun.clear()
        choose_method(page, "Occlusion")
        assert begun.wait(30)
        give_file(page, other_file)
        page.wait_for_function("old => secondRead.case.sha256 !== old", arg=first)
        page.wait_for_function("() => document.querySelectorAll('#cards .sr-card[data-map]').length === 3")
        page.wait_for_timeout(1500)  # at rest
        before = page.locator("#cards").inner_html()
        go_on.set()
        page.wait_for_timeout(1500)
        assert page.locator("#cards").inner_html() == before


OPINIONS = (
    *(b'sr-bar\\"', b"sr-bar sr-top", b"data-map=", b'sr-meter\\"'),
    *(b'sr-tag\\"', b'sr-set\\">Not ruled out', b"<small>Votes"),
)


def test_blinded_nothing_of_the_panel_is_on_the_wire_before_the_commitment(room, file, monkeypatch):
    held, url = room
    asked, ask = [], Panel.ask
    monkeypatch.setattr(Panel, "ask", lambda self, image, *kept: asked.append(1) or ask(self, image, *kept))
    options = {"extra_http_headers": {"Accept-Encoding": "identity"}}
    with tapped(url) as wire, opened(f"{wire.url}/?mode=blinded", DESK, **options) as page:
        page.wait_for_function("() => document.querySelector('#blinded input').checked")
        give_file(page, file)
        page.wait_for_selector("#commit-label", state="visible")
        page.wait_for_function("() => secondRead.plate !== null")
        choose_method(page, "Integrated Gradients")  # asks for maps: still sealed
        page.wait_for_timeout(500)
        page.locator(".vw-stage").focus()
        page.keyboard.press("Enter")  # no label yet
        page.wait_for_selector("#flag-status .sr-error")
        assert asked == []
        assert [sign for sign in OPINIONS if sign in wire.log] == []
        assert not page.locator("#flag-label").is_visible()
        page.keyboard.press("4")
        page.keyboard.press("Enter")
        wait_for_maps(page)
        assert all(sign in wire.log for sign in OPINIONS)  # so the signs are what to look for
        assert asked == [1]
        assert "Effusion, 80 %" in page.locator(".sr-first").inner_text()
        page.locator(".vw-stage").focus()
        for key in ("2", "f", "A", "Enter"):
            page.keyboard.press(key)
        page.wait_for_selector(".sr-saved")
    rows = list(csv.DictReader(next(held.ledger.root.glob("*/metadata.csv")).open()))
    row = rows[-1]
    assert (row["mode"], row["first_label"], row["first_confidence"]) == ("blinded", "Effusion", "0.8")
    assert row["corrected_label"] == "Consolidation"


# Text of too little contrast (WCAG 2.1, 1.4.3) on the nearest opaque background.
FAINT = """() => {
  const canvas = new OffscreenCanvas(1, 1).getContext('2d', { willReadFrequently: true });
  const parse = colour => {
    canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const light = ([r, g, b]) => [r, g, b].map(v => v / 255)
    .map(v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = node => {
    for (; node; node = node.parentElement) {
      const colour = parse(getComputedStyle(node).backgroundColor);
      if (colour[3] > 200) return colour;
    }
    return [0, 0, 0, 255];
  };
  const faint = [];
  for (const node of document.querySelectorAll('body *')) {
    const own = [...node.childNodes].some(child => child.nodeType === 3 && child.textContent.trim());
    if (!own || !node.checkVisibility({ visibilityProperty: true, opacityProperty: true })) continue;
    const [a, b] = [light(parse(getComputedStyle(node).color)), light(behind(node))];
    const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (contrast < 4.5) faint.push([node.textContent.trim().slice(0, 30), contrast.toFixed(2)]);
  }
  return faint;
}"""
UNNAMED = """() => [...document.querySelectorAll('button, input:not([type=file]), select, textarea')]
  .filter(node => node.checkVisibility() && !(node.getAttribute('aria-label') || node.innerText?.trim() || node.title
    || node.labels?.length || node.querySelector?.('img[alt]:not([alt=""])')))
  .map(node => node.outerHTML.slice(0, 160))"""


@pytest.mark.parametrize("size", [DESK, WIDE, PHONE], ids=["desk", "wide", "phone"])
def test_the_page_is_made_for_its_size(room, file, size):
    phone = size is PHONE
    with opened(room[1], size, has_touch=phone) as page:
        give_file(page, file)
        wait_for_maps(page)
        stage = page.locator(".vw-stage").bounding_box()
        assert page.evaluate("document.documentElement.scrollWidth") <= size["width"]
        if phone:
            assert stage["width"] > 0.9 * size["width"] and stage["y"] + stage["height"] < size["height"]
            assert page.locator(".sr-card").first.bounding_box()["width"] > 0.85 * size["width"]
        else:
            assert stage["width"] * stage["height"] > 0.38 * size["width"] * size["height"]  # the image is the hero
            for selector in (".sr-consensus", "#flag-save", ".vw-overlay"):
                box = page.locator(selector).bounding_box()
                assert box["y"] + box["height"] <= size["height"], selector
        assert page.evaluate(FAINT) == []
        assert page.evaluate(UNNAMED) == []


def test_another_page_opens_a_case_here(untrained, tmp_path, image, monkeypatch):
    def build_page(room, _, on_open):
        opened = gr.State(None)
        on_open(opened)
        room.cases.put("phantom", Case(image, ""))
        gr.Button("open").click(lambda: Shown("phantom", image.sha256, 0.0), None, opened)

    monkeypatch.setattr(panels, "load_tasks", lambda: {"phantom": untrained})
    monkeypatch.setitem(app_module.PAGES, "Other", build_page)
    app = app_module.build_app(tmp_path, "phantom")
    _, url, _ = app.launch(prevent_thread_lock=True, quiet=True, server_name="127.0.0.1", **app_module.launch_options())
    try:
        with opened(url, DESK) as page:
            page.get_by_role("button", name="Understood").click()  # there is no room for a fifth tab beside the notice
            page.get_by_role("tab", name="Other").click()
            page.keyboard.press("i")  # keys rest on other pages
            page.get_by_role("button", name="open", exact=True).click()
            wait_for_maps(page)
            assert page.locator(".vw-stage").is_visible()
            assert page.evaluate("() => [secondRead.case.sha256, secondRead.inverted]") == [image.sha256, False]
            assert page.evaluate("() => document.documentElement.scrollHeight") <= DESK["height"]
    finally:
        app.close()


def test_the_other_pages_go_along_with_the_task_and_a_comment_stays_with_its_image(
    untrained, file, tmp_path, monkeypatch
):
    other = replace(untrained, name="other", title="Other task")
    monkeypatch.setattr(panels, "load_tasks", lambda: {"phantom": untrained, "other": other})
    app = app_module.build_app(tmp_path, "phantom")
    _, url, _ = app.launch(prevent_thread_lock=True, quiet=True, server_name="127.0.0.1", **app_module.launch_options())
    try:
        with opened(url, DESK) as page:
            give_file(page, file)
            wait_for_maps(page)
            page.keyboard.press("2")
            comment = page.locator("#flag-comment textarea, #flag-comment input")
            comment.fill("a clip on the left")
            page.locator("#task input").click()
            page.get_by_role("option", name="Other task").click()
            page.wait_for_function("() => !document.querySelector('#flag-label input:checked')")
            wait_for_maps(page)
            assert comment.input_value() == "a clip on the left"
            for title, field in (("Worklist", "#list-task input"), ("Models", "#models-task input")):
                page.get_by_role("tab", name=title).click()
                page.wait_for_function("(field) => document.querySelector(field).value === 'Other task'", arg=field)
            page.locator("#models-table", has_text="Models of Other task").wait_for()
    finally:
        app.close()


def test_a_models_name_opens_its_card(room, file, monkeypatch):
    monkeypatch.setattr(models, "show_card", lambda task, model, _: f"What {model} of {task.name} is.")
    with opened(room[1], DESK) as page:
        page.locator("#cards .sr-about").first.click()  # before there is an image
        page.locator("#models-card", has_text="What simple_cnn of phantom is.").wait_for()
        page.get_by_role("tab", name="Read", exact=True).click()
        give_file(page, file)
        wait_for_maps(page)
        page.get_by_role("heading", name="ResNet-18").get_by_role("button").press("Enter")
        page.locator("#models-card", has_text="What resnet18 of phantom is.").wait_for()
        assert page.get_by_role("tab", name="Models").get_attribute("aria-selected") == "true"
        page.get_by_role("tab", name="Read", exact=True).click()
        assert not page.evaluate("() => secondRead.map.on")  # and no heatmap


def test_back_and_forward_go_from_page_to_page_and_a_reload_stays(room, file):
    def shows(name):
        page.wait_for_function(
            "name => document.querySelector('#pages [role=tab][aria-selected=true]')?.dataset.tabId === name", arg=name
        )
        assert page.url.partition("#")[2] == ("" if name == "read" else name)

    with opened(room[1], DESK) as page:
        give_file(page, file)
        wait_for_maps(page)
        page.get_by_role("heading", name="ResNet-18").get_by_role("button").click()
        shows("models")
        page.go_back()
        shows("read")
        assert page.locator("#cards .sr-layer").count() == 3  # the reading is still there
        page.go_forward()
        shows("models")
        leave(page)
        shows("models")
        page.locator("#models-table tbody tr").first.wait_for()
        page.get_by_role("tab", name="Worklist").click()
        shows("worklist")
    with opened(f"{room[1]}/#nowhere", DESK) as page:
        assert page.get_by_role("tab", name="Read", exact=True).get_attribute("aria-selected") == "true"


def test_a_link_opens_the_page_with_its_task(untrained, tmp_path, monkeypatch):
    labels = ("as usual", *untrained.labels[1:])
    other = replace(untrained, name="other", title="Other task", labels=labels, models=untrained.models[:1])
    monkeypatch.setattr(panels, "load_tasks", lambda: {"phantom": untrained, "other": other})
    app = app_module.build_app(tmp_path, "phantom")
    _, url, _ = app.launch(prevent_thread_lock=True, quiet=True, server_name="127.0.0.1", **app_module.launch_options())
    try:
        with opened(f"{url}?task=other", DESK) as page:
            page.wait_for_function("() => document.querySelector('#task input').value === 'Other task'")
            page.locator("#flag-label", has_text="as usual").wait_for()
            page.wait_for_function("() => document.querySelectorAll('#cards .sr-card').length === 1")
            page.get_by_role("tab", name="Worklist").click()
            page.wait_for_function("() => document.querySelector('#list-task input').value === 'Other task'")
        with opened(f"{url}?task=othr", DESK) as page:
            page.locator("#viewer .sr-error, .vw-stage .sr-error", has_text="Did you mean 'other'?").wait_for()
            assert page.locator("#task input").input_value() == untrained.title
    finally:
        app.close()


def test_what_was_said_of_one_image_does_not_go_along_to_the_next(room, file, other_file):
    with opened(room[1], DESK) as page:
        give_file(page, file)
        wait_for_maps(page)
        page.locator("#flag-reader input, #flag-reader textarea").fill("Ann")
        page.locator("#flag-comment input, #flag-comment textarea").fill("of the first")
        page.locator("#flag-confidence input[type=number]").fill("20")
        page.locator(".vw-stage").focus()
        page.keyboard.press("2")
        choose_method(page, "Grad-CAM")
        page.wait_for_timeout(500)
        page.locator("#method input").focus()  # leaving a list is no choice: nothing is read again or cleared
        page.keyboard.press("Tab")
        since = page.evaluate("() => secondRead.case.opened")
        page.locator("#task input").focus()
        page.keyboard.press("Tab")
        page.wait_for_timeout(1500)
        assert page.evaluate("() => secondRead.case.opened") == since
        assert page.locator("#flag-label input:checked").count() == 1
        give_file(page, other_file)
        page.wait_for_function("() => !document.querySelector('#flag-label input:checked')")
        wait_for_maps(page)
        entries = [page.locator(f"#flag-{name} input, #flag-{name} textarea").first for name in ("reader", "comment")]
        assert [entry.input_value() for entry in entries] == ["Ann", ""]
        assert page.locator("#flag-confidence input[type=number]").input_value() == "80"
