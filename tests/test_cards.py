"""What the page shows: escaping, states, and out of distribution before any label."""

import base64
import dataclasses
import io

import numpy as np
import pytest
from PIL import Image

from reading_room import cards, renders
from reading_room.cards import Card, Layer
from xray_models.attribution import Heatmap
from xray_models.images import from_pixels
from xray_models.map_words import MapNote
from xray_models.panel import Panel
from xray_models.readings import Opinion


@pytest.fixture(scope="module")
def reading(untrained, image):
    return Panel.load(untrained, device="cpu").read(image)


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("bob", '<bdi translate="no">bob</bdi>'),
        ("<i>", '<bdi translate="no">&lt;i&gt;</bdi>'),
        ("bob (not signed in)", '<bdi translate="no">bob</bdi> (not signed in)'),  # the page's words are translated
    ],
)
def test_no_language_changes_a_readers_name(name, shown):
    assert cards.render_reader(name) == shown


def test_every_state_of_a_card():
    html = cards.render_cards(
        [
            Card("resnet18"),
            Card("resnet18", layer_note="reading …"),
            Card("resnet18", Opinion("resnet18", status="unavailable", reason="<b>no</b>")),
        ]
    )
    assert "waits for an image" in html
    assert "reading …" in html
    assert "Unavailable</b>: &lt;b&gt;no&lt;/b&gt;" in html


def test_an_opinion_has_its_label_bars_and_set(reading):
    opinion = dataclasses.replace(reading.opinions[0], prediction_set=("Nodule", "Normal"))
    html = cards.render_cards([Card("simple_cnn", opinion)])
    assert html.count('class="sr-bar') == 5  # four bars and their box
    assert "Not ruled out: Nodule, Normal" in html
    assert f'<p class="sr-label">{opinion.label}</p>' in html


def test_a_heatmap_that_is_there_can_be_brought_onto_the_image(reading):
    layer = Layer("prints/thumb", "prints/values", "integrated_gradients", signed=True)
    opinion = dataclasses.replace(reading.opinions[1], label="Lung_Opacity")
    html = cards.render_cards([Card("resnet18", opinion, layer), Card("vit_tiny", reading.opinions[2])])
    assert html.count("data-map=") == html.count("sr-map sr-show") == 1
    for fact in ('title="ResNet-18"', 'map="prints/values"', 'signed="true"', 'method="Integrated Gradients"'):
        assert f"data-{fact}" in html
    assert 'data-label="Lung Opacity"' in html
    assert 'alt="Heatmap of ResNet-18' in html and 'aria-pressed="false"' in html
    assert 'src="prints/thumb" decoding="sync"' in html  # else cards that are drawn anew would flash


@pytest.mark.parametrize(
    ("novelty", "words"),
    [(0.4, ">like the training images<"), (1.4, ">unlike the training images<"), (None, ">likeness not known<")],
)
def test_likeness_to_the_training_images_is_in_words(reading, novelty, words):
    opinion = dataclasses.replace(reading.opinions[0], novelty=novelty)
    assert words in cards.render_cards([Card("simple_cnn", opinion)])


def test_a_sealed_panel_says_nothing_but_how_many(untrained):
    html = cards.render_sealed(untrained) + cards.render_cards([Card("resnet18", waits_for="your reading")])
    assert "3 models are asked when your own reading is locked" in html
    assert "waits for your reading" in html
    assert not any(label in html for label in untrained.labels)


def test_unlike_the_training_images_comes_before_the_label(untrained, reading):
    said = dataclasses.replace(reading.consensus, novelty=2.0)
    html = cards.render_consensus(untrained, dataclasses.replace(reading, consensus=said))
    assert html.index("Unlike the training images") < html.index("sr-label")
    opinion = dataclasses.replace(reading.opinions[0], novelty=2.0)
    html = cards.render_cards([Card("simple_cnn", opinion)])
    assert html.index(">unlike the training images") < html.index("sr-label")


def test_models_to_which_an_image_is_new_are_counted_beside_the_consensus(untrained, reading):
    opinions = tuple(dataclasses.replace(each, novelty=2.0 if i else 0.5) for i, each in enumerate(reading.opinions))
    odd = dataclasses.replace(reading, opinions=opinions)
    html = cards.render_consensus(untrained, odd)
    warning = f"for {len(opinions) - 1} of {len(opinions)} models: do not rely on theirs"
    assert html.index(warning) < html.index("sr-label")
    assert "do not rely" not in cards.render_consensus(untrained, reading)


def test_the_consensus_says_who_is_left_out(untrained, reading):
    said = dataclasses.replace(reading.consensus, answered=2, asked=3)
    assert "1 unavailable, left out" in cards.render_consensus(untrained, dataclasses.replace(reading, consensus=said))


@pytest.mark.parametrize(
    ("p", "text"), [(0.0, "&lt;1 %"), (0.001, "&lt;1 %"), (0.5, "50 %"), (0.9951, "&gt;99 %"), (1.0, "&gt;99 %")]
)
def test_no_probability_is_rounded_to_certainty(p, text):
    assert text in cards.render_bars({"a": p}, "a")


def test_texts_from_outside_are_escaped():
    for html in (
        cards.render_error("<script>"),
        cards.render_saved("flag-1", "<script>"),
        cards.render_bars({"<script>": 1.0}, None),
    ):
        assert "<script>" not in html
        assert "&lt;script&gt;" in html


def heatmap(values, signed=False):
    return Heatmap(np.asarray(values, np.float32), "grad_cam", "a", signed)


def test_what_did_not_matter_is_transparent():
    colors = renders.color_map(np.array([[0.0, 1.0]]), signed=False)
    assert colors[0, :, 3].tolist() == [0, 255]
    signed = renders.color_map(np.array([[-1.0, 0.0, 1.0]]), signed=True)
    assert signed[0, :, 3].tolist() == [255, 0, 255]
    assert signed[0, 2, 0] > signed[0, 2, 2]  # for the label: orange
    assert signed[0, 0, 2] > signed[0, 0, 0]  # against it: purple


def test_pictures_have_the_images_aspect():
    image = from_pixels(np.zeros((100, 250), np.uint8))
    values = np.zeros((100, 250))
    values[10, 200] = 1
    for uri in (renders.show_overlay(image, heatmap(values)), renders.show_heatmap(heatmap(values))):
        width, height = decode(uri).size
        assert (height, width) == (100, 250)
    grey = np.asarray(decode(renders.show_heatmap(heatmap(values))))
    assert np.unravel_index(grey.argmax(), grey.shape) == (10, 200)
    assert np.asarray(decode(renders.show_heatmap(heatmap(values * 0, signed=True))))[0, 0] in (127, 128)


def decode(uri):
    return open_picture(base64.b64decode(uri.split(",")[1]))


def open_picture(data):
    return Image.open(io.BytesIO(data))


def test_pictures_for_the_page_are_small_and_have_the_images_aspect():
    image = from_pixels(np.zeros((1000, 2500), np.uint8))
    values = np.zeros((1000, 2500))
    values[100:200, 2000:2100] = 1
    thumb, layer, grey = (
        open_picture(data)
        for data in (
            renders.draw_thumb(image),
            renders.draw_layer(heatmap(values)),
            renders.draw_map(heatmap(values, signed=True)),
        )
    )
    assert [(each.format, each.size) for each in (thumb, layer)] == [("JPEG", (240, 96)), ("PNG", (240, 96))]
    assert (grey.format, grey.mode, grey.size) == ("PNG", "L", (320, 128))
    levels = np.asarray(grey)
    assert (levels[19, 262], levels[60, 100]) == (255, 128)


def test_a_map_says_what_it_was_found_to_be_worth(reading):
    layer = Layer("prints/thumb", "prints/map", "hires_cam", signed=False)
    opinion = reading.opinions[1]
    good = MapNote("hires_cam", True, "map follows the model", "On 24 images & more.")
    html = cards.render_cards([Card("resnet18", opinion, layer, note=good)])
    assert 'data-note="map follows the model"' in html and "On 24 images &amp; more." in html
    assert "sr-doubt" not in html
    html = cards.render_cards([Card("resnet18", opinion, layer, note=good._replace(faithful=False))])
    assert "sr-doubt" in html


def test_the_consensus_names_the_labels_that_some_model_does_not_rule_out(untrained, reading):
    said = dataclasses.replace(reading.consensus, prediction_set=("Normal", "Nodule"))
    html = cards.render_consensus(untrained, dataclasses.replace(reading, consensus=said))
    assert "Not ruled out: Normal, Nodule</p></section>" in html
    none = tuple(dataclasses.replace(opinion, prediction_set=None) for opinion in reading.opinions)
    unknown = cards.render_consensus(untrained, dataclasses.replace(reading, consensus=said, opinions=none))
    assert "ruled out" not in unknown and "clear enough" not in unknown


def test_the_disagreement_has_its_place(untrained, reading):
    def say(place, *labels):
        said = dataclasses.replace(reading.consensus, votes=dict.fromkeys(labels, 1))
        return cards.render_consensus(untrained, dataclasses.replace(reading, consensus=said), place=place)

    assert "more split than on 94\u00a0% of test images" in say(94, "Nodule", "Normal")
    assert "agree · probabilities further apart than on 82\u00a0% of" in say(82, "Nodule")  # and not: agree, but split
    assert "than on 99\u00a0% of" in say(100, "Nodule", "Normal")  # nobody has seen all images
    assert "of test images" not in say(0, "Nodule") + say(None, "Nodule")
