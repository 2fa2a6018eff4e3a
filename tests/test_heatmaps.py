import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from evaluation import faithfulness, heatmaps
from evaluation.document import Figures, Grid, Paragraph
from evaluation.heatmaps import build_heatmap_section, judge_heatmaps
from evaluation.plots import render_svg
from evaluation.regions import open_regions
from evaluation.samples import draw_rows
from tests.conftest import has_starters
from tests.test_samples import list_rows
from xray_models import phantom
from xray_models.map_words import describe_maps
from xray_models.panel import Panel
from xray_models.tasks import TaskError


@pytest.fixture(scope="module")
def found(untrained, phantoms):
    return judge_heatmaps(Panel.load(untrained, device="cpu"), list_rows(phantoms), phantoms, limit=8, seed=1)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """What was found for two trained models on phantoms that they have not seen."""
    if not has_starters("phantom"):
        pytest.skip("no starter models of phantom")
    folder = phantom.write_dataset(tmp_path_factory.mktemp("unseen") / "phantom", 24, seed=99_001)
    return judge_heatmaps(
        Panel.load("phantom", ["simple_cnn", "resnet18"], device="cpu"), list_rows(folder), folder, 16
    )


def test_everything_is_there_and_is_plain_data(found):
    assert found["n"] == 8
    assert found["regions"] == "finding"
    assert list(found["models"]) == ["simple_cnn", "resnet18", "vit_tiny"]
    for model in found["models"].values():
        assert model["regions"] == 6  # of eight images, two are of healthy patients
        assert 0 <= model["insertion"]["low"] <= model["insertion"]["high"] <= 1
        assert model["insertion"]["n"] == model["sanity"]["correlation"]["n"] == 8
        assert model["pointing"]["n"] == 6
        assert model["small"]["pointing"]["n"] == model["large"]["pointing"]["n"] == 3
        assert model["small"]["energy_chance"]["value"] < model["large"]["energy_chance"]["value"]
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_areas_are_those_of_the_curves(found):
    for model in found["models"].values():
        for measure, curve in model["curves"].items():
            assert model[measure]["value"] == pytest.approx(np.trapezoid(curve, dx=1 / (len(curve) - 1)), abs=1e-5)
        assert model["curves"]["insertion"][-1] == model["curves"]["deletion"][0]
        assert model["curves"]["insertion"][0] == model["curves"]["insertion_random"][0]
        gain = [model[measure]["value"] for measure in model["curves"]]
        assert model["gain"]["value"] == pytest.approx((gain[0] - gain[2] + gain[3] - gain[1]) / 2, abs=1e-5)


def test_chance_is_the_regions_area(found, untrained, phantoms):
    rows = draw_rows(list_rows(phantoms), 8, seed=1)
    regions = open_regions(untrained, phantoms)
    drawn = [regions.find(Path(path), (96, 96)) for path in rows["path"]]
    areas = [region.mean() for region in drawn if region is not None]
    for model in found["models"].values():
        assert model["energy_chance"]["value"] == pytest.approx(np.mean(areas), abs=1e-5)
        assert model["pointing_chance"]["value"] > model["energy_chance"]["value"]


def test_the_same_seed_finds_the_same(found, untrained, phantoms):
    panel = Panel.load(untrained, ["simple_cnn"], device="cpu")
    again = judge_heatmaps(panel, list_rows(phantoms), phantoms, limit=8, seed=1)
    assert again["models"]["simple_cnn"] == found["models"]["simple_cnn"]


def test_unknown_methods_are_named(untrained, phantoms):
    with pytest.raises(TaskError, match="Did you mean 'grad_cam'"):
        judge_heatmaps(Panel.load(untrained, device="cpu"), list_rows(phantoms), phantoms, 2, method="gradcam")


def test_a_model_that_fails_is_left_out_with_its_reason(untrained, phantoms, monkeypatch):
    panel = Panel.load(untrained, ["simple_cnn", "resnet18"], device="cpu")
    explain = heatmaps.Judge._explain

    def fail(judge, member, *given):
        if member.name == "resnet18":
            raise RuntimeError("out of memory\nat some place")
        return explain(judge, member, *given)

    monkeypatch.setattr(heatmaps.Judge, "_explain", fail)
    found = judge_heatmaps(panel, list_rows(phantoms), phantoms, limit=3)
    assert list(found["models"]) == ["simple_cnn"]
    assert found["unavailable"] == {"resnet18": "out of memory"}
    assert found["agreement"] == {}
    texts = " ".join(block.text for block in build_heatmap_section(found).blocks if isinstance(block, Paragraph))
    assert "resnet18: out of memory" in texts


def test_without_regions_nothing_is_said_about_places(untrained, phantoms):
    task = dataclasses.replace(untrained, dataset=dataclasses.replace(untrained.dataset, layout="label_folders"))
    found = judge_heatmaps(Panel.load(task, ["simple_cnn"], device="cpu"), list_rows(phantoms), phantoms, limit=3)
    assert found["regions"] == ""
    assert found["models"]["simple_cnn"]["regions"] == 0
    assert "pointing" not in found["models"]["simple_cnn"]
    assert "point into" not in describe_maps(found, "HiResCAM")["simple_cnn"].text
    assert [block.name for block in build_heatmap_section(found).blocks if isinstance(block, Figures)] == [
        "heatmap_curves"
    ]


def test_trained_models_look_at_lesions_more_than_chance_does(trained):
    for model in trained["models"].values():
        assert model["energy_gain"]["low"] > 0
        assert model["energy"]["value"] > 2 * model["energy_chance"]["value"]
        assert model["pointing"]["value"] > 3 * model["pointing_chance"]["value"]
    assert trained["models"]["simple_cnn"]["pointing"]["value"] >= 0.9


def test_what_trained_models_maps_call_important_is(trained):
    for model in trained["models"].values():
        assert model["gain"]["low"] > 0


def test_a_randomised_network_loses_the_trained_ones_map(trained):
    for model in trained["models"].values():
        assert model["sanity"]["passed"]
        assert abs(model["sanity"]["correlation"]["value"]) < faithfulness.LOST


def test_the_section(found):
    section = build_heatmap_section(found)
    grids = [block for block in section.blocks if isinstance(block, Grid)]
    assert all(len(row) == len(grid.heads) for grid in grids for row in grid.rows)
    assert [row[0] for row in grids[1].rows][-2:] == ["By chance", "Always the middle"]
    for block in section.blocks:
        if isinstance(block, Figures):
            assert all("<svg" in render_svg(plot) for plot in block.plots)
    assert any("does not show where disease is" in b.text for b in section.blocks if isinstance(b, Paragraph))


def test_no_model_at_all_is_said(untrained, phantoms):
    nobody = dataclasses.replace(untrained, models=())
    found = judge_heatmaps(Panel(nobody, []), list_rows(phantoms), phantoms, limit=2)
    assert found["models"] == {}
    assert build_heatmap_section(found).blocks[0].kind == "warning"
