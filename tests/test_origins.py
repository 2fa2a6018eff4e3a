"""Pages of other sites are refused; the room's own, programs, and pages behind a proxy are not."""

import httpx
import pytest

from reading_room import panels
from reading_room.app import build_app, launch_options
from reading_room.origins import find_names

WARD = {"Host": "reading.hospital.org"}
EVIL = {"Origin": "https://evil.example"}


@pytest.fixture(scope="module")
def url(untrained, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(panels, "load_tasks", lambda: {"phantom": untrained})
        app = build_app(tmp_path_factory.mktemp("ledger"), "phantom")
    here = {"prevent_thread_lock": True, "quiet": True, "server_name": "127.0.0.1"}
    _, url, _ = app.launch(**here, names=["Reading.Hospital.org", "room"], **launch_options())
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
        ({"Host": "[bad", "Origin": "https://[bad"}, 403),
        ({"Host": "localhost.evil.example", "Origin": "https://localhost.evil.example"}, 403),
        ({"Host": "evil.example:7860", "Origin": "http://evil.example:7860", "Sec-Fetch-Site": "same-origin"}, 403),
        ({"Host": "evil.example"}, 403),  # its name leads here by now
        ({"Host": "reading.localhost:7860"}, 200),
        ({"Host": "[::1]:7860"}, 200),
        ({"Host": "192.0.2.7:7860", "Origin": "http://192.0.2.7:7860"}, 200),
        ({"Host": "192.0.2.7:7860"} | EVIL, 403),
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


def test_a_name_that_is_not_the_rooms_is_told_what_to_do(url):
    answer = httpx.get(url, headers={"Host": "evil.example"})
    assert answer.status_code == 403
    assert "--name evil.example" in answer.text


@pytest.mark.parametrize(
    ("host", "names", "found"),
    [
        (None, [], []),
        ("127.0.0.1", [], []),
        ("::1", [], []),
        ("localhost", ["Ward.org"], ["ward.org"]),
        ("0.0.0.0", [], None),
        ("192.0.2.7", [], None),
        ("reading.hospital.org", [], None),
        ("0.0.0.0", ["ward.org"], ["ward.org"]),
    ],
)
def test_a_room_that_only_its_machine_reaches_goes_by_no_other_name(host, names, found):
    assert find_names(host, names) == found
