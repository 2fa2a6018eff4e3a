import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import accuracy_score

from evaluation.predictions import CONSENSUS, PredictionError
from evaluation.subgroups import build_subgroup_section, judge_subgroups, match_metadata, read_metadata
from tests.test_report import make_table
from xray_models.layouts import DataError


@pytest.fixture
def table():
    return make_table()


def write(path, table, **columns):
    pd.DataFrame({"image": table.images, **columns}).sample(frac=1, random_state=0).to_csv(path, index=False)
    return path


def match(path, table):
    return match_metadata(read_metadata(path), table)


def test_each_subgroup_has_its_own_figures(table, tmp_path):
    sex = ["f"] * 32 + ["m"] * 6 + [""] * 2
    metadata = match(write(tmp_path / "m.csv", table, sex=sex), table)
    assert metadata["sex"].tolist() == sex
    found = judge_subgroups(table, metadata, 100, 0)["sex"]
    predicted = table.answers[CONSENSUS].predicted
    assert {value: part["n"] for value, part in found.items()} == {"f": 32, "m": 6, "not known": 2}
    assert found["f"]["accuracy"]["value"] == pytest.approx(accuracy_score(table.truth[:32], predicted[:32]))
    assert found["m"]["accuracy"]["value"] == pytest.approx(accuracy_score(table.truth[32:38], predicted[32:38]))
    assert [found[value]["small"] for value in ("f", "m")] == [False, True]
    rows = build_subgroup_section({"sex": found}).blocks[1].rows
    assert [row[0] for row in rows] == ["f", "m *", "not known *"]


def test_ages_and_other_numbers_are_cut_into_bands(table, tmp_path):
    age = np.linspace(1, 90, 40).round().astype(int)
    dose = np.linspace(0.1, 4.1, 40)
    metadata = match(write(tmp_path / "m.csv", table, age=age, dose=dose), table)
    assert set(metadata["age"]) == {"0 to below 18", "18 to below 40", "40 to below 65", "65 and above"}
    assert metadata["age"][age.tolist().index(17) if 17 in age else 0] == "0 to below 18"
    assert metadata["dose"].value_counts().tolist() == [10, 10, 10, 10]


def test_few_numbers_stay_as_they_are(table, tmp_path):
    metadata = match(write(tmp_path / "m.csv", table, site=[1, 2] * 20), table)
    assert set(metadata["site"]) == {"1", "2"}


def test_what_is_another_for_every_image_divides_nothing(table, tmp_path, caplog, monkeypatch):
    monkeypatch.setattr("evaluation.subgroups.MOST", 30)
    patient, dose = [f"p{number}" for number in range(40)], ["inf", *range(39)]
    metadata = match(write(tmp_path / "m.csv", table, sex=["f", "m"] * 20, patient=patient, dose=dose), table)
    assert list(metadata) == ["sex"]
    assert "column 'patient' is left out: of its 40 values at most 30 divide" in caplog.text


@pytest.mark.parametrize(
    ("start", "step", "first"), [(20200101, 1, "20200101 to below 20200110.75"), (1, 1e-14, "1.0 to below 1.00000000")]
)
def test_bands_have_names_of_their_own_however_near(table, tmp_path, start, step, first):
    metadata = match(write(tmp_path / "m.csv", table, measured=[start + step * n for n in range(40)]), table)
    assert metadata["measured"].value_counts().tolist() == [10, 10, 10, 10]
    assert metadata["measured"][0].startswith(first)


def test_whole_numbers_that_name_the_images_divide_nothing(table, tmp_path, caplog, monkeypatch):
    """Ids and dates; not ages, nor what was measured, nor what several images share."""
    monkeypatch.setattr("evaluation.subgroups.MOST", 30)
    numbers = np.arange(40)
    columns = {"date": 20200101 + numbers, "age": numbers + 20, "dose": numbers + 0.5, "patient": numbers // 2}
    assert list(match(write(tmp_path / "m.csv", table, **columns), table)) == ["age", "dose", "patient"]
    assert "column 'date' is left out: of its 40 values at most 30 divide" in caplog.text


def test_file_names_alone_are_enough(table, tmp_path):
    path = tmp_path / "m.csv"
    names = [f"a/b/{number}.png" for number in range(40)]
    table = type(table)(**{**vars(table), "images": tuple(names)})
    pd.DataFrame({"image": [f"{n}.png" for n in range(40)], "view": ["ap", "pa"] * 20}).to_csv(path, index=False)
    assert match(path, table)["view"].tolist() == ["ap", "pa"] * 20


def test_a_bare_name_that_several_images_bear_is_refused(table, tmp_path):
    names = [f"{'NORMAL' if number % 2 else 'PNEUMONIA'}/{number // 2}.png" for number in range(40)]
    table = type(table)(**{**vars(table), "images": tuple(names)})
    path = tmp_path / "m.csv"
    pd.DataFrame({"image": ["7.png"], "view": ["ap"]}).to_csv(path, index=False)
    with pytest.raises(PredictionError, match="'7.png', a bare name that 2 of .* for instance 'PNEUMONIA/7.png'"):
        match(path, table)


def test_bare_names_may_stand_beside_paths(table, tmp_path):
    names = [f"a/{number}.png" for number in range(38)] + ["a/twin.png", "b/twin.png"]
    table = type(table)(**{**vars(table), "images": tuple(names)})
    known = [f"{number}.png" for number in range(38)] + ["a/twin.png", "b/twin.png"]
    path = tmp_path / "m.csv"
    pd.DataFrame({"image": known, "view": ["ap", "pa"] * 20}).to_csv(path, index=False)
    assert match(path, table)["view"].tolist() == ["ap", "pa"] * 20
    pd.DataFrame({"image": ["3.png", "a/3.png"], "view": ["ap", "pa"]}).to_csv(path, index=False)
    with pytest.raises(PredictionError, match="two rows for one image: 'a/3.png' and '3.png'"):
        match(path, table)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file,sex\na,f\n", "no column 'image', but 'file', 'sex'. It needs image"),
        ("image;sex\na;f\n", "no column 'image', but 'image;sex'. It needs image, with commas"),
        ("image,sex,sex\na,f,m\n", "two columns 'sex'"),
        ("image,sex\na,f,\n", "Expected 2 fields in line 2, saw 3"),
        ("image,sex\n", "no row below it"),
        ("image\na\n", "at least one more"),
        ("image,sex\nnowhere.png,f\n", "name none of the evaluated images. Their first is 'nowhere.png'"),
        ("image,sex\na.png,f\na.png,m\n", "two rows for image 'a.png'"),
    ],
)
def test_a_table_that_does_not_fit_is_refused(table, tmp_path, text, message):
    path = tmp_path / "m.csv"
    path.write_text(text)
    with pytest.raises(DataError, match=message):
        match(path, table)
    with pytest.raises(DataError, match="cannot be read"):
        read_metadata(tmp_path / "none.csv")
