import numpy as np
import pandas as pd
import pytest

from evaluation.predictions import CONSENSUS, PredictionError, read_predictions, tabulate, write_predictions
from evaluation.worklist import list_worklist
from xray_models.layouts import DataError
from xray_models.rows import write_sheet
from xray_models.tasks import load_task

TASK = load_task("phantom")


def make_rows(count: int = 12, models: tuple[str, ...] = ("a", "b"), seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    rows = []
    for number in range(count):
        for model in models:
            probs = rng.dirichlet(np.ones(4)).round(6)
            rows.append(
                {
                    "image": f"x/{number}.png",
                    "group": f"g{number // 2}",
                    "label": TASK.labels[number % 4],
                    "model": model,
                    "revision": "1",
                    "predicted": TASK.labels[probs.argmax()],
                    **{f"p:{label}": p for label, p in zip(TASK.labels, probs, strict=True)},
                }
            )
    return pd.DataFrame(rows)


@pytest.fixture
def save(tmp_path):
    def save(rows: pd.DataFrame, name: str = "predictions.csv"):
        rows.to_csv(tmp_path / name, index=False)
        return tmp_path / name

    return save


def test_reading_gives_what_was_written(save):
    rows = make_rows()
    table = tabulate(TASK, read_predictions([save(rows)], TASK))
    assert list(table.answers) == ["a", "b", CONSENSUS]
    assert table.images[:2] == ("x/0.png", "x/1.png")
    assert table.groups[:3].tolist() == ["g0", "g0", "g1"]
    assert table.truth[:5].tolist() == [0, 1, 2, 3, 0]
    expected = rows[rows["model"] == "b"][[f"p:{label}" for label in TASK.labels]].to_numpy()
    np.testing.assert_allclose(table.answers["b"].probs, expected)
    both = (table.answers["a"].probs + table.answers["b"].probs) / 2
    np.testing.assert_allclose(table.answers[CONSENSUS].probs, both)
    assert table.answers["a"].sets is None
    assert table.answers[CONSENSUS].sets is None


def test_writing_and_reading_again_changes_nothing(save, tmp_path):
    table = tabulate(TASK, read_predictions([save(make_rows())], TASK))
    write_predictions(table, tmp_path / "again.csv")
    again = tabulate(TASK, read_predictions([tmp_path / "again.csv"], TASK))
    np.testing.assert_allclose(again.answers[CONSENSUS].probs, table.answers[CONSENSUS].probs)
    assert again.images == table.images
    header = (tmp_path / "again.csv").read_text().splitlines()[0]
    assert header == "image,group,label,model,revision,predicted," + ",".join(f"p:{k}" for k in TASK.labels)


def test_files_are_joined_and_a_missing_answer_stays_missing(save):
    first, second = make_rows(models=("a",)), make_rows(models=("b",), seed=1).iloc[3:]
    table = tabulate(TASK, read_predictions([save(first, "1.csv"), save(second, "2.csv")], TASK))
    assert table.answers["b"].answered.tolist() == [False] * 3 + [True] * 9
    assert (table.answers["b"].predicted[:3] == -1).all()
    np.testing.assert_allclose(table.answers[CONSENSUS].probs[0], table.answers["a"].probs[0])


def test_an_image_without_a_group_is_one_by_itself(save):
    rows = make_rows()
    rows.loc[rows.index >= 8, "group"] = ""
    table = tabulate(TASK, read_predictions([save(rows)], TASK))
    assert table.groups.tolist() == ["g0", "g0", "g1", "g1", *(f"x/{number}.png" for number in range(4, 12))]


def change(column, value):
    def changed(rows):
        rows = rows.astype({column: object})
        rows.loc[3, column] = value
        return rows

    return changed


BROKEN = {
    "no column 'group'": lambda rows: rows.drop(columns="group"),
    "no column 'p:Nodule'": lambda rows: rows.drop(columns="p:Nodule"),
    "'p:Mass' is no label": lambda rows: rows.assign(**{"p:Mass": 0}),
    "row 5: its label is none of Normal": change("label", "Mass"),
    "row 5: its predicted is none of": change("predicted", ""),
    "row 5: a probability is no number": change("p:Nodule", "high"),
    "row 5: a probability is no number from 0": change("p:Nodule", -0.2),
    "row 5: its probabilities must sum to 1": lambda rows: rows.assign(
        **{"p:Nodule": rows["p:Nodule"].where(rows.index != 3, 0.0)}
    ),
    "two rows for image 'x/0.png'": lambda rows: pd.concat([rows, rows.iloc[:1]]),
    "'x/1.png' has more than one label": change("label", "Nodule"),
    "'x/1.png' has more than one group": change("group", "other"),
    "Model 'b' answers at two revisions, '1' and '2'": change("revision", "2"),
    "row 5: its image is empty": change("image", ""),
    "row 5: its model is empty": change("model", " "),
    "two columns 'p:Nodule'": lambda rows: pd.concat([rows, rows[["p:Nodule"]]], axis=1),
    "no row below it": lambda rows: rows[:0],
    "hold no prediction": lambda rows: rows.assign(model="consensus"),
}


@pytest.mark.parametrize("message", BROKEN)
def test_what_cannot_be_right_is_refused(message, save):
    with pytest.raises(DataError, match=message):
        read_predictions([save(BROKEN[message](make_rows()))], TASK)


def test_predicted_must_be_the_most_probable(save):
    rows = make_rows()
    row = rows.loc[0, [f"p:{label}" for label in TASK.labels]].to_numpy(dtype=float)
    rows.loc[0, "predicted"] = TASK.labels[row.argmin()]
    with pytest.raises(PredictionError, match="row 2: predicted is not its most probable label"):
        read_predictions([save(rows)], TASK)


def test_no_csv_file_is_refused(tmp_path):
    (tmp_path / "empty.csv").write_text("")
    for name in ("empty.csv", "missing.csv"):
        with pytest.raises(DataError, match="cannot be read as a CSV file"):
            read_predictions([tmp_path / name], TASK)
    text = make_rows().to_csv(index=False)
    for content, says in (
        (text.replace(",", ";").encode(), "no column 'image', but 'image;group;.*with commas between them"),
        (text.encode("utf-16"), "not in UTF-8"),
        (text.replace("\n", ",\n").replace(",\n", "\n", 1).encode(), "Expected 10 fields in line 2, saw 11"),
    ):
        (tmp_path / "odd.csv").write_bytes(content)
        with pytest.raises(DataError, match=says):
            read_predictions([tmp_path / "odd.csv"], TASK)


def test_what_a_spreadsheet_writes_is_read(tmp_path):
    rows = make_rows()
    (tmp_path / "windows.csv").write_bytes(b"\xef\xbb\xbf" + rows.to_csv(index=False, lineterminator="\r\n").encode())
    assert [case.image for case in read_predictions([tmp_path / "windows.csv"], TASK)] == list(rows["image"].unique())


def test_no_name_runs_as_a_formula_and_all_come_back(save, tmp_path):
    rows = make_rows()
    rows["image"] = rows["image"].where(rows["image"] != "x/3.png", "=cmd|' /C calc'!A1/3.png")
    rows["group"] = rows["group"].where(rows["group"] != "g0", "-1")
    table = tabulate(TASK, read_predictions([save(rows)], TASK))
    write_predictions(table, tmp_path / "again.csv")
    write_sheet(list_worklist(table), tmp_path / "worklist.csv")
    shown = [pd.read_csv(tmp_path / name, dtype=str) for name in ("again.csv", "worklist.csv")]
    assert not any(cell.startswith(("=", "-")) for sheet in shown for cell in sheet["image"])
    assert set(shown[0]["image"]) == set(shown[1]["image"])
    again = tabulate(TASK, read_predictions([tmp_path / "again.csv"], TASK))
    assert again.images == table.images and list(again.groups) == list(table.groups)
