"""Agreement between readers and models: what references say, and nothing made up."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import cohen_kappa_score

from evaluation.agreement import cohen_kappa as judge_kappa
from reading_room import agreements, review, review_view
from tests.flag_samples import IMAGES, TASK, add, opinion


def test_kappa_is_that_of_scikit_learn_and_of_the_evaluation():
    rng = np.random.default_rng(1)
    first, second = rng.integers(0, 4, 200), rng.integers(0, 4, 200)
    second[:120] = first[:120]
    labels = list("abcd")
    said = pd.DataFrame({"x": [labels[k] for k in first], "y": [labels[k] for k in second]})
    (kappa,) = agreements.compare_raters(said, labels)
    assert kappa.value == pytest.approx(cohen_kappa_score(first, second), abs=1e-12)
    assert kappa.value == pytest.approx(judge_kappa(first, second, 4), abs=1e-6)
    drawn = judge_kappa(first, second, 4, rng.multinomial(200, np.full(200, 1 / 200), size=20_000).astype(float))
    assert (kappa.low, kappa.high) == pytest.approx(tuple(np.quantile(drawn, [0.025, 0.975])), abs=0.006)
    assert kappa.images == 200


def test_kappa_is_not_made_up():
    said = pd.DataFrame({"x": ["a", "a", None], "y": ["a", "a", "b"], "z": [None, None, "b"]})
    found = {(k.first, k.second): k for k in agreements.compare_raters(said, ["a", "b"])}
    assert found["x", "y"].value is None and found["x", "y"].images == 2
    alone = pd.DataFrame({"x": ["a"], "y": ["b"]})
    assert agreements.compare_raters(alone, ["a", "b"]) == [agreements.Kappa("x", "y", 1, None, None, None)]
    pair = pd.DataFrame({"x": ["a", "b"], "y": ["a", "b"]})
    (whole,) = agreements.compare_raters(pair, ["a", "b"])
    assert (whole.images, whole.value) == (2, 1)
    assert found["x", "z"] == agreements.Kappa("x", "z", 0, None, None, None)
    assert "not defined" in review_view.render_kappas(list(found.values()))
    assert "(no spread)" in review_view.render_kappas([agreements.Kappa("x", "y", 2, 0.0, 0.0, 0.0)])


def test_raters_are_readers_the_panel_and_models(ledger):
    more = {"mode": "blinded", "first_label": "Nodule", "consensus_label": "Normal"}
    own = add(ledger, IMAGES[0], "Effusion", "AB", opinions={"resnet18": opinion("Normal")}, **more)
    review.decide(ledger, TASK, own, "accepted", "Chief")
    flags = review.load_flags(ledger.root)
    assert agreements.gather_labels(flags, "phantom").iloc[0]["reader AB"] == "Effusion"
    last, first = (agreements.gather_labels(flags, "phantom", early).iloc[0].to_dict() for early in (False, True))
    assert last == {"reader AB": "Effusion", "the panel": "Normal", "ResNet-18": "Normal"}
    assert first == last | {"reader AB": "Nodule"}  # and Chief, who decided, is no reader of the image


def test_whoever_settles_an_image_is_no_reader_of_it(ledger):
    """Also where no reader gave the label that is settled, and where the reader settles an image of their own."""
    add(ledger, IMAGES[0], "Effusion", "AB")
    add(ledger, IMAGES[1], "Effusion", "AB")
    review.adjudicate(ledger, TASK, IMAGES[0].sha256, "Nodule", "Chief")
    review.adjudicate(ledger, TASK, IMAGES[1].sha256, "Nodule", "AB")
    flags = review.load_flags(ledger.root)
    assert agreements.gather_labels(flags, "phantom").to_dict("list") == {"reader AB": ["Effusion", "Effusion"]}


def test_a_reader_who_is_called_all_readers_is_one_of_them(ledger):
    for reader in ("all readers", "CD"):
        more = {"mode": "blinded", "consensus_label": "Normal", "first_label": "Effusion"}
        add(ledger, IMAGES[0], "Normal", reader, **more)
    review.adjudicate(ledger, TASK, IMAGES[0].sha256, "Normal", "Chief")
    flags = review.load_flags(ledger.root)
    found = agreements.count_switches(flags, review.accept_labels(flags, "phantom"), "phantom")
    assert [switch.cases for switch in found if switch.right] == [2, 1, 1]


def test_switches_are_counted_by_whether_the_panel_was_right(ledger):
    """By hand: image 0: the panel is right; AB follows, CD does not. Image 1: it is wrong; AB follows."""
    for image, panel in ((0, "Normal"), (1, "Nodule"), (2, "Nodule")):
        more = {"mode": "blinded", "consensus_label": panel}
        add(ledger, IMAGES[image], panel, "AB", first_label="Effusion", **more)
    add(ledger, IMAGES[0], "Effusion", "CD", first_label="Effusion", mode="blinded", consensus_label="Normal")
    add(ledger, IMAGES[1], "Nodule", "CD", first_label="Nodule", mode="blinded", consensus_label="Nodule")
    review.adjudicate(ledger, TASK, IMAGES[0].sha256, "Normal", "Chief")
    review.adjudicate(ledger, TASK, IMAGES[1].sha256, "Effusion", "Chief")
    flags = review.load_flags(ledger.root)
    found = agreements.count_switches(flags, review.accept_labels(flags, "phantom"), "phantom")
    assert [tuple(switch) for switch in found] == [
        ("all readers", True, 1, 2),
        ("all readers", False, 1, 1),
        ("AB", True, 1, 1),
        ("AB", False, 1, 1),
        ("CD", True, 0, 1),
        ("CD", False, 0, 0),
    ]
    low, high = found[0].interval
    assert (low, high) == pytest.approx((0.0945, 0.9055), abs=1e-3)  # Wilson for 1 of 2
    assert found[-1].interval is None
    html = review_view.render_switches(found)
    assert "<b>50 %</b> (9 to 91) · 1 of 2" in html and "no case" in html


def test_switches_to_a_right_and_to_a_wrong_panel_are_not_mixed_up(ledger):
    """By hand: the panel is right of images 0 and 1, where AB follows it, and wrong of image 2, where AB does not."""
    for image, panel, kept in ((0, "Normal", "Normal"), (1, "Normal", "Normal"), (2, "Nodule", "Effusion")):
        more = {"mode": "blinded", "consensus_label": panel, "first_label": "Effusion"}
        add(ledger, IMAGES[image], kept, "AB", **more)
    for image, label in enumerate(("Normal", "Normal", "Effusion")):
        review.adjudicate(ledger, TASK, IMAGES[image].sha256, label, "Chief")
    flags = review.load_flags(ledger.root)
    found = agreements.count_switches(flags, review.accept_labels(flags, "phantom"), "phantom")
    assert [tuple(switch) for switch in found[2:]] == [("AB", True, 2, 2), ("AB", False, 0, 1)]


def test_the_plot_has_every_figure_and_takes_the_pages_colours():
    said = pd.DataFrame({"x": list("aabb"), "y": list("abab"), "z": list("bbaa")})
    kappas = agreements.compare_raters(said, ["a", "b"])
    svg = agreements.draw_agreement(kappas, ["x", "y", "z"])
    assert ">0.00<" in svg and ">−1.00<" in svg
    assert "var(--text)" in svg and "var(--warn)" in svg and "#16181d" not in svg
    assert svg.startswith('<svg role="img"')
    long = "reader " + "long" * 9
    short = agreements.draw_agreement([agreements.Kappa(long, "y", 4, 0.5, 0.0, 1.0)], [long, "y"])
    assert ">reader longlonglong…<" in short
