"""Pages of other sites are refused; the room's own, programs, and pages behind a proxy are not."""

import httpx
import pytest

from reading_room import panels
from reading_room.app import build_app, launch_options

WARD = {"Host": "reading.hospital.org"}
EVIL = {"Origin": "https://evil.example"}


@pytest.fixture(scope="module")
def url(untrained, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(panels, "load_tasks", lambda: {"phantom": untrained})
        app = build_app(tmp_path_factory.mktemp("ledger"), "phantom")
    _, url, _ = app.launch(prevent_thread_lock=True, quiet=True, server_name="127.0.0.1", **launch_options())
    yield url
    app.close()


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        (WARD, 200),
        (WARD | {"Origin": "https://reading.hospital.org"}, 200),
        (WARD | {"Origin": "https://reading.hospital.org", "Sec-Fetch-Site": "same-origin"}, 200),
        (WARD | EVIL, 403),
        (WARD | {"Origin": "null"}, 403),
        ({"Host": "[bad", "Origin": "https://[bad"}, 200),
        (WARD | {"Origin": "https://["}, 403),
        (WARD | EVIL | {"Sec-Fetch-Site": "cross-site"}, 403),
        (WARD | {"Origin": "https://blog.hospital.org", "Sec-Fetch-Site": "same-site"}, 403),
        (EVIL | {"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Origin": "http://reading.hospital.org"}, 200),  # a proxy that tells nothing
        ({"Host": "room:7860", "Origin": "https://ward.org", "X-Forwarded-Host": "ward.org"}, 200),
        ({"Host": "room:7860", "Origin": "https://ward.org", "Sec-Fetch-Site": "same-origin"}, 200),
    ],
)
def test_only_the_rooms_own_pages_ask_in_a_readers_name(url, headers, status):
    assert httpx.post(f"{url}gradio_api/call/flags", json={"data": []}, headers=headers).status_code == status


def test_a_link_from_another_site_opens_the_room(url):
    assert httpx.get(url, headers=WARD | {"Sec-Fetch-Site": "cross-site"}).status_code == 200
