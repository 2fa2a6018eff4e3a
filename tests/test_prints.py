import io

import numpy as np
import pytest
from PIL import Image
from starlette.applications import Starlette
from starlette.testclient import TestClient

from reading_room.plates import Plates
from reading_room.prints import Prints
from xray_models.overlays import encode


@pytest.fixture
def prints():
    return Prints(capacity=2500)


def client(prints):
    return TestClient(Starlette(routes=[prints.build_route()]))


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_a_picture_arrives_as_it_is_and_stays_on_no_disk(prints, kind):
    picture = encode(Image.fromarray(np.eye(50, dtype=np.uint8) * 200), kind)
    answer = client(prints).get(prints.offer(picture))
    assert answer.content == picture and Image.open(io.BytesIO(answer.content)).format == kind
    assert answer.headers["content-type"] == f"image/{kind.lower()}"
    assert answer.headers["cache-control"] == "private, no-store"
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_the_same_picture_keeps_its_address_and_takes_its_room_once(prints):
    other = prints.offer(b"other")
    addresses = {prints.offer(bytes([7]) * 1000) for _ in range(9)}
    assert len(addresses) == 1
    assert [client(prints).get(address).status_code for address in (other, *addresses)] == [200, 200]


def test_an_address_cannot_be_guessed(prints):
    assert Prints().offer(b"picture") != prints.offer(b"picture")
    assert client(prints).get("prints/" + "0" * 64).status_code == 404
    assert Prints.folder != Plates.folder


def test_what_was_offered_longest_ago_goes(prints):
    one, two, three, large = (bytes([number]) * size for number, size in enumerate((1000, 1000, 1000, 9999)))

    def ask(*pictures):
        """Whether each is there, as those say who were told of it."""
        return [client(prints).get(told[picture]).status_code == 200 for picture in pictures]

    told = {picture: prints.offer(picture) for picture in (one, two, one, three)}
    assert ask(one, two, three) == [True, False, True]  # the first was offered anew meanwhile
    assert "not at hand any more" in client(prints).get(told[two]).text
    assert prints.offer(two) == told[two]
    assert ask(one, two, three) == [False, True, True]
    told[large] = prints.offer(large)  # the last one stays, whatever its size
    assert ask(two, three, large) == [False, False, True]
    for picture in (one, two):
        prints.offer(picture)
    assert ask(one, two, large) == [True, True, False]  # and what went does not count any more


def test_where_there_is_a_log_in_it_is_asked_for(prints):
    app = Starlette(routes=[prints.build_route()])
    app.auth, app.cookie_id, app.tokens = {"ann": "secret"}, "x", {"token": "ann"}
    address = prints.offer(b"picture")
    assert TestClient(app).get(address).status_code == 401
    assert TestClient(app, cookies={"access-token-x": "other"}).get(address).status_code == 401
    assert TestClient(app, cookies={"access-token-unsecure-x": "token"}).get(address).status_code == 200
