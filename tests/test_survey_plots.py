import matplotlib
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from PIL import Image

from xray_models import survey_plots


def draw(function, *given):
    axes = Figure().subplots()
    function(axes, *given)
    return axes


def test_bars_are_as_long_as_the_counts():
    counts = pd.DataFrame({"train": [7, 3], "validation": [2, 1], "test": [1, 1], "all": [10, 5]}, index=["a", "b"])
    axes = draw(survey_plots.draw_counts, counts)
    ends = [max(bar.get_x() + bar.get_width() for bar in bars) for bars in axes.containers]
    assert ends == [7, 9, 10]
    assert [text.get_text() for text in axes.texts] == ["10", "5"]


def test_each_size_is_one_dot():
    measures = pd.DataFrame({"width": [100, 100, 300], "height": [50, 50, 80]})
    axes = draw(survey_plots.draw_sizes, pd.Series(["a", "a", "b"]), measures, 64)
    dots = [tuple(point) for dots in axes.collections for point in dots.get_offsets()]
    assert sorted(dots) == [(100, 50), (300, 80)]


def test_a_sheet_shows_the_pictures_pixel_for_pixel(tmp_path):
    for name, shape in (("a", (144, 100)), ("b", (50, 144))):
        Image.fromarray(np.full(shape, 77, np.uint8)).save(tmp_path / f"{name}.png")
    with matplotlib.rc_context(survey_plots.STYLE):
        sheet = survey_plots.draw_sheet(pd.Series([str(tmp_path / "a.png"), str(tmp_path / "b.png")]), "healthy")
        sheet.savefig(tmp_path / "sheet.png", dpi=survey_plots._DOTS)
    assert sheet.texts[0].get_text() == "healthy: 2 of 2 images"
    pixels = np.asarray(Image.open(tmp_path / "sheet.png").convert("L"))
    first, second = pixels[-152:-8, 8:152], pixels[-152:-8, 160:304]
    assert (first == 77).sum() == 144 * 100
    assert (second[47:97] == 77).all()


def test_clusters_say_their_labels_and_splits(tmp_path):
    paths = []
    for i in range(3):
        paths.append(str(tmp_path / f"{i}.png"))
        Image.fromarray(np.full((60, 60), 40 * i, np.uint8)).save(paths[-1])
    rows = pd.DataFrame({"path": paths, "label": ["a", "a", "b"], "split": ["train", "train", "test"]})
    figure = survey_plots.draw_clusters(rows, [np.array([0, 1, 2])])
    assert figure.texts[0].get_text() == "3 near-copies: a 2, b 1; train 2, test 1"


def test_every_label_has_a_sheet_of_its_own():
    labels = ["beyond repair", "正常", "肺炎", "Grade +", "Grade -", "grade 2", "+", "-"]
    assert list(survey_plots.name_sheets(labels).values()) == [
        "sheet_beyond_repair",
        "sheet_正常",
        "sheet_肺炎",
        "sheet_grade",
        "sheet_grade_2",
        "sheet_grade_2_2",
        "sheet_label",
        "sheet_label_2",
    ]
