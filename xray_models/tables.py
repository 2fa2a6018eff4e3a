"""Tables that people bring: CSV files, as spreadsheets write them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from xray_models.layouts import DataError
from xray_models.rows import disarm


def read_table(path: Path, needed: Sequence[str], empty: bool = False) -> pd.DataFrame:
    """Reads a CSV file as text; a cell that is not there is "".

    Columns without a head and without any content, which spreadsheets leave behind, are left out. A cell that was kept
    from running as a formula (`rows.disarm`) is what it was before.

    Args:
        path: of the file: UTF-8, commas between its cells.
        needed: columns that it must have.
        empty: whether it may have no row below its head.

    Raises:
        DataError: when it cannot be read, lacks a column, has two of one name, or has no row.
    """
    cells = _read_cells(path)
    unused = [bool((cells[place] == "").all()) for place in cells.columns]
    cells = cells.loc[:, [not each for each in unused]]
    names = list(cells.iloc[0])
    for name in needed:
        if name not in names:
            raise DataError(
                f"{path} has no column {name!r}, but {', '.join(map(repr, names[:20]))}. It needs "
                f"{', '.join(needed)}, with commas between them."
            )
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise DataError(f"{path} has two columns {twice[0]!r}. Keep one.")
    if len(cells) == 1 and not empty:
        raise DataError(f"{path} has a head, but no row below it. Give one row or more.")
    return cells.iloc[1:].map(_restore).set_axis(names, axis=1).reset_index(drop=True)


def _read_cells(path: Path) -> pd.DataFrame:
    """All cells as text, the head as the first row."""
    try:
        return pd.read_csv(path, header=None, dtype=str, keep_default_na=False)
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not in UTF-8. Save it as CSV in UTF-8.") from error
    except (OSError, pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        reason = " ".join(str(getattr(error, "strerror", None) or error).split())
        advice = ". Give every row as many cells as the head has" if "Expected" in reason else ""
        raise DataError(f"{path} cannot be read as a CSV file: {reason}{advice}.") from error


def _restore(cell: str) -> str:
    return cell[1:] if cell.startswith("'") and disarm(cell[1:]) == cell else cell
