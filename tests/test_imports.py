"""Imports without the search for garbage: it goes on afterwards, and leaves alone what was imported."""

import gc
import importlib
import sys
import threading

import pytest

from xray_models.imports import HEAVY_IMPORTS


@pytest.fixture(autouse=True)
def _as_before():
    gc.unfreeze()
    yield
    gc.enable()
    gc.unfreeze()


@pytest.fixture
def module(tmp_path, monkeypatch):
    (tmp_path / "much.py").write_text("kept = [[] for _ in range(10)]\n", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    yield "much"
    sys.modules.pop("much", None)


def test_what_was_imported_is_not_searched_again(module):
    with HEAVY_IMPORTS:
        assert not gc.isenabled()
        made = importlib.import_module(module)
    assert gc.isenabled()
    assert gc.get_freeze_count() > len(made.kept)
    assert not any(found is made.kept for found in gc.get_objects())


def test_nothing_is_kept_from_the_search_where_all_was_imported_before():
    with HEAVY_IMPORTS:
        importlib.import_module("json")
    assert gc.isenabled()
    assert gc.get_freeze_count() == 0


def test_the_search_goes_on_after_an_import_that_fails():
    with pytest.raises(ModuleNotFoundError), HEAVY_IMPORTS:
        importlib.import_module("no_such_module")
    assert gc.isenabled()


def test_a_program_without_a_search_stays_so():
    gc.disable()
    with HEAVY_IMPORTS:
        pass
    assert not gc.isenabled()


def test_of_several_threads_the_last_one_begins_the_search_again():
    entered, go_on = threading.Event(), threading.Event()

    def hold():
        with HEAVY_IMPORTS:
            entered.set()
            go_on.wait(10)

    other = threading.Thread(target=hold)
    with HEAVY_IMPORTS:
        other.start()
        assert entered.wait(10)
    assert not gc.isenabled()
    go_on.set()
    other.join()
    assert gc.isenabled()
