import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from evaluation import shortcuts
from evaluation.shortcuts import find_strongest, fold_groups, judge_shortcuts, pick_images, predict_apart
from evaluation.traits import FAMILIES
from xray_models.headers import Header
from xray_models.phantom import LABELS, draw_phantom

COUNT = 160


def judge(pictures, labels, seed=0):
    headers = [Header(1000, 64, 64, "PNG", "L", 0.0, "", "")] * len(labels)
    traits = {name: FAMILIES[name].measure(headers, pictures) for name in ("border", "exposure", "margins")}
    return judge_shortcuts(labels, np.arange(len(labels)), traits, seed)


def draw(seed):
    labels = [LABELS[index % 4] for index in range(COUNT)]
    return np.stack([draw_phantom(label, 100_000 * seed + k, 64).pixels for k, label in enumerate(labels)]), labels


@pytest.mark.parametrize("seed", [0, 1])
def test_phantoms_raise_no_alarm_until_a_corner_is_marked(seed):
    pictures, labels = draw(seed)
    assert not any(shortcut.alarm for shortcut in judge(pictures, labels, seed).values())
    pictures[np.array(labels) == "Nodule", :3, -3:] = 255  # a small bright square
    marked = judge(pictures, labels, seed)
    assert [name for name, shortcut in marked.items() if shortcut.alarm] == ["margins"]
    margins = marked["margins"]
    assert margins.clearest == "Nodule"
    assert margins.strongest.endswith("at the top, piece 8 of 8")
    assert margins.higher
    assert margins.there


def make_traits(labels, seed=0, **told):
    """Noise, and for each named family a trait that is shifted in label a."""
    rng = np.random.default_rng(seed)
    own = np.asarray(labels) == "a"
    return {
        name: pd.DataFrame({"first": rng.normal(size=len(own)), "second": rng.normal(size=len(own)) + shift * own})
        for name, shift in told.items()
    }


def test_what_is_there_need_not_matter():
    labels = ["a", "b"] * 300
    found = judge_shortcuts(labels, np.arange(600), make_traits(labels, border=0.0, margins=-0.6, image_size=-2.0))
    assert not found["border"].there
    assert found["margins"].there and not found["margins"].alarm
    assert found["image_size"].there and found["image_size"].alarm
    assert found["image_size"].strongest == "second"
    assert found["image_size"].higher == (found["image_size"].clearest == "b")
    assert found["image_size"].auroc.value == pytest.approx(0.921, abs=0.03)  # of two normals 2 apart


def test_the_bar_is_higher_where_the_finding_itself_may_show():
    labels = ["a", "b"] * 300
    found = judge_shortcuts(labels, np.arange(600), make_traits(labels, border=1.2, exposure=1.2))
    assert found["border"].alarm
    assert found["exposure"].there and not found["exposure"].alarm


def test_one_label_of_several_is_enough():
    labels = [f"{letter}" for letter in "abcdef"] * 60
    found = judge_shortcuts(labels, np.arange(360), make_traits(labels, margins=6.0))["margins"]
    assert found.clearest == "a" and found.alarm
    assert found.labels["a"].low > 0.99
    assert found.auroc.value < 0.75
    assert found.auroc.value == pytest.approx(np.mean([area.value for area in found.labels.values()]))


def test_groups_are_never_split():
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(12), 50)  # each group has a look of its own, its likes the other label
    truth = groups % 2
    traits = np.column_stack([groups + rng.normal(0, 0.01, 600), rng.normal(size=600)])
    assert roc_auc_score(truth, predict_apart(traits, truth, fold_groups(truth, groups))[:, 1]) < 0.6
    assert roc_auc_score(truth, predict_apart(traits, truth, fold_groups(truth, np.arange(600)))[:, 1]) > 0.9


def test_labels_of_few_groups_are_left_out(monkeypatch):
    labels = ["a"] * 30 + ["b"] * 30 + ["c"] * 30
    groups = np.concatenate([np.arange(60), np.repeat(np.arange(60, 75), 2)])
    assert pick_images(labels, groups).tolist() == list(range(60))
    assert len(pick_images(labels[30:], groups[30:])) == 0
    found = judge_shortcuts(labels[30:], groups[30:], make_traits(labels[30:], border=9.0))["border"]
    assert np.isnan(found.auroc.value) and found.clearest == "" and not found.alarm
    monkeypatch.setattr(shortcuts, "MOST", 20)
    assert len(set(pick_images(labels, groups))) == 20


def test_the_strongest_trait_is_the_one_of_the_farthest_auroc():
    rng = np.random.default_rng(0)
    own = np.arange(200) % 3 == 0
    traits = rng.normal(size=(200, 5)).round(1)  # with ties
    traits[:, 3] -= own
    areas = [roc_auc_score(own, column) for column in traits.T]
    assert find_strongest(traits, own) == (3, False)
    assert np.argmax(np.abs(np.array(areas) - 0.5)) == 3
    assert find_strongest(-traits, own) == (3, True)
    assert find_strongest(np.ones((200, 2)), own) == (None, False)
