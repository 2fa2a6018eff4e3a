"""Every page for every reader: what axe-core finds, contrast in each theme, and the theme that a browser remembers."""

import re

import pytest
from axe_playwright_python.base import AXE_SCRIPT

from reading_room import models
from reading_room.themes import THEMES
from tests.browser.chromium import DESK, NEEDS_CHROMIUM, PHONE, TABLET, WIDE, give_file, opened, visit, wait_for_maps
from tests.browser.test_reading_page import FAINT

pytestmark = NEEDS_CHROMIUM
STILL = "*, *::before, *::after { transition: none !important; animation: none !important; }"  # no colour on its way
AXE = """async () => (await axe.run(document, { resultTypes: ['violations'] })).violations
  .filter(found => ['serious', 'critical'].includes(found.impact))
  .flatMap(found => found.nodes.map(node => [found.id, node.target.join(' '), node.html.slice(0, 160)]))"""
LOW = """() => [...document.querySelectorAll(
    'button, select, summary, textarea, .sr-form label:has(input[type=radio]), #blinded label, input[role=combobox]')]
  .filter(control => control.checkVisibility({ visibilityProperty: true }))
  .map(control => [control, control.getBoundingClientRect()])
  .filter(([, box]) => box.width > 1 && box.height > 0 && box.height < 40)
  .map(([control, box]) => `${box.height} ${control.outerHTML.slice(0, 200)}`)"""
FIVE = """() => {
  const cards = document.querySelector('#cards .sr-cards');
  while (cards.children.length < 5) cards.append(cards.lastElementChild.cloneNode(true));
  for (const line of cards.querySelectorAll('.sr-set')) line.textContent = 'Not ruled out: Normal'; // as when trained
}"""
HIDDEN = (
    "() => { const one = document.querySelector('.sr-right > .sr-scroll'); return one.scrollHeight - one.clientHeight }"
)
GROUND = "selector => getComputedStyle(document.querySelector(selector)).backgroundColor"
BLACK = "rgb(0, 0, 0)"
CARD = (
    f"# A model\n\n`code` and [a link](#a)\n\n| label | value |\n|---|---|\n| one | 1 |\n\n```\n{'word ' * 60}\n```\n"
)


def read(page, file):
    give_file(page, file)
    wait_for_maps(page)
    page.locator(".sr-card").nth(1).click()
    page.wait_for_function("() => secondRead.map.on && secondRead.heat.layer")
    for key in ("n", "3", "f", "J", "R", "Enter"):  # a box, a label, the reader's name, and saved
        page.keyboard.press(key)
    page.wait_for_selector(".sr-saved")


def open_keys(page, file):
    page.locator(".vw-stage").focus()
    page.keyboard.press("?")
    page.wait_for_selector(".vw-sheet", state="visible")


def list_cases(page, file):
    page.keyboard.press("?")
    page.get_by_role("tab", name="Worklist").click()
    page.locator("#list-files input[type=file]").set_input_files([file])
    page.wait_for_function("() => document.body.innerText.includes('All read: 1 of 1')", timeout=60_000)


def review(page, file):
    page.get_by_role("tab", name="Review").click()
    page.get_by_role("button", name="Load anew").click()
    page.get_by_role("button", name="Look").first.click()
    page.wait_for_selector("#review-me", state="visible")
    for accordion in ("agreement", "out", "retraining"):
        page.locator(f"#review-{accordion} > button").click()
    page.get_by_role("button", name="Compare").last.click()
    page.wait_for_selector("#agreement :is(svg, .sr-none)")


def show_model(page, file):
    page.get_by_role("tab", name="Models").click()
    page.get_by_role("button", name="Card").first.click()
    page.wait_for_selector("#models-card table")


IN_SIGHT = """() => [...document.querySelectorAll('.sr-disclaimer')].some(one => {
  const {top, bottom, height} = one.getBoundingClientRect();
  return height && top >= 0 && bottom <= innerHeight;
})"""
STEPS = {
    "an empty page": lambda page, file: None,
    "a reading": read,
    "the keys": open_keys,
    "the worklist": list_cases,
    "the review": review,
    "the models": show_model,
}


@pytest.mark.parametrize("size", [DESK, PHONE], ids=["desk", "phone"])
def test_every_page_is_for_every_reader_in_every_theme(room, file, size, monkeypatch):
    monkeypatch.setattr(models, "show_card", lambda *_: CARD)
    wrong = {}
    with opened(room[1], size) as page:
        page.add_style_tag(content=STILL)
        page.evaluate(AXE_SCRIPT)
        for step, act in STEPS.items():
            act(page, file)
            for theme in THEMES:
                page.evaluate("name => secondReadThemes.wear(name)", theme)
                wrong[step, theme, "faint"] = page.evaluate(FAINT)
                if theme != "black":  # which differs from dark in its colours alone
                    wrong[step, theme, "axe"] = page.evaluate(AXE)
            assert page.evaluate("document.documentElement.scrollWidth") <= size["width"], step
    assert {place: found for place, found in wrong.items() if found} == {}


def test_a_finger_finds_every_control_and_the_eye_the_disclaimer_on_a_phone_and_a_tablet(room, file, monkeypatch):
    monkeypatch.setattr(models, "show_card", lambda *_: CARD)
    with opened(room[1], PHONE, has_touch=True, is_mobile=True) as page:
        for step in (read, open_keys, list_cases, review, show_model):
            step(page, file)
            for size in (TABLET, PHONE):
                page.set_viewport_size(size)
                assert page.evaluate(LOW) == []
                assert page.evaluate("() => document.documentElement.scrollWidth") == size["width"]
            for place in ("0", "document.documentElement.scrollHeight"):
                page.evaluate(f"scrollTo(0, {place})")
                assert page.evaluate(IN_SIGHT), (step, place)


def test_five_cards_stand_in_the_window_of_a_tablet_and_of_a_desk(room, file):
    with opened(room[1], TABLET) as page:
        page.locator(".sr-notice button").click()
        give_file(page, file)
        wait_for_maps(page)
        page.evaluate(FIVE)
        for size, height in ((TABLET, 80), (DESK, 80), (WIDE, 130)):  # a larger window is the heatmaps', too
            page.set_viewport_size(size)
            page.wait_for_function(f"() => document.querySelector('.sr-map').offsetHeight > {height}")
            assert page.evaluate(HIDDEN) <= 1, size


def test_a_theme_is_chosen_by_a_button_and_remembered(room):
    with opened(room[1], DESK) as page:
        assert page.evaluate(GROUND, "body") != BLACK
        assert page.get_by_role("button", name="Dark theme").get_attribute("aria-pressed") == "true"
        page.locator(".vw-stage").focus()
        grounds = {}
        for theme, title in THEMES.items():
            page.get_by_role("button", name=f"{title} theme").click()
            grounds[theme] = page.evaluate(GROUND, "body")
            assert page.evaluate(GROUND, ".vw-stage") == BLACK  # radiographs are read on black
            assert page.evaluate("document.body.classList.contains('dark')") == (theme != "light")
            assert page.locator("[data-wear][aria-pressed=true]").get_attribute("aria-label") == f"{title} theme"
        assert len(set(grounds.values())) == 3 and grounds["black"] == BLACK
        assert page.evaluate("document.activeElement.matches('.vw-stage')")  # the keys stay with the image
        page.get_by_role("tab", name="Models").click()
        assert page.get_by_role("button", name="Black theme").is_visible()

        beside = page.context.new_page()  # the same browser: it remembers, and follows
        visit(beside, room[1])
        assert beside.evaluate(GROUND, "body") == BLACK
        page.get_by_role("button", name="Light theme").click()
        beside.wait_for_function(
            "ground => getComputedStyle(document.body).backgroundColor === ground", arg=grounds["light"]
        )


def test_a_screen_reader_hears_the_consensus_once_and_finds_each_opinion(room, file):
    with opened(room[1], DESK) as page:
        heard = page.locator(".vw-said[aria-live=polite]")
        assert heard.text_content() == ""
        give_file(page, file)
        wait_for_maps(page)
        label = page.locator("#consensus .sr-label").inner_text()
        assert heard.text_content().startswith(f"Consensus: {label} · ")
        assert " × " in heard.text_content() and " · models " in heard.text_content()
        page.get_by_role("article", name="ResNet-18").locator(".sr-label").click()  # its map
        page.wait_for_function("() => secondRead.map.on")
        page.keyboard.press("P")  # the next window: said instead
        assert heard.text_content() == "Window: Full range"
        page.locator(".vw-said").evaluate("said => { said.textContent = ''; }")
        page.locator("[data-speak=tr]").click()
        page.wait_for_selector("text=Görüş birliği")
        assert heard.text_content() == ""  # another language is no new reading
        assert page.get_by_role("slider", name="Isı haritasının opaklığı").get_attribute("aria-valuetext") == "55 %"


def test_a_screen_reader_hears_what_a_key_did(room, file):
    with opened(room[1], DESK) as page:
        page.locator(".vw-stage").focus()
        for key in ("r", "i", "p", "z", "x", "+", "[", "c", "s"):  # without an image they do nothing
            page.keyboard.press(key)
            assert re.fullmatch(r"|Two heatmaps are needed to compare\.", page.locator(".vw-said").text_content())
        assert page.locator('[data-act="invert"]').get_attribute("aria-pressed") == "false"
        give_file(page, file)
        wait_for_maps(page)
        page.locator(".vw-stage").focus()
        assert page.locator("[role=application] > .vw-stage[role=group]").get_attribute("aria-label")
        first, second = (
            page.locator("#cards .sr-card[data-map]").nth(place).get_attribute("data-title") for place in (0, 1)
        )
        for key, said in (
            (" ", f"Heatmap on the image: {first}"),
            ("ArrowUp", "Opacity 65 %"),
            ("t", "Shown from 20 %"),
            ("m", "Colours: Viridis"),
            (" ", "No heatmap on the image."),
            ("i", "Inverted."),
            ("i", "No longer inverted."),
            ("r", "Rotated by 90°"),
            ("r", "Rotated by 180°"),
            ("x", "Zoom 100 %"),
            ("+", "Zoom 125 %"),
            ("Shift+ArrowLeft", "Moved."),
            ("c", f"Blinking: {first} and {second}"),
            ("c", "No longer blinking."),
            ("l", "Drag: measure a length (L)"),
        ):
            page.keyboard.press(key)
            assert page.locator(".vw-said").text_content() == said
        page.keyboard.press("s")
        assert page.locator(".vw-said").text_content() in (
            f"Side by side: {first} and {second}",
            f"Side by side: {second} and {first}",  # where it had blinked to
        )
        page.keyboard.press("s")
        assert page.locator(".vw-said").text_content() == "One view."
        for key, pattern in (("z", r"Fit: \d+ %"), ("[", r"level \d+ · width \d+"), ("{", r"level \d+ · width \d+")):
            page.keyboard.press(key)
            assert re.fullmatch(pattern, page.locator(".vw-said").text_content())
        page.locator("[data-speak=tr]").click()
        page.locator(".vw-stage").focus()
        page.keyboard.press("i")
        page.locator(".vw-said", has_text="Negatif gösteriliyor.").wait_for(state="attached")


def test_lists_stay_shut_for_tab_and_what_gradio_leaves_unsaid_is_said(room):
    """Orca reads an open list in the place of its name, and nothing of what comes after it."""
    with opened(room[1], DESK) as page:
        chosen = page.locator("#task input")
        page.locator("#file").focus()
        page.keyboard.press("Shift+Tab")
        assert chosen.evaluate("one => document.activeElement === one")
        assert page.locator("[role=listbox]").count() == 0
        page.locator("#file").focus()
        chosen.focus()  # as a screen reader does that goes from line to line
        assert page.get_by_role("combobox", name="Task").get_attribute("aria-expanded") == "false"
        assert page.locator("[role=listbox]").count() == 0
        page.keyboard.press("ArrowDown")
        page.wait_for_selector("[role=listbox]")
        page.keyboard.press("Escape")
        page.wait_for_selector("[role=listbox]", state="detached")
        chosen.click()  # with the focus, which opens it for a pointer
        page.wait_for_selector("[role=listbox]")
        page.keyboard.press("Tab")
        page.wait_for_selector("[role=listbox]", state="detached")
        page.locator("#flag-label input").first.focus()
        assert page.get_by_role("radiogroup", name="Flag: the label should be").count() == 1
        page.get_by_role("tab", name="Review").click()
        export = page.locator("#review-out button.label-wrap")
        export.focus()
        assert export.get_attribute("aria-expanded") == "false"
        for opened_now in ("true", "false"):
            page.keyboard.press("Enter")
            page.locator(f"#review-out button.label-wrap[aria-expanded={opened_now}]").wait_for()


def test_the_first_paint_is_in_the_readers_theme(room):
    dark = "rgb(13, 17, 20)"
    with opened(room[1], DESK) as page:
        for theme, ground in {"light": "rgb(241, 244, 246)", "black": BLACK, "no such theme": dark, None: dark}.items():
            for system in ("light", "dark"):  # what the system prefers is not asked
                context = page.context.browser.new_context(color_scheme=system)
                if theme:
                    context.add_init_script(f"localStorage.setItem('second-read-theme', {theme!r})")
                early = context.new_page()
                early.route("**/assets/*", lambda route: route.abort())  # gradio's own scripts and sheets
                early.goto(room[1])
                assert early.evaluate(GROUND, "body") == ground, (theme, system)
                context.close()


def test_a_list_closes_when_tab_leaves_it(room):
    with opened(room[1], DESK) as page:
        for selector in ("#task input", "#method input", "#flag-reason input"):
            page.locator(selector).click()
            page.wait_for_selector("[role=listbox]")
            page.keyboard.press("Tab")
            page.wait_for_selector("[role=listbox]", state="detached")
            assert not page.evaluate("(one) => document.activeElement.matches(one)", selector)
