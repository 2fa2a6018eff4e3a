import numpy as np
import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from reading_room.plates import Plates
from tests.dicom_samples import RAMP, read
from xray_models.images import from_pixels


@pytest.fixture
def plates():
    return Plates(capacity=450_000)


def client(plates):
    return TestClient(Starlette(routes=[plates.build_route()]))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_every_bit_arrives(plates, dtype):
    pixels = np.random.default_rng(0).integers(0, np.iinfo(dtype).max, (300, 217), dtype, endpoint=True)
    address = plates.offer(from_pixels(pixels))
    answer = client(plates).get(address)
    assert answer.headers["cache-control"] == "private, no-store"
    assert "content-encoding" not in answer.headers  # noise does not pack
    got = np.frombuffer(answer.content, np.dtype(dtype).newbyteorder("<")).reshape(pixels.shape)
    np.testing.assert_array_equal(got, pixels)


def test_what_packs_is_packed_for_who_can_unpack(plates):
    image = from_pixels(np.add.outer(np.arange(300), np.arange(217)).astype(np.uint16))
    address = plates.offer(image)
    packed = client(plates).get(address)
    plain = client(plates).get(address, headers={"Accept-Encoding": "identity"})
    assert packed.headers["content-encoding"] == "gzip"
    assert "content-encoding" not in plain.headers and plain.content == packed.content
    assert int(packed.headers["content-length"]) < 0.7 * int(plain.headers["content-length"])


def test_a_files_own_values_arrive_before_its_window(plates):
    image = read(RAMP, 12, WindowCenter=100, WindowWidth=20)
    answer = client(plates).get(plates.offer(image))
    np.testing.assert_array_equal(np.frombuffer(answer.content, "<u2").reshape(RAMP.shape), RAMP)


def test_files_that_look_alike_but_store_other_values_do_not_share_an_address(plates):
    window = {"WindowCenter": 100.5, "WindowWidth": 200}
    clipped = np.minimum(RAMP, 3000)
    one, other = read(RAMP, 12, **window), read(clipped, 12, **window)
    assert one.sha256 == other.sha256
    addresses = [plates.offer(one), plates.offer(other)]
    for address, values in zip(addresses, (RAMP, clipped), strict=True):
        got = np.frombuffer(client(plates).get(address).content, "<u2").reshape(RAMP.shape)
        np.testing.assert_array_equal(got, values)


def test_an_address_cannot_be_guessed_and_stays(plates):
    image = from_pixels(np.eye(100, dtype=np.uint8))
    assert plates.offer(image) == plates.offer(image)
    assert image.sha256 not in plates.offer(image)
    assert Plates().offer(image) != plates.offer(image)
    assert client(plates).get(f"pixels/{image.sha256}").status_code == 404


def test_what_was_offered_longest_ago_goes(plates):
    addresses = [plates.offer(from_pixels(np.full((400, 500), value, np.uint8))) for value in (1, 2, 3)]
    codes = [client(plates).get(address).status_code for address in addresses]
    assert codes == [404, 200, 200]


def test_where_there_is_a_log_in_it_is_asked_for(plates):
    app = Starlette(routes=[plates.build_route()])
    app.auth, app.cookie_id, app.tokens = {"ann": "secret"}, "x", {"token": "ann"}
    address = plates.offer(from_pixels(np.eye(100, dtype=np.uint8)))
    assert TestClient(app).get(address).status_code == 401
    assert TestClient(app, cookies={"access-token-x": "other"}).get(address).status_code == 401
    assert TestClient(app, cookies={"access-token-unsecure-x": "token"}).get(address).status_code == 200
