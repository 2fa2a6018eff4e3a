"""The themes: every colour has one place, is legible, and is there before the page is painted."""

import asyncio
import re
from pathlib import Path

import pytest

from reading_room import themes
from reading_room.app import launch_options

FOLDER = Path(themes.__file__).parent
SHEET = (FOLDER / "themes.css").read_text()
# Words, and what they are read on: WCAG 2.1, 1.4.3 asks for 4.5.
WORDS = {
    "text": "room panel field button raise chosen here bar bar-top alarm",
    "quiet": "room panel field here",
    "accent": "room panel here",
    "warn": "room panel here",
    "bad": "room panel here alarm",
    "on-primary": "primary primary-raise",
}
# What shows where a control is, or that it has the focus: 1.4.11 asks for 3.
SIGNS = {"edge": "room panel", "focus": "room panel field button", "accent": "room panel field"}


def read_palettes():
    """Theme to its colours; what a theme leaves out is as in the first."""
    found = {}
    for selector, body in re.findall(r"(:root[^{]*){([^}]*--room[^}]*)}", SHEET):
        name = re.search(r'data-theme="(\w+)"', selector)
        found[name[1] if name else "dark"] = dict(re.findall(r"--([\w-]+): ([^;]+);", body))
    return {name: {**found["dark"], **own} for name, own in found.items()}


PALETTES = read_palettes()


def luminance(colour):
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one, other):
    darker, lighter = sorted((luminance(one), luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


def test_the_yardstick_is_that_of_the_guideline():
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.005)  # the guideline's well-known near miss


def test_there_are_three_themes_and_black_is_black():
    assert set(PALETTES) == set(themes.THEMES) == {"light", "dark", "black"}
    assert PALETTES["black"]["room"] == "#000000"
    assert {palette["film"] for palette in PALETTES.values()} == {"#000000"}  # radiographs are read on black


@pytest.mark.parametrize("theme", themes.THEMES)
@pytest.mark.parametrize(("pairs", "least"), [(WORDS, 4.5), (SIGNS, 3)], ids=["words", "signs"])
def test_colours_stand_out(theme, pairs, least):
    palette = PALETTES[theme]
    faint = {
        (front, back): round(contrast(palette[front], palette[back]), 2)
        for front, backs in pairs.items()
        for back in backs.split()
        if contrast(palette[front], palette[back]) < least
    }
    assert not faint


def test_no_other_sheet_decides_a_colour_and_none_uses_one_that_is_not_there():
    looks = themes.read_looks()
    assert re.findall(r"(?<![\w&-])#[0-9a-f]{3,8}\b(?![\w-])|\b(?:rgb|hsl|oklch)a?\(", looks) == []
    assert "var(--focus)" in looks
    own = {
        "above",
        "aspect",
        "image",
        "map",
        "p",
        "raters",
        "swatch",
        "font",
        "font-mono",
    }  # places, shares, fonts
    assert set(re.findall(r"var\(--([\w-]+)", looks)) - own <= set(PALETTES["dark"])
    assert set(themes._COLOURS) <= set(PALETTES["dark"])


def test_no_rule_of_a_media_query_names_gradios_container():
    """Gradio puts that name before such a rule itself: one that says it, too, matches nothing."""
    looks = re.sub(r"/\*.*?\*/", "", themes.read_looks(), flags=re.S)
    queries = re.findall(r"@media[^{]*\{(?:[^{}]*\{[^{}]*\})*\s*\}", looks)
    assert len(queries) == looks.count("@media")
    assert [query for query in queries if ".gradio-container" in query] == []


def test_gradio_takes_our_colours_in_both_of_its_modes():
    css = launch_options()["theme"]._get_theme_css()
    light, dark = css.split(":root.dark")
    for part in (light, dark):
        for name in ("body-background-fill", "input-background-fill", "button-primary-background-fill"):
            assert re.search(rf"--{name}: var\(--(room|field|primary)\);", part), name


# --- before the first paint ---


def ask(kind, parts, method="GET", scope="http"):
    async def app(scope, receive, send):
        size = str(sum(map(len, parts))).encode()
        headers = [(b"content-type", kind), (b"content-length", size)]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        for part in parts:
            await send({"type": "http.response.body", "body": part, "more_body": part is not parts[-1]})

    sent = []

    async def keep(message):
        sent.append(message)

    asyncio.run(themes.EarlyThemes(app)({"type": scope, "method": method}, None, keep))
    start, *rest = sent
    return dict(start["headers"]), b"".join(message["body"] for message in rest)


def test_a_page_gets_its_colours_first_in_its_head():
    headers, body = ask(b"text/html; charset=utf-8", [b"<html><head><title>x</title></head>", b"<p><head></p>"])
    assert body.startswith(b"<html><head>\n<style>") and body.count(b"<style>") == 1
    assert body.index(b"--room") < body.index(b"second-read-theme") < body.index(b"<title>")
    assert int(headers[b"content-length"]) == len(body)


@pytest.mark.parametrize(
    ("kind", "method"), [(b"application/json", "GET"), (b"text/css", "GET"), (b"text/html", "POST")]
)
def test_nothing_else_is_touched(kind, method):
    headers, body = ask(kind, [b"<head>"], method)
    assert body == b"<head>" and headers[b"content-length"] == b"6"
