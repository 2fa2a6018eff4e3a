import dataclasses
import json
import math
from functools import partial
from itertools import combinations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score
from statsmodels.stats.multitest import multipletests

from evaluation.metrics import METRICS, measure
from evaluation.operating import RULES
from evaluation.predictions import CONSENSUS, Answers, Table
from evaluation.scoring import score
from evaluation.statistics import bootstrap, compare_delong, compare_mcnemar, reflect

LABELS = ("COVID", "Lung_Opacity", "Normal", "Viral Pneumonia")


def make_table(n=240, models=3, classes=4, size=2, seed=0):
    """A panel of models of rising skill; `size` images a group; the consensus is their mean."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(classes, size=n)
    answers = {}
    for index in range(models):
        logits = rng.normal(size=(n, classes)) + (1 + 0.4 * index) * np.eye(classes)[truth]
        probs = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        answers[f"model{index}"] = Answers("1a2b", probs, probs > 0.2, np.ones(n))
    return finish(truth, np.arange(n) // size, answers, LABELS[:classes])


def finish(truth, groups, answers, labels):
    """Adds the consensus of those that answered."""
    together = np.nanmean([found.probs for found in answers.values()], axis=0)
    answers = answers | {CONSENSUS: Answers(None, together, None, np.full(len(truth), np.nan))}
    nothing = np.zeros(len(truth))
    images = tuple(f"{index}.png" for index in range(len(truth)))
    return Table(labels, images, groups.astype(str), truth, answers, nothing, nothing > 0)


def silence(table, name, rows):
    """The table as if a model had not answered some images."""
    probs = table.answers[name].probs.copy()
    probs[rows] = np.nan
    answers = table.models | {name: dataclasses.replace(table.answers[name], probs=probs, sets=None)}
    return finish(table.truth, table.groups, answers, table.labels)


@pytest.fixture(scope="module")
def judged():
    table = make_table()
    return table, score(table, 300, 0)


def list_intervals(node):
    if isinstance(node, dict) and set(node) == {"value", "low", "high"}:
        yield node
    elif isinstance(node, dict | list):
        for child in node.values() if isinstance(node, dict) else node:
            yield from list_intervals(child)


def test_every_interval_holds_its_value(judged):
    _, scores = judged
    intervals = list(list_intervals([scores["models"], scores["pairs"], scores["agreement"]]))
    assert len(intervals) > 300
    for interval in intervals:
        assert interval["low"] <= interval["value"] <= interval["high"], interval


@pytest.mark.parametrize(("error", "held"), [(0.02, 0.7), (0.05, 0.8), (0.1, 0.75)])
def test_the_interval_of_the_calibration_error_holds_the_true_one(error, held):
    """Percentile intervals would hold an error of 0.02 in no case, and one of 0.05 in 15 of 100."""
    rng = np.random.default_rng(0)
    inside = []
    for _ in range(100):
        sure = rng.uniform(0.55, 0.97, 600)
        truth = (rng.random(600) > sure - error).astype(int)
        probs = np.stack([sure, 1 - sure], axis=1)
        drawn = bootstrap(lambda w, p=probs, t=truth: {"ece": METRICS["ece"](p, t, w)}, np.arange(600), 200)
        value, low, high = reflect(drawn["ece"])
        assert 0 <= low <= value <= high
        inside.append(low <= error <= high)
    assert np.mean(inside) > held


def test_the_calibration_error_alone_is_reflected(judged):
    table, scores = judged
    answers = table.answers["model0"]
    measured = bootstrap(partial(measure, answers.probs, table.truth), table.groups, 300, 0)
    for metric, interval in ((name, measured[name]) for name in METRICS):
        expected = reflect(interval) if metric == "ece" else interval
        assert list(scores["models"]["model0"][metric].values()) == pytest.approx(list(expected), abs=1e-6)


def test_labels_have_areas_of_their_own(judged):
    table, scores = judged
    for name, answers in table.answers.items():
        found = scores["models"][name]
        areas = [roc_auc_score(table.truth == k, answers.probs[:, k]) for k in range(4)]
        assert [found["auroc_by_label"][label]["value"] for label in LABELS] == pytest.approx(areas, abs=1e-6)
        assert found["auroc"]["value"] == pytest.approx(np.mean(areas), abs=1e-6)
        shares = [found["auprc_by_label"][label]["value"] for label in LABELS]
        assert found["auprc"]["value"] == pytest.approx(np.mean(shares), abs=1e-6)


def test_operating_points_of_every_label_and_rule(judged):
    table, scores = judged
    for name, answers in table.answers.items():
        for k, label in enumerate(LABELS):
            points = scores["models"][name]["operating"][label]
            assert list(points) == list(RULES)
            called = answers.probs[:, k] >= points["sensitivity_95"]["threshold"]
            assert called[table.truth == k].mean() >= 0.95
            assert points["sensitivity_95"]["sensitivity"]["value"] == pytest.approx(0.95, abs=0.06)
            assert points["specificity_95"]["specificity"]["value"] == pytest.approx(0.95, abs=0.03)


def test_pairs_are_compared_on_the_same_images(judged):
    table, scores = judged
    assert [(pair["a"], pair["b"]) for pair in scores["pairs"]] == list(combinations(table.answers, 2))
    for pair in scores["pairs"]:
        a, b = (table.answers[pair[side]] for side in "ab")
        models = [scores["models"][pair[side]] for side in "ab"]
        for metric in ("accuracy", "auroc"):
            expected = models[0][metric]["value"] - models[1][metric]["value"]
            assert pair[f"{metric}_difference"]["value"] == pytest.approx(expected, abs=2e-6)
        right = [found.predicted == table.truth for found in (a, b)]
        assert pair["mcnemar_p"] == pytest.approx(compare_mcnemar(*right, table.groups), abs=1e-6)
        truth = table.truth[:, None] == np.arange(4)
        expected = compare_delong(a.probs, b.probs, truth, table.groups)
        assert pair["delong_p"] == pytest.approx(expected, abs=1e-6)
        assert pair["n"] == 240


def test_holm_s_correction_is_over_all_pairs(judged):
    _, scores = judged
    for test, corrected in (("mcnemar_p", "holm_p"), ("delong_p", "delong_holm_p")):
        expected = multipletests([pair[test] for pair in scores["pairs"]], method="holm")[1]
        assert [pair[corrected] for pair in scores["pairs"]] == pytest.approx(expected, abs=1e-5)


def test_images_on_which_two_differ_are_counted_by_who_is_right(judged):
    table, scores = judged
    for pair in scores["pairs"]:
        a, b = (table.answers[pair[side]].predicted for side in "ab")
        differ = a != b
        assert pair["differ"] == {
            "n": differ.sum(),
            "a_right": (a == table.truth)[differ].sum(),
            "b_right": (b == table.truth)[differ].sum(),
            "neither": ((a != table.truth) & (b != table.truth))[differ].sum(),
        }
        assert pair["differ"]["n"] == sum(value for key, value in pair["differ"].items() if key != "n")


def test_two_labels_are_compared_by_the_second_s_score():
    table = make_table(classes=2)
    pair = score(table, 50, 0)["pairs"][0]
    first, second = (table.answers[name].probs[:, 1] for name in ("model0", "model1"))
    expected = compare_delong(first, second, table.truth == 1, table.groups)
    assert pair["delong_p"] == pytest.approx(expected, abs=1e-6)


def test_copies_in_a_group_do_not_make_models_differ_more():
    once = make_table(n=120, size=1)
    copies = np.repeat(np.arange(120), 4)
    answers = {
        name: dataclasses.replace(found, probs=found.probs[copies], sets=found.sets[copies])
        for name, found in once.models.items()
    }
    copied = finish(once.truth[copies], copies, answers, once.labels)
    first, second = (score(table, 400, 0)["pairs"][0] for table in (once, copied))
    assert second["mcnemar_p"] == first["mcnemar_p"]
    assert second["delong_p"] == pytest.approx(first["delong_p"], rel=0.05)
    for key in ("accuracy_difference", "auroc_difference"):
        widths = [pair[key]["high"] - pair[key]["low"] for pair in (first, second)]
        assert widths[1] == pytest.approx(widths[0], rel=0.15)


def test_a_model_that_did_not_answer_everywhere_is_compared_where_both_did():
    whole = make_table()
    table = silence(whole, "model1", np.arange(240) % 5 == 0)
    scores = score(table, 50, 0)
    assert scores["models"]["model1"]["n"] == 192
    both = table.answers["model1"].answered
    pair = scores["pairs"][0]
    assert (pair["a"], pair["b"], pair["n"]) == ("model0", "model1", 192)
    first, second = (whole.answers[name].probs[both] for name in ("model0", "model1"))
    expected = METRICS["auroc"](first, table.truth[both]) - METRICS["auroc"](second, table.truth[both])
    assert pair["auroc_difference"]["value"] == pytest.approx(expected, abs=1e-6)
    truth = table.truth[both, None] == np.arange(4)
    assert pair["delong_p"] == pytest.approx(compare_delong(first, second, truth, table.groups[both]), abs=1e-6)
    assert pair["differ"]["n"] == (first.argmax(axis=1) != second.argmax(axis=1)).sum()
    agreement = scores["agreement"]
    assert agreement["krippendorff_alpha"]["value"] != agreement["fleiss_kappa"]["value"]


def test_two_that_share_no_image_are_not_compared():
    table = silence(make_table(models=2), "model0", np.arange(240) < 120)
    table = silence(table, "model1", np.arange(240) >= 120)
    scores = score(table, 30, 0)
    nothing = {"value": None, "low": None, "high": None}
    pair = scores["pairs"][0]
    assert (pair["n"], pair["mcnemar_p"], pair["delong_p"], pair["holm_p"]) == (0, None, None, None)
    assert pair["accuracy_difference"] == pair["auroc_difference"] == nothing
    assert pair["differ"] == {"n": 0, "a_right": 0, "b_right": 0, "neither": 0}
    assert scores["agreement"] == {
        "fleiss_kappa": None,
        "krippendorff_alpha": nothing,
        "cohen_kappa": {"model0|model1": nothing},
    }
    assert scores["pairs"][1]["n"] == 120


@pytest.mark.parametrize("size", [1, 30])
@pytest.mark.parametrize("kept", [[0], [3, 9, 11], list(range(30))])
@pytest.mark.parametrize("models", [1, 2])
@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("alike", [False, True])
def test_small_and_one_sided_samples_give_none_and_no_crash(size, kept, models, classes, alike):
    whole = make_table(n=30, models=models, classes=classes, size=size)
    truth = np.zeros(len(kept), int) if alike else whole.truth[kept]
    answers = {
        name: dataclasses.replace(found, probs=found.probs[kept], sets=found.sets[kept], novelty=found.novelty[kept])
        for name, found in whole.models.items()
    }
    scores = score(finish(truth, whole.groups[kept], answers, whole.labels), 20, 0)
    text = json.dumps(scores, allow_nan=False)
    assert json.loads(text) == scores
    found = scores["models"]["model0"]
    assert not math.isnan(found["accuracy"]["value"])
    if alike or len(kept) == 1:
        assert found["auroc"] == {"value": None, "low": None, "high": None}
        assert found["operating"][LABELS[0]]["youden"]["threshold"] is None
        assert scores["pairs"][0]["delong_p"] is None
    assert (scores["agreement"]["krippendorff_alpha"] is None) == (models == 1)
    for absent in set(range(classes)) - set(truth):
        assert found["auroc_by_label"][LABELS[absent]]["value"] is None
        assert found["sensitivity"][LABELS[absent]]["value"] is None


def test_the_same_seed_gives_the_same_numbers(judged):
    table, scores = judged
    assert score(table, 300, 0)["pairs"] == scores["pairs"]
    assert score(table, 300, 1)["pairs"] != scores["pairs"]
