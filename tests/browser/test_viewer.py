"""The viewer in a real browser: its greys, its places, its speed."""

import base64
import dataclasses
from collections import Counter

import numpy as np
import pytest

from reading_room import viewer
from tests.browser.chromium import DESK, NEEDS_CHROMIUM, PHONE, give_file, opened, wait_for_maps
from tests.dicom_samples import read
from xray_models import attribution
from xray_models.images import from_pixels, to_display

pytestmark = NEEDS_CHROMIUM

SHOW = "async value => { await secondRead.show(value); secondRead.actual(); secondRead.draw(); }"
GREYS = """() => {
  const { geometry, stage, case: { width, height } } = secondRead;
  const { data } = stage.context.getImageData(geometry.left, geometry.top, width, height);
  let text = '';
  for (let i = 0; i < data.length; i += 4) text += String.fromCharCode(data[i]);
  return btoa(text);
}"""


def show(page, room, image, opened=0.0):
    """Shows an image on the canvas without asking the models."""
    page.evaluate(SHOW, viewer.show_case(image, room.plates.offer(image), opened))


def read_greys(page, image):
    """What is on the canvas at one to one, (H, W) uint8."""
    page.evaluate("() => secondRead.draw()")
    data = base64.b64decode(page.evaluate(GREYS))
    return np.frombuffer(data, np.uint8).reshape(image.pixels.shape).astype(int)


def differ(page, image, expected):
    return np.abs(read_greys(page, image) - to_display(expected).astype(int)).max()


def test_the_window_is_pythons_at_every_depth(room):
    """Every stored value of every depth, as stored and through a window, is the same grey as Python's, within one."""
    held, url = room
    with opened(url, DESK) as page:
        for bits in (8, 10, 12, 15, 16):
            white = 2**bits - 1
            values = np.arange(65536).reshape(256, 256) % (white + 1)
            values = values.astype(np.uint8 if bits == 8 else np.uint16)
            centre, width = 0.45 * white, 0.37 * white
            full = {"WindowCenter": (white + 1) / 2, "WindowWidth": white + 1}
            for kind in ("MONOCHROME1", "MONOCHROME2"):
                stored = read(values, bits, PhotometricInterpretation=kind, **full)
                expected = read(values, bits, PhotometricInterpretation=kind, WindowCenter=centre, WindowWidth=width)
                show(page, held, stored)
                assert differ(page, stored, stored) <= 1, (bits, kind)
                own = {"centre": centre, "width": width}  # in stored values: the first file's window clipped nothing
                page.evaluate("own => { secondRead.window = own }", own)
                assert differ(page, stored, expected) <= 1, (bits, kind)
                page.evaluate("() => { secondRead.inverted = true }")
                negative = from_pixels((2**expected.bits - 1) - expected.pixels)
                assert differ(page, stored, negative) <= 1, (bits, kind)
        median = np.median(page.evaluate("() => secondRead.frames"))
        assert median < 100  # milliseconds; a frame must not grow with the image


def test_a_large_image_is_drawn_by_screen_pixels(room):
    held, url = room
    rows = np.linspace(0, 65535, 2500)
    image = from_pixels(np.add.outer(rows / 2, rows / 2).astype(np.uint16))
    with opened(url, DESK) as page:
        show(page, held, image)
        took = page.evaluate(
            "() => { secondRead.fit(); const took = []; for (let i = 0; i < 12; i++) {"
            " secondRead.shiftWindow(0.001, 0); const t = performance.now(); secondRead.draw();"
            " took.push(performance.now() - t) } return took.sort((a, b) => a - b)[6] }"
        )
        assert took < 100  # 20 on a free core
        page.mouse.move(400, 400)
        x, y, value = page.evaluate(
            "() => { const [x, y] = secondRead.geometry.toImage(300, 300).map(Math.floor);"
            " return [x, y, secondRead.plate.at(x, y)] }"
        )
        assert value == image.pixels[y, x]  # all sixteen bits arrived


def test_alt_shift_right_and_down_make_a_box_larger_at_every_turn(room):
    held, url = room
    with opened(url, DESK) as page:
        show(page, held, from_pixels(np.zeros((300, 300), np.uint8)))
        sizes = """key => {
          secondRead.marks.addBox([100, 100], [200, 200]);
          const box = secondRead.marks.boxes.at(-1);
          secondRead.shiftBox(key, { shiftKey: true });
          const { x, y, width, height } = box;
          secondRead.shiftBox(key, { shiftKey: false });
          return [x, y, width - 100, height - 100, secondRead.geometry.toScreen(box.x, box.y).map(Math.round),
                  secondRead.geometry.toScreen(x, y).map(Math.round)];
        }"""
        for turn in range(4):
            for key, axis, sign in (
                *(("ArrowRight", 0, 1), ("ArrowLeft", 0, -1)),
                *(("ArrowDown", 1, 1), ("ArrowUp", 1, -1)),
            ):
                x, y, wider, higher, after, before = page.evaluate(sizes, key)
                assert (x, y) == (100, 100)
                own, other = (wider, higher) if (axis + turn) % 2 == 0 else (higher, wider)
                assert own * sign > 0 and other == 0, (turn, key, wider, higher)
                assert (after[axis] - before[axis]) * sign > 0 and after[1 - axis] == before[1 - axis]
            page.evaluate("() => secondRead.rotate()")


# The strongest point of the overlay, and the grey that the image has there.
PEAK = """() => {
  secondRead.draw();
  const { canvas, context } = secondRead.heat;
  const { data } = context.getImageData(0, 0, canvas.width, canvas.height);
  let best = -1, at = 0;
  for (let i = 0; i < data.length; i += 4) {
    const light = (data[i] + data[i + 1] + data[i + 2]) * data[i + 3];
    if (light > best) { best = light; at = i / 4; }
  }
  const [x, y] = [at % canvas.width, Math.floor(at / canvas.width)];
  return { best, x, y, grey: secondRead.stage.context.getImageData(x, y, 1, 1).data[0] };
}"""


def test_the_overlay_sits_on_the_lesion_at_any_zoom_and_turn(room, file):
    with opened(room[1], DESK) as page:
        give_file(page, file)
        wait_for_maps(page)
        page.locator(".sr-card").nth(1).click()
        page.wait_for_function("() => secondRead.map.on && secondRead.heat.layer")
        assert page.locator(".sr-show[aria-pressed=true]").count() == 1
        legend = page.locator("[data-legend=map]")
        assert "ResNet" in legend.inner_text()
        place = legend.bounding_box()
        for down, aside in ((place["height"] / 2, True), (place["height"] + 40, False)):  # what it covers can be seen
            page.mouse.move(place["x"] + 20, place["y"] + down)
            assert ("vw-aside" in legend.get_attribute("class").split()) == aside
        for turn in range(4):
            for key in ("z", "x", "-", "+"):
                page.keyboard.press(key)
                found = page.evaluate(PEAK)
                assert found["best"] > 0 and found["grey"] > 200, (turn, key, found)
            page.keyboard.press("r")
        page.keyboard.press("z")
        before, stage = page.evaluate(PEAK), page.locator(".vw-stage").bounding_box()
        page.mouse.move(stage["x"] + before["x"] + 1, stage["y"] + before["y"] + 1)
        page.mouse.wheel(0, -700)  # about threefold: what is under the pointer stays there
        page.wait_for_function("old => secondRead.geometry.scale > 2 * old", arg=stage["height"] / 256)
        after = page.evaluate(PEAK)
        assert after["grey"] > 200
        assert abs(after["x"] - before["x"]) + abs(after["y"] - before["y"]) < 40
        page.keyboard.press("Space")
        assert page.evaluate(PEAK)["best"] == 0  # off again
        page.keyboard.press("Space")
        page.keyboard.press("c")  # compare: the next model's map comes in
        page.wait_for_function("() => secondRead.map.model === 'vit_tiny'")
        page.wait_for_function("() => secondRead.map.model === 'resnet18'")
        page.keyboard.press("Escape")


# Whether each pane shows the same greys, and how much of each is under a heatmap.
TWO = """() => {
  secondRead.draw();
  const frames = secondRead.panes.frames;
  const bytes = (context, { left, top, width, height }) => context.getImageData(left, top, width, height).data;
  const [one, other] = frames.map((frame) => bytes(secondRead.stage.context, frame));
  const alphas = frames.map((frame) => bytes(secondRead.heat.context, frame).filter((_, i) => i % 4 === 3));
  return {
    panes: frames.length, same: one.every((value, i) => value === other[i]),
    seen: one.some((value) => value > 100 && value < 255),
    covered: alphas.map((alpha) => alpha.reduce((sum, value) => sum + (value > 0), 0)),
  };
}"""


@pytest.mark.parametrize("size", [DESK, PHONE], ids=["side by side", "one above the other"])
def test_two_maps_lie_beside_each_other_on_the_same_image(room, file, size):
    with opened(room[1], size) as page:
        give_file(page, file)
        wait_for_maps(page)
        page.locator(".sr-card").nth(1).click()
        page.wait_for_function("() => secondRead.map.on && secondRead.heat.layer")
        page.locator("[data-act=beside]").click()
        page.wait_for_function("() => secondRead.map.model === 'vit_tiny' && secondRead.beside.layer")
        found = page.evaluate(TWO)
        assert found["panes"] == 2 and found["same"] and found["seen"]
        assert min(found["covered"]) > 0
        for name, model in (("beside", "resnet18"), ("heat", "vit_tiny")):
            card = page.locator(f".sr-card[data-model={model}]")
            assert page.evaluate(f"() => secondRead.{name}.source") == card.get_attribute("data-map")
        legends = page.locator(".vw-legend:visible b").all_inner_texts()
        assert len(legends) == 2 and "ResNet" in legends[0] and "ViT" in legends[1]
        assert page.locator(".sr-show[aria-pressed=true]").count() == 2
        page.keyboard.press("ArrowRight")  # the second one changes; the first stays
        page.wait_for_function("() => secondRead.map.model === 'simple_cnn'")
        assert page.evaluate("() => secondRead.map.beside") == "resnet18"

        page.locator(".vw-stage").hover()  # which waits until it stands still
        stage = page.locator(".vw-stage").bounding_box()
        across = stage["width"] > stage["height"]
        place = (0.7, 0.4) if across else (0.4, 0.7)
        page.mouse.move(stage["x"] + place[0] * stage["width"], stage["y"] + place[1] * stage["height"])
        page.wait_for_selector(".vw-cross", state="attached")
        cross = page.locator(".vw-cross").bounding_box()
        shift = (0.5, 0) if across else (0, 0.5)
        for axis, length, start in ((0, "width", "x"), (1, "height", "y")):
            expected = stage[start] + (place[axis] - shift[axis]) * stage[length]
            assert cross[start] + cross[length] / 2 == pytest.approx(expected, abs=2)  # the same place in the first

        page.mouse.wheel(0, -300)
        page.wait_for_function("() => !secondRead.fitted")
        assert page.evaluate(TWO)["same"]  # zoomed together
        page.keyboard.press("Escape")
        page.wait_for_function("() => secondRead.panes.frames.length === 1 && secondRead.map.model === 'simple_cnn'")
        assert page.locator(".vw-legend:visible").count() == 1


def test_two_fingers_zoom_about_their_middle(room, file):
    held, url = room
    with opened(url, PHONE, has_touch=True) as page:
        give_file(page, file)
        page.wait_for_function("() => secondRead.plate !== null")
        box = page.locator(".vw-stage").bounding_box()
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        before = page.evaluate(
            "() => [secondRead.geometry.scale, ...secondRead.geometry.toImage(...secondRead.size.map(s => s / 2))]"
        )
        session = page.context.new_cdp_session(page)

        def touch(kind, *apart):
            points = [{"x": x + sign * d, "y": y, "id": i} for d in apart for i, sign in enumerate((-1, 1))]
            session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

        touch("touchStart", 30)
        for apart in (40, 50, 60):
            touch("touchMove", apart)
        touch("touchEnd")
        after = page.evaluate(
            "() => [secondRead.geometry.scale, ...secondRead.geometry.toImage(...secondRead.size.map(s => s / 2))]"
        )
    assert after[0] / before[0] == pytest.approx(2, rel=0.05)
    assert after[1:] == pytest.approx(before[1:], abs=6)


def test_pixels_that_are_gone_are_a_sentence(room):
    with opened(room[1], DESK) as page:
        gone = viewer.show_case(from_pixels(np.eye(40, dtype=np.uint8)), "pixels/none", 1.0)
        page.evaluate("value => secondRead.show(value)", gone)
        assert "Open it again" in page.locator(".vw-error").inner_text()


FORBIDDEN = """for (const name of ['localStorage', 'sessionStorage']) Object.defineProperty(window, name, {
  configurable: true,  // as a browser's own is
  get() { throw new DOMException('the reader forbade it', 'SecurityError'); },
});"""


def test_the_keys_work_in_a_browser_that_keeps_nothing(room, file):
    with opened(room[1], DESK, script=FORBIDDEN) as page:
        give_file(page, file)
        page.wait_for_function("() => secondRead.plate !== null")
        page.locator(".vw-stage").focus()
        page.keyboard.press("i")
        page.wait_for_function("() => secondRead.inverted")
        page.locator("[data-wear=light]").click()
        page.wait_for_function("() => document.documentElement.dataset.theme === 'light'")
        page.locator(".sr-notice button").click()
        page.wait_for_selector(".sr-notice", state="hidden")


def test_no_word_of_waiting_stays_when_another_file_is_refused_meanwhile(room):
    with opened(room[1], DESK) as page:
        image = from_pixels(np.eye(40, dtype=np.uint8))
        case = viewer.show_case(image, room[0].plates.offer(image), 1.0)
        page.evaluate(
            "value => { secondRead.show(value); return secondRead.show({state: 'error', message: 'No.'}); }", case
        )
        page.wait_for_function("() => secondRead.find('.vw-wait').hidden")
        assert page.locator(".vw-error").inner_text() == "Not read. No."


LATE = """async () => {
  const { heat } = secondRead, send = window.fetch;
  const draw = (grey) => {
    const canvas = Object.assign(document.createElement('canvas'), { width: 2, height: 2 });
    const context = canvas.getContext('2d');
    context.fillStyle = `rgb(${grey}, ${grey}, ${grey})`;
    context.fillRect(0, 0, 2, 2);
    return canvas.toDataURL();
  };
  let answer;
  window.fetch = async (...asked) => {
    await new Promise((resolve) => { answer = resolve; });
    return send(...asked);
  };
  const first = heat.load(draw(50), { title: 'A' }), late = answer;
  window.fetch = send;
  const taken = [await heat.load(draw(200), { title: 'B' })];
  late();
  return [...taken, await first, heat.levels.bytes[0], heat.facts.title];
}"""


def test_a_map_that_comes_late_does_not_stand_under_anothers_name(room):
    with opened(room[1], DESK) as page:
        assert page.evaluate(LATE) == [True, False, 200, "B"]


MODELS = ["simple_cnn", "resnet18", "vit_tiny"]


@pytest.fixture
def own_maps(monkeypatch):
    """Each model has another map."""
    explain = attribution.explain

    def shift(model, *rest):
        found = explain(model, *rest)
        return dataclasses.replace(found, plane=np.roll(found.plane, 9 * MODELS.index(model.name), 0))

    monkeypatch.setattr(attribution, "explain", shift)


def watch_prints(page):
    """Counts how often each address of a picture is asked for, from now on."""
    asked = Counter()
    page.on("request", lambda request: asked.update([request.url] if "/prints/" in request.url else []))
    return asked


def test_a_reading_sends_little_and_each_picture_once(room, file, own_maps):
    options = {"extra_http_headers": {"Accept-Encoding": "identity"}}
    with opened(room[1], DESK, **options) as page:
        session, streams, sent = page.context.new_cdp_session(page), set(), Counter()
        session.send("Network.enable")
        session.on(
            "Network.requestWillBeSent",
            lambda said: streams.add(said["requestId"]) if "/queue/data" in said["request"]["url"] else None,
        )
        session.on("Network.dataReceived", lambda said: sent.update({said["requestId"]: said["dataLength"]}))
        asked = watch_prints(page)
        page.evaluate(FLASHES)
        give_file(page, file)
        wait_for_maps(page)
        page.wait_for_function("() => [...document.querySelectorAll('.sr-layer')].every(layer => layer.naturalWidth)")
        page.wait_for_timeout(1000)  # the stream ends
        assert streams and 0 < sum(sent[stream] for stream in streams) < 100_000
        thumbs = page.eval_on_selector_all(".sr-layer", "all => all.map(layer => layer.src)")
        assert len(set(thumbs)) == 3
        assert set(thumbs) < set(asked) and len(asked) == 3 + 1  # the image's own is below them
        assert set(asked.values()) == {1}
        assert page.evaluate("() => [globalThis.cardsDrawn > 3, globalThis.flashed]") == [True, []]

        asked.clear()
        page.locator(".sr-card").nth(1).click()
        page.wait_for_function("() => secondRead.map.on && secondRead.heat.layer")
        page.locator(".vw-stage").focus()
        for key in ("ArrowRight", "ArrowRight", "ArrowRight", "Space", "Space", "s"):
            page.keyboard.press(key)
            page.wait_for_function("() => !secondRead.map.on || secondRead.heat.facts?.model === secondRead.map.model")
        page.wait_for_function("() => secondRead.beside.layer")
        maps = page.eval_on_selector_all(
            "#cards .sr-card", "all => all.map(card => new URL(card.dataset.map, location).href)"
        )
        assert set(asked) == set(maps) and set(asked.values()) == {1}


# Pictures that were there before the cards were drawn anew, and are not, the moment after.
FLASHES = """() => {
  const there = new Set();
  Object.assign(globalThis, { cardsDrawn: 0, flashed: [] });
  const look = () => {
    for (const layer of document.querySelectorAll('#cards .sr-layer')) {
      if (layer.complete && layer.naturalWidth) there.add(layer.src);
      else if (there.has(layer.src)) flashed.push(layer.src);
    }
  };
  const frame = () => { look(); requestAnimationFrame(frame); };
  frame();
  new MutationObserver(() => { cardsDrawn++; look(); })
    .observe(document.querySelector('#cards'), { subtree: true, childList: true });
}"""


def test_maps_that_are_gone_are_sentences_and_the_image_stays(room, file, own_maps):
    held, url = room
    with opened(url, DESK) as page:
        give_file(page, file)
        wait_for_maps(page)
        page.wait_for_function("() => [...document.querySelectorAll('.sr-layer')].every(layer => layer.naturalWidth)")
        page.locator(".sr-card").nth(1).click()
        page.wait_for_function("() => secondRead.map.on && secondRead.heat.layer")
        with held.prints._lock:  # as many other readings would have it
            held.prints._kept.clear()
        page.locator(".vw-stage").focus()
        page.keyboard.press("Space")
        page.keyboard.press("Space")  # this one the page has still
        page.wait_for_function("() => secondRead.map.on && secondRead.heat.layer")
        page.keyboard.press("ArrowRight")
        page.wait_for_selector(".vw-error", state="visible")
        said = "Not shown. This heatmap is not at hand any more. Open the image again."
        assert page.locator(".vw-error").inner_text() == said
        assert page.evaluate("() => [secondRead.case.state, secondRead.map.on, secondRead.plate !== null]") == [
            *("case", False, True)
        ]
        assert page.locator(".vw-legend:visible, .sr-show[aria-pressed=true]").count() == 0
        page.keyboard.press("s")  # the one that it would stand beside is there, it is not
        page.wait_for_function("() => secondRead.panes.frames.length === 1")
        assert page.locator(".vw-error").inner_text() == said
        page.locator(".sr-card").nth(1).click()
        page.wait_for_selector(".vw-error", state="hidden")
        assert page.evaluate("() => secondRead.map.model") == "resnet18"

        cards = page.locator("#cards .sr-cards")
        cards.evaluate("cards => cards.querySelectorAll('.sr-layer').forEach(layer => { layer.src += '?' })")
        page.wait_for_function("() => !document.querySelector('#cards .sr-layer')")
        assert page.locator(".sr-show .sr-layer-note").all_inner_texts() == ["heatmap not at hand any more"] * 3
