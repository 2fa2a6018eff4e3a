"""The watched folder in a real browser: its cases come by themselves."""

import pytest

from reading_room import panels, watching
from reading_room.app import build_app, launch_options
from tests.browser.chromium import DESK, NEEDS_CHROMIUM, opened
from tests.test_worklist_page import png

pytestmark = NEEDS_CHROMIUM


@pytest.fixture
def watched(untrained, tmp_path, monkeypatch):
    """A room that watches a folder with one image, its address, and the folder."""
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    (inbox / "DOE.png").write_bytes(png(1))
    monkeypatch.setattr(panels, "load_tasks", lambda: {"phantom": untrained})
    monkeypatch.setattr(watching.Watch.run, "__defaults__", (0.1,))
    app = build_app(tmp_path / "ledger", "phantom", watch=inbox)
    _, url, _ = app.launch(prevent_thread_lock=True, quiet=True, server_name="127.0.0.1", **launch_options())
    yield url.rstrip("/"), inbox
    app.close()


def test_a_file_put_into_the_folder_becomes_a_case(watched):
    url, inbox = watched
    with opened(url, DESK) as page:
        page.get_by_role("tab", name="Worklist").click()
        page.locator("#list-watched").click()
        page.wait_for_function("() => document.querySelectorAll('#list-table tbody tr').length === 1")
        (inbox / "ROE.png").write_bytes(png(2))
        page.wait_for_function("() => document.querySelectorAll('#list-table tbody tr').length === 2")
        assert "Watching for files" in page.locator("#list-progress").inner_text()
        assert "OE" not in page.locator("#list-table").inner_text()
