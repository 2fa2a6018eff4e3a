"""A browser's own name: given once, to pages alone, and nobody's who makes one up."""

import re

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import HTMLResponse, JSONResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from reading_room.browsers import COOKIE, NamedBrowsers, find_browser


@pytest.fixture
def client():
    def page(request):
        return HTMLResponse("<html></html>")

    def table(request):
        return JSONResponse({"browser": find_browser(request.headers.get("cookie", ""))})

    routes = [Route("/", page, methods=["GET", "POST"]), Route("/table", table)]
    return TestClient(Starlette(routes=routes, middleware=[Middleware(NamedBrowsers)]))


def test_a_page_names_the_browser_once(client):
    given = client.get("/").headers["set-cookie"]
    assert re.fullmatch(rf"{COOKIE}=[\w-]{{32}}; HttpOnly; Max-Age=2592000; Path=/; SameSite=Lax", given)
    name = client.get("/table").json()["browser"]
    assert name and given.startswith(f"{COOKIE}={name};")
    assert "set-cookie" not in client.get("/").headers


def test_in_the_frame_of_a_space_the_name_holds_for_that_site_alone(client, monkeypatch):
    monkeypatch.setenv("SYSTEM", "spaces")
    monkeypatch.setenv("SPACE_ID", "ann/second-read")
    assert client.get("/").headers["set-cookie"].endswith("; Path=/; SameSite=None; Secure; Partitioned")


def test_two_browsers_have_two_names(client):
    names = set()
    for _ in range(2):
        client.cookies.clear()
        client.get("/")
        names.add(client.get("/table").json()["browser"])
    assert len(names) == 2


def test_only_pages_give_names(client):
    assert "set-cookie" not in client.get("/table").headers
    assert "set-cookie" not in client.post("/").headers


@pytest.mark.parametrize("made_up", ["ann", "", "x" * 31, "x" * 33, "x" * 31 + "'"])
def test_a_name_of_another_form_is_none(client, made_up):
    assert find_browser(f"{COOKIE}={made_up}") == ""
    client.cookies.set(COOKIE, made_up)
    assert "set-cookie" in client.get("/").headers


def test_the_name_is_found_among_other_cookies():
    name = "a" * 32
    assert find_browser(f"session=x; {COOKIE}={name}; more=y") == name
    assert find_browser(f"other-{COOKIE}={name}") == ""
