"""The reading room in Turkish, in a browser: nothing is left in English, and nothing Turkish gets into the ledger."""

import csv
import re
from pathlib import Path

import pytest
from PIL import Image

from reading_room import languages
from tests.browser.chromium import DESK, NEEDS_CHROMIUM, PHONE, give_file, leave, opened, wait_for_maps
from xray_models import phantom

pytestmark = NEEDS_CHROMIUM

# Every text of the page with its titles, and what its lists show; not what a reader wrote, a command or a document.
TEXTS = """() => {
  const left = '[translate=no], script, style, code, pre, #models-card, .api-docs';
  const found = [], shown = Object.getOwnPropertyDescriptor(HTMLInputElement.prototype, 'value').get;
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_ELEMENT | NodeFilter.SHOW_TEXT);
  for (let node = walker.currentNode; node; node = walker.nextNode()) {
    const element = node.nodeType === 3 ? node.parentElement : node;
    if (element.closest(left)) continue;
    if (node.nodeType === 3) found.push(node.nodeValue);
    else found.push(...['title', 'aria-label', 'placeholder', 'alt', 'data-head'].map(name => node.getAttribute(name)));
    if (node.nodeType === 1 && node.matches('input[role=combobox]')) found.push(shown.call(node));
  }
  return found.map(text => (text ?? '').trim().replace(/\\s+/g, ' '));
}"""
# What is cut off: words in a button, in a list's field, or beside a bar, that need more room than they have.
CUT = """() => [...document.querySelectorAll('button, input[role=combobox], .sr-bar span, .sr-consensus p')]
  .filter(node => node.checkVisibility() && node.clientWidth > 1 && node.scrollWidth > node.clientWidth + 1)
  .map(node => node.innerText || node.getAttribute('aria-label') || node.className)"""
# The same in both languages: names of the program, files, models, methods, colours and keys; words; figures and ids.
SAME = re.compile(
    r"Second Read|flags\.\w+|relabels\.csv|HiResCAM|Grad-CAM|GradientShap|SmoothGrad"
    r"|ResNet-18|ViT-Ti/16|Inferno|Viridis|Cividis|AUROC"
    r"|\w|Enter|Esc|Del|T Shift T|J K|Normal|Model|Panel|logo|\d+ × Normal|UTC|(· )?flag-\w+|<?\d+ ms"
    r"|(PNG|DICOM) · \d+ × \d+ · \d+ bit|Apache-2\.0|Second Read, xray_models/phantom\.py|[0-9a-f]{12}|[^a-zA-Z]*"
)


def settle(page):
    """Waits until the page says the same for a while; returns its texts."""
    before = None
    while (now := page.evaluate(TEXTS)) != before:
        before = now
        page.wait_for_timeout(400)
    return now


def read_both(page):
    """The page's texts in Turkish and, place by place, in English; then Turkish again, without a reload."""
    before = settle(page)
    page.locator("[data-speak=en]").dispatch_event("click")
    english = page.evaluate(TEXTS)
    page.locator("[data-speak=tr]").dispatch_event("click")
    assert page.evaluate(TEXTS) == before
    assert len(before) == len(english)
    return list(zip(before, english, strict=True))


def check(page, size):
    """Nothing is left in English, is cut off or makes the page wider than the window."""
    left = {text for text, english in read_both(page) if text == english and not SAME.fullmatch(text)}
    assert sorted(left) == []
    assert page.evaluate(CUT) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= size["width"]


def flag(page, key, reader=""):
    page.locator(".vw-stage").focus()
    page.keyboard.press(key)
    if reader:
        page.keyboard.press("f")
        page.keyboard.type(reader)
    page.keyboard.press("Enter")
    return page.wait_for_selector(".sr-saved", timeout=20_000).inner_text()


def open_tab(page, name):
    page.get_by_role("tab", name=name).click()
    page.wait_for_timeout(700)


@pytest.mark.parametrize("size", [DESK, PHONE], ids=["desk", "phone"])
def test_every_page_is_in_turkish(room, file, tmp_path, size):
    held, url = room
    for number in range(3):
        pixels = phantom.draw_phantom(phantom.LABELS[number], 900 + number, size=96).pixels
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
    (tmp_path / "no.png").write_bytes(b"\x89PNG\r\n\x1a\nno more")
    with opened(f"{url}/?lang=tr", size, has_touch=size is PHONE) as page:
        assert page.evaluate("document.documentElement.lang") == "tr"
        page.wait_for_timeout(2000)  # the page's first look for a list of before is over
        check(page, size)
        give_file(page, file)
        wait_for_maps(page)
        page.locator(".vw-stage").focus()
        for key in (" ", "n", "?"):
            page.keyboard.press(key)
        page.wait_for_timeout(300)
        assert page.locator(".vw-sheet h2").inner_text() == "Tuşlar"
        check(page, size)
        page.keyboard.press("?")
        if size is DESK:
            assert page.locator(".vw-bar").first.bounding_box()["height"] < 40  # one line, as in English
        page.get_by_label("Yorum (hasta bilgisi yazmayın)").fill("Normal open")
        assert flag(page, "3", "Nodule").startswith("Kaydedildi: Nodül · flag-")
        check(page, size)
        page.locator(".vw-stage").focus()
        page.keyboard.press("u")
        assert page.wait_for_selector(".sr-back").inner_text().startswith("Geri alındı: Nodül")
        page.get_by_label("Yorum (hasta bilgisi yazmayın)").fill("Normal open")
        flag(page, "4")
        page.locator(".vw-stage").focus()
        page.keyboard.press("Enter")  # no label
        assert "Kaydedilmedi:" in page.wait_for_selector("#flag-status .sr-error").inner_text()
        check(page, size)

        open_tab(page, "İş listesi")
        check(page, size)
        upload = page.locator("input[type=file][multiple]:not([webkitdirectory])").first
        upload.set_input_files(sorted(tmp_path.glob("[0-9n]*.png")))
        page.wait_for_function("() => document.body.innerText.includes('Hepsi okundu: 4 / 4')", timeout=120_000)
        page.wait_for_timeout(1500)
        page.locator("#list-order input").click()
        page.wait_for_timeout(300)
        check(page, size)
        page.get_by_role("option", name="Olgu numarası").click()
        page.wait_for_function("() => document.querySelector('#list-table tbody b').innerText === '1'")

        open_tab(page, "İnceleme")
        page.get_by_role("button", name="Yenile").click()
        page.get_by_role("button", name="İşareti göster: Nodule").first.click()
        page.wait_for_selector(".sr-detail")
        assert page.locator(".sr-comment").first.inner_text() == "Normal open"  # as it was written
        assert page.locator("#review-table td bdi").first.inner_text() == "Nodule"
        for name in ("review-agreement", "review-out", "review-retraining"):
            page.locator(f"#{name} button").first.click()
        page.get_by_role("button", name="Karşılaştır").last.click()
        page.locator("#out-relabels").click()
        page.wait_for_selector("#agreement svg")
        page.locator("#review-status input").click()
        page.wait_for_timeout(500)
        assert page.get_by_role("option", name="Açık", exact=True).is_visible()
        check(page, size)
        page.keyboard.press("Escape")

        open_tab(page, "Modeller")
        page.get_by_role("button", name="Değerlendirme raporu").click()
        page.wait_for_selector("#models-message .sr-error")
        page.get_by_role("button", name="ResNet-18 kartını göster").click()
        page.wait_for_function("() => document.querySelector('#models-message').innerText.includes('Kart yok.')")
        check(page, size)
    rows = list(csv.DictReader(next(held.ledger.root.glob("*/metadata.csv")).open(encoding="utf-8")))
    assert [(row["corrected_label"], row["reason"]) for row in rows[-3:]] == [
        ("Nodule", "wrong label"),
        ("Nodule", "withdrawn"),
        ("Effusion", "wrong label"),
    ]
    assert rows[-1]["comment"] == "Normal open" and rows[-1]["reader"] == "Nodule"
    assert all(value.isascii() for row in rows for value in row.values())


def test_a_blinded_reading_is_in_turkish(room, file):
    with opened(f"{room[1]}/?lang=tr&mode=blinded", DESK) as page:
        page.wait_for_function("() => document.querySelector('#blinded input').checked")
        give_file(page, file)
        page.wait_for_selector("#commit-label", state="visible")
        page.wait_for_function("() => secondRead.plate !== null")
        check(page, DESK)
        page.locator(".vw-stage").focus()
        page.keyboard.press("4")
        page.keyboard.press("Enter")
        wait_for_maps(page)
        assert page.locator(".sr-first").inner_text() == "Okumanız, kilitli: Efüzyon, %80"
        check(page, DESK)


def test_the_language_is_the_browsers_until_the_reader_chooses(room):
    _, url = room
    said = ".sr-state >> nth=0"
    with opened(url, DESK, locale="tr-TR") as page:
        assert page.locator(said).inner_text() == "Panelin görüş birliği burada görünür."
        assert page.locator("[data-speak=tr]").get_attribute("aria-pressed") == "true"
        page.locator("[data-speak=en]").click()
        assert page.locator(said).inner_text() == "The consensus of the panel appears here."
        leave(page)
        page.wait_for_selector("#cards .sr-card")
        assert page.evaluate("document.documentElement.lang") == "en"
        page.wait_for_timeout(2000)  # gradio says how long it has been at work
        english = settle(page)  # gradio's own words as well
        leave(page, f"{url}/?lang=tr")
        page.wait_for_selector("#cards .sr-card")
        page.wait_for_selector("[data-speak=tr][aria-pressed=true]")
        assert page.locator(said).inner_text() == "Panelin görüş birliği burada görünür."
        assert page.evaluate("document.documentElement.lang") == "tr"
        page.wait_for_timeout(2000)
        shown = [text for _, text in read_both(page)]
        assert [text for text in shown if text] == [text for text in english if text]
        assert "lang" not in page.url  # the switch was used, and counts more than the link
    with opened(f"{url}/?lang=de", DESK, locale="de-DE") as page:
        assert page.evaluate("document.documentElement.lang") == "en"
        assert "Use via API" in page.evaluate(TEXTS)  # gradio, too


TABLE = """{
  '1,000.5': '1.000,5', 'Open': 'Aç', 'Open|.status': 'Açık',
  'Lung Opacity': 'Akciğer opasitesi', 'Normal': 'Normal', 'agree': 'aynı',
  'accepted by {READER}': 'kabul edildi ({READER})',
  '{n} of {m} models': '{m} modelden {n}', 'Not ruled out: {labels}': 'Dışlanamayan: {labels}',
  'Look at {READER}': 'Bak: {READER}', 'Try again.': 'Yeniden.', 'models {level}': 'modeller {level}', '{n} %': '%{n}',
}"""
SAID = {
    "Open": "Aç",
    "  Open\n": "  Aç\n",  # the space around stays
    "3 of 12 models": "12 modelden 3",
    "some of 12 models": "some of 12 models",  # {n} is a number
    "0.13": "0,13",
    "<0.01": "<0,01",
    "2.5 of 1,234.5 models": "1.234,5 modelden 2,5",
    "1.2.3": "1.2.3",  # a version
    "Not ruled out: Lung Opacity, Normal · 5 %": "Dışlanamayan: Akciğer opasitesi, Normal · %5",
    "Not ruled out: Lung Opacity, Doe": "Dışlanamayan: Lung Opacity, Doe",  # a list is known as a whole or not at all
    "Look at Open": "Bak: Open",  # a name stays
    "accepted by Prof. Dr. Ayşe Y.": "kabul edildi (Prof. Dr. Ayşe Y.)",  # no sentence ends in a name
    "Look at J. Doç. Dr. Öz. Try again.": "Bak: J. Doç. Dr. Öz. Yeniden.",
    "What is this? Try again.": "What is this? Yeniden.",
    ", 80 %": ", %80",
    "models agree": "modeller aynı",
    "Lung opacity": "Lung opacity",  # case counts
    "constructor": "constructor",
}


def test_a_text_is_found_in_the_table(room):
    with opened(room[1], DESK) as page:
        script = (Path(languages.__file__).parent / "phrases.js").read_text(encoding="utf-8")
        asked = f"texts => {{ {script}; const p = new Phrases({TABLE}); return texts.map(t => p.translate(t)) }}"
        made = page.evaluate(asked, list(SAID))
        assert dict(zip(SAID, made, strict=True)) == SAID
        here = "element => { element.innerHTML = '<p class=status><b></b></p>'; return element.querySelector('b') }"
        local = f"() => {{ {script}; const b = ({here})(document.createElement('div'));"
        assert page.evaluate(f"{local} return new Phrases({TABLE}).translate('Open', b) }}") == "Açık"


def test_only_what_changes_is_looked_at_and_nothing_loops(room):
    with opened(f"{room[1]}/?lang=tr", DESK) as page:
        page.wait_for_timeout(1000)
        changes = page.evaluate(
            """async () => {
              let changes = 0;
              const kinds = { subtree: true, childList: true, characterData: true, attributes: true };
              new MutationObserver(records => { changes += records.length }).observe(document.body, kinds);
              const told = document.querySelector('[data-role=said]');
              told.textContent = 'Box 3 drawn; Alt and arrows move it.';
              await new Promise(done => setTimeout(done, 500));
              return [told.textContent, changes];
            }"""
        )
        assert changes[0] == "Kutu 3 çizildi; Alt ve oklar onu taşır."
        assert changes[1] <= 3  # the text, and its translation
        milliseconds = page.evaluate(
            """() => {
              const started = performance.now();
              for (let i = 0; i < 20; i++) secondReadLanguages.speak(i % 2 ? 'tr' : 'en');
              return (performance.now() - started) / 20;
            }"""
        )
        assert milliseconds < 60  # the whole page; 5 ms on two cores at rest
