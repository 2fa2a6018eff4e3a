import json

import numpy as np
import pytest

from evaluation import robustness
from evaluation.document import Figures, Grid, Paragraph
from evaluation.perturbations import PERTURBATIONS
from evaluation.plots import render_svg
from evaluation.robustness import build_robustness_section, judge_robustness
from tests.conftest import has_starters
from tests.test_samples import list_rows
from xray_models.panel import Panel


@pytest.fixture(scope="module")
def panel(untrained):
    return Panel.load(untrained, ["simple_cnn", "resnet18"], device="cpu")


@pytest.fixture(scope="module")
def found(panel, phantoms):
    return judge_robustness(panel, list_rows(phantoms), phantoms, limit=4, seed=1)


def test_every_perturbation_is_judged_at_every_strength(found):
    assert found["models"] == ["simple_cnn", "resnet18", "consensus"]
    assert found["n"] == 4
    assert list(found["perturbations"]) == list(PERTURBATIONS)
    for name, entry in found["perturbations"].items():
        assert entry["strengths"] == [0, *PERTURBATIONS[name].strengths]
        for measure in ("accuracy", "same_label"):
            assert {len(values) for values in entry[measure].values()} == {6}
            assert list(entry[measure]) == found["models"]
        assert len(entry["fleiss_kappa"]) == len(entry["loss"]) == 6
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_without_a_perturbation_nothing_changes(found):
    first = next(iter(found["perturbations"].values()))
    for entry in found["perturbations"].values():
        assert all(values[0]["value"] == 1 for values in entry["same_label"].values())
        assert entry["loss"][0] == {"value": 0, "low": 0, "high": 0}
        for model, values in entry["accuracy"].items():
            assert values[0] == first["accuracy"][model][0]


def test_the_same_seed_finds_the_same(found, panel, phantoms):
    assert judge_robustness(panel, list_rows(phantoms), phantoms, limit=4, seed=1) == found


def test_measures_equal_counts_by_hand():
    """Four images, two variants, two models and their consensus; the last image was not answered by model b."""
    untouched = [[0, 0, 0], [1, 1, 1], [0, 1, 0], [1, -1, 1]]
    perturbed = [[0, 1, 0], [1, 1, 1], [1, 1, 1], [0, -1, 0]]
    named = np.stack([untouched, perturbed], axis=1)
    truth = np.array([0, 1, 0, 1])
    got = robustness._measure(named, truth, 2, None)
    assert got["accuracy"].tolist() == [[1, pytest.approx(2 / 3), 1], [0.5, pytest.approx(1 / 3), 0.5]]
    assert got["same_label"][1].tolist() == [0.5, pytest.approx(2 / 3), 0.5]
    assert got["loss"].tolist() == [0, 0.5]
    counts = [[[2, 0], [0, 2], [1, 1]], [[1, 1], [0, 2], [0, 2]]]
    for variant in (0, 1):
        shares = np.array(counts[variant]).sum(axis=0) / 6
        expected = (2 / 3 - (shares**2).sum()) / (1 - (shares**2).sum())
        assert got["fleiss_kappa"][variant] == pytest.approx(expected)


@pytest.mark.parametrize(
    ("losses", "strength"),
    [((0, 0, 0.1, 0.2), 2), ((0, 0.2, 0, 0.2), 3), ((0, 0.2, 0.2, 0), None), ((0, 0.05, 0.05, 0.05), 1)],
)
def test_harm_begins_where_it_does_not_end(losses, strength):
    assert robustness._find_harm((0, 1, 2, 3), losses) == strength


def test_the_section_says_what_hurts_most(found):
    section = build_robustness_section(found)
    texts = [block.text for block in section.blocks if isinstance(block, Paragraph)]
    assert "4 images" in texts[1]
    grids = [block for block in section.blocks if isinstance(block, Grid)]
    assert all(len(row) == len(grid.heads) for grid in grids for row in grid.rows)
    assert [row[0] for row in grids[1].rows] == found["models"]
    figures = next(block for block in section.blocks if isinstance(block, Figures))
    assert [plot.title for plot in figures.plots] == [way.title for way in PERTURBATIONS.values()]
    assert "<svg" in render_svg(figures.plots[0])


def test_the_summary_names_the_worst_and_the_harmless():
    def way(name, *losses):
        values = [{"value": loss} for loss in (0, *losses)]
        strengths = [0, *PERTURBATIONS[name].strengths]
        harm = robustness._find_harm(strengths, [entry["value"] for entry in values])
        title = PERTURBATIONS[name].title
        return {"title": title, "loss": values, "strengths": strengths, "harmful_from": harm}

    ways = {"noise": way("noise", 0, 0, 0.1, 0.2, 0.3), "blur": way("blur", 0, 0.1, 0.1, 0.1, 0.1)}
    ways["jpeg"] = way("jpeg", 0, 0, 0, 0, 0.04)
    text = robustness_text(ways)
    assert "noise (16 %) costs the consensus most: 30 points" in text
    even = {"noise": ways["noise"], "blur": way("blur", 0, 0.1, 0.1, 0.1, 0.3)}
    assert "noise (16 %) and blur (4 %) cost the consensus most: 30 points" in robustness_text(even)
    assert "soonest under blur (0.5 %)" in text
    assert "never loses as much under JPEG" in text
    assert robustness_text({"jpeg": ways["jpeg"]}).startswith("No perturbation costs the consensus 5 points")


def robustness_text(ways):
    from evaluation.robustness_section import _summarise

    return _summarise({"perturbations": ways}).replace("\N{NO-BREAK SPACE}", " ")


def test_a_single_model_has_no_kappa(untrained, phantoms):
    found = judge_robustness(
        Panel.load(untrained, ["simple_cnn"], device="cpu"), list_rows(phantoms), phantoms, limit=2
    )
    assert found["perturbations"]["noise"]["fleiss_kappa"][0]["value"] is None
    assert build_robustness_section(found).blocks


def test_trained_models_suffer_from_strong_noise(phantoms):
    if not has_starters("phantom"):
        pytest.skip("no starter models of phantom")
    found = judge_robustness(
        Panel.load("phantom", ["simple_cnn"], device="cpu"), list_rows(phantoms), phantoms, limit=12
    )
    noise = found["perturbations"]["noise"]["accuracy"]["simple_cnn"]
    assert noise[-1]["value"] < noise[0]["value"]
