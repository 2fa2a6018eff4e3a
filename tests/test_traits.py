import numpy as np
import pytest

from evaluation import traits
from evaluation.margins import SHARE
from evaluation.traits import FAMILIES, MARGIN
from xray_models.datasets import THUMBNAIL
from xray_models.headers import Header

HEADERS = [
    Header(6000, 200, 300, "JPEG", "L", 10.0, "aaa", "jfif"),
    Header(3000, 100, 100, "JPEG", "L", 10.0, "aaa", "jfif"),
    Header(3000, 100, 100, "PNG", "RGB", 0.0, "", ""),
]


def thumbnails(count=3, seed=0):
    return np.random.default_rng(seed).integers(60, 200, (count, 64, 64)).astype(np.uint8)


def test_the_panel_is_asked_about_the_same_margins():
    assert MARGIN / THUMBNAIL.height == SHARE


def test_files_are_measured():
    files = traits.measure_file_size(HEADERS, thumbnails())
    assert files["bytes per pixel"].tolist() == [0.1, 0.3, 0.3]
    sizes = traits.measure_image_size(HEADERS, thumbnails())
    assert sizes["width by height"].tolist() == [1.5, 1, 1]
    coding = traits.measure_coding(HEADERS, thumbnails())
    assert coding["JPEG tables"].tolist() == [0, 0, 1]  # the most frequent first
    assert coding["JPEG coarseness"].tolist() == [10, 10, 0]


def test_borders_are_measured_on_each_side():
    pictures = thumbnails()
    pictures[0, :3] = 5
    pictures[1, :, -7:] = 250
    pictures[2, 30:40] = 0  # a dark band inside is no border
    table = traits.measure_border(HEADERS, pictures)
    assert table.loc[0, "dark border, top"] == 3
    assert table.loc[1, "bright border, right"] == 7
    assert table.to_numpy().sum() == 10


def test_exposure_is_numpys():
    pictures = thumbnails()
    table = traits.measure_exposure(HEADERS, pictures)
    assert table["mean grey"].to_numpy() == pytest.approx(pictures.mean(axis=(1, 2)))
    assert table["95th percentile of grey"].to_numpy() == pytest.approx(np.percentile(pictures, 95, axis=(1, 2)))


def test_margins_see_all_of_the_margin_and_nothing_else():
    pictures = thumbnails(1)
    before = traits.measure_margins(HEADERS[:1], pictures)
    assert before.shape == (1, 90)
    inner = pictures.copy()
    inner[:, MARGIN:-MARGIN, MARGIN:-MARGIN] = 0
    assert traits.measure_margins(HEADERS[:1], inner).equals(before)
    for row, column in [(0, 0), (0, 63), (63, 0), (63, 63), (3, 30), (60, 30), (30, 3), (30, 60), (59, 60), (4, 0)]:
        touched = pictures.copy()
        touched[0, row, column] = 255
        after = traits.measure_margins(HEADERS[:1], touched)
        assert 2 <= (after != before).to_numpy().sum() <= 3, (row, column)


def test_every_family_gives_a_row_for_each_image():
    for family in FAMILIES.values():
        table = family.measure(HEADERS, thumbnails())
        assert len(table) == 3
        assert table.columns.is_unique
        assert np.isfinite(table.to_numpy(float)).all()
