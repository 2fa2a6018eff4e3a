"""The ledger's CSV: what is put in comes out, whole rows only, and what was read is not read again."""

import csv
import io
import os
import re
from unittest import mock

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.test_flags import TASK, flag
from xray_models import flags, rows
from xray_models.flags import FIELDS, Ledger


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=40))
def test_no_text_looks_like_a_number_or_nothing_to_a_csv_reader(text):
    cell = rows.to_cell(text)
    line = rows.to_line(["comment", "x"]) + rows.to_line([cell, "x"])
    column = pd.read_csv(io.BytesIO(line))["comment"]
    assert isinstance(column.iloc[0], str)
    read = next(csv.DictReader(io.StringIO(line.decode(), newline="")))["comment"]
    assert rows.from_cell(read) == rows.clean(text)


@pytest.mark.parametrize("text", ["plain", "two\nlines", "é", "a, b", "1 of 2", "=1"])
def test_what_looks_like_a_text_stays_as_it_is(text):
    assert rows.to_cell(text) == text


@pytest.mark.parametrize(("text", "cell"), [("", '""'), ("12", '"12"'), ("true", '"true"'), ('"é', '"\\"é"')])
def test_what_does_not_becomes_a_json_string(text, cell):
    assert rows.to_cell(text) == cell


@pytest.mark.parametrize(
    ("data", "whole"),
    [
        (b"", 0),
        (b"x", 0),
        (b"\n", 1),
        (b"\nx", 1),
        (b"x\ny", 2),
        (b'x\n"', 2),
        (b'x\n"y\n', 2),
        (b'"x\n"\n', 5),
        (b'"x\ny\n', 0),
        (b'a,"x\ny"\nb,"z\n', 8),
    ],
)
def test_whole_rows_end_at_the_last_line_end_outside_quotes(data, whole):
    assert rows.parse_rows(data, 1).end == whole
    assert rows.measure_whole(b"flag_id\n" + data) == whole + 8


def test_a_cell_that_could_run_is_disarmed():
    assert [rows.disarm(cell) for cell in ("=1", "+1", "@x", "a=1", "")] == ["'=1", "'+1", "'@x", "a=1", ""]


def test_a_sheet_keeps_its_numbers(tmp_path):
    table = pd.DataFrame({"image": ["=cmd|calc!1.png", "a=1.png"], "change": [-0.5, 2], "mirrored": [True, False]})
    rows.write_sheet(table, tmp_path / "sheet.csv")
    lines = (tmp_path / "sheet.csv").read_text().splitlines()
    assert lines == ["image,change,mirrored", "'=cmd|calc!1.png,-0.5,True", "a=1.png,2.0,False"]


def test_a_row_that_was_cut_off_is_left_out_and_mended(tmp_path, image):
    ledger = Ledger(tmp_path)
    ledger.append(flag(image, comment="one\ntwo"), image, TASK)
    file = ledger.folder / "metadata.csv"
    whole = file.read_bytes()
    os.close(ledger._file)  # as when the process dies
    for cut in (b"abc.png,flag-2,2026", b'abc.png,flag-2,2026,"a\n'):
        file.write_bytes(whole + cut)
        assert len(flags.read_flags(tmp_path)) == 1
        assert rows.read_part(file).end == len(whole)
        assert rows.mend(tmp_path) == 1
        assert file.read_bytes() == whole
    assert rows.mend(tmp_path) == 0


def test_a_quotation_mark_that_somebody_left_costs_no_other_row(tmp_path, image, caplog):
    """Wherever it stands: `mend`, at the next start, takes nothing away but the row that it is in."""
    ledger = Ledger(tmp_path)
    said = {"model": {"label": "Nodule", "probs": {"Nodule": 1.0}, "revision": "r"}}
    for number, comment in enumerate(("plain", 'a "b", c', "two\nlines", "plain")):
        ledger.append(flag(image, flag_id=f"flag-{number}", comment=comment, opinions=said), image, TASK)
    os.close(ledger._file)
    file = ledger.folder / "metadata.csv"
    whole = file.read_bytes()
    begins = [match.start() for match in re.finditer(rb"^[0-9a-f]{64}\.png,", whole, re.MULTILINE)]
    for place in range(begins[0], len(whole)):
        file.write_bytes(whole[:place] + b'"' + whole[place:])
        edited = max(number for number, begin in enumerate(begins) if begin <= place)
        others = {f"flag-{number}" for number in range(4)} - {f"flag-{edited}"}
        assert others <= {row["flag_id"] for row in rows.read_part(file).rows}, place
        kept = file.read_bytes()
        rows.mend(tmp_path)
        cut = file.with_suffix(".cut")
        assert others <= {row["flag_id"] for row in rows.read_part(file).rows}, place
        assert file.read_bytes() + (cut.read_bytes()[:-1] if cut.exists() else b"") == kept
        cut.unlink(missing_ok=True)
    assert caplog.text.count("a quotation mark stands alone in it") == 1  # of one file, once


def test_lines_in_a_comment_are_no_rows_and_are_not_while_it_is_being_written(tmp_path, image):
    ledger = Ledger(tmp_path)
    ledger.append(flag(image, flag_id="flag-0"), image, TASK)
    file = ledger.folder / "metadata.csv"
    pasted = file.read_text().splitlines()[1].replace("flag-0", "flag-forged")
    ledger.append(flag(image, flag_id="flag-1", comment=f"see\n{pasted}\n{pasted}\nabove"), image, TASK)
    known, data = ["flag-0", "flag-1"], file.read_bytes()
    assert [row["flag_id"] for row in rows.read_part(file).rows] == known
    with file.open("r+b") as held:  # its writer lives
        for size in range(data.index(b"forged"), len(data)):
            held.truncate(size)
            assert [row["flag_id"] for row in rows.read_part(file).rows] == known[:1], size


def test_many_rows_behind_a_quotation_mark_are_read_in_one_pass():
    row = "0" * 64 + ".png,flag-{},{}\n"
    data = "".join(row.format(number, '"x' if number % 3 == 0 else "x" * 300) for number in range(6000)).encode()
    with mock.patch.object(rows, "_read_lines", side_effect=rows._read_lines) as asked:
        found = rows.parse_rows(data, 3)
    assert [cells[1] for cells in found.cells] == [f"flag-{number}" for number in range(6000)]
    assert found.torn == 2000 and found.end == len(data) and asked.call_count <= 2001


def test_a_living_writers_file_is_not_mended(tmp_path, image):
    ledger = Ledger(tmp_path)
    ledger.append(flag(image), image, TASK)
    with (ledger.folder / "metadata.csv").open("ab") as file:
        file.write(b"half a row")
    assert rows.mend(tmp_path) == 0


@pytest.mark.parametrize("text", ["plain", "two\nlines", 'a "quoted", one', "", "12", "é\u2028x", "="])
def test_reading_goes_on_where_it_ended(tmp_path, text):
    """However a file grows, byte by byte, its parts hold each row once."""
    file = tmp_path / "metadata.csv"
    lines = [rows.to_line(["flag_id", "comment"]), *(rows.to_line([f"f{k}", rows.to_cell(text)]) for k in range(3))]
    data, found, end = b"".join(lines), [], 0
    for size in range(len(data) + 1):
        file.write_bytes(data[:size])
        part = rows.read_part(file, end)
        found += list(part.rows)
        assert part.end >= end
        end = part.end
    assert found == [{"flag_id": f"f{k}", "comment": text} for k in range(3)]
    assert list(rows.read_part(file, len(data)).rows) == []
    assert list(rows.read_part(file, 0, ["flag_id"]).rows) == [{"flag_id": f"f{k}"} for k in range(3)]


def test_files_of_others_stay_as_they_are_and_are_left_out(tmp_path, image, caplog):
    """A data set of one's own below the ledger: its last line may well lack an end, and quotes may stand alone."""
    (tmp_path / "photos").mkdir()
    foreign = tmp_path / "photos" / "metadata.csv"
    foreign.write_text('file_name,text\na.png,a 5" tube\nb.png,fine\nc.png,last')
    before = foreign.read_bytes()
    ledger = Ledger(tmp_path)
    ledger.append(flag(image), image, TASK)
    assert foreign.read_bytes() == before
    assert len(flags.read_flags(tmp_path)) == 1
    assert flags.export_csv(tmp_path).count("flag-") == 1
    assert "not a file of the flag ledger" in caplog.text
    assert rows.read_part(foreign).end == len(before)


def test_a_file_that_another_user_wrote_is_not_mended(tmp_path, image, monkeypatch):
    ledger = Ledger(tmp_path)
    ledger.append(flag(image), image, TASK)
    refuse = mock.Mock(side_effect=PermissionError(13, "Permission denied"))
    monkeypatch.setattr(type(tmp_path), "open", refuse)
    assert rows.mend(tmp_path) == 0
    refuse.assert_called_once()


def test_columns_that_an_earlier_version_did_not_have_are_empty(tmp_path):
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "metadata.csv").write_text("\ufefffile_name,flag_id,reader\r\nx.png,flag-1,AB\r\n")
    (row,) = flags.read_flags(tmp_path).to_dict("records")
    assert (row["file_name"], row["reader"], row["comment"], row["decides"]) == ("x.png", "AB", "", "")
    assert "flag-1" in flags.export_csv(tmp_path)


def test_cells_cut_off_by_hand_are_empty(tmp_path):
    file = tmp_path / "metadata.csv"
    file.write_text(",".join(FIELDS) + "\nx.png,flag-1,2026\n\n")
    (row,) = rows.read_part(file).rows
    assert (row["flag_id"], row["status"], set(row)) == ("flag-1", "", set(FIELDS))
