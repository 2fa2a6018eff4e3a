"""The API of the reading room, called as a user of `gradio_client` would."""

import base64
import csv
import io

import httpx
import numpy as np
import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from PIL import Image

from reading_room.app import build_app, launch_options
from reading_room.intake import IntakeError
from reading_room.room import Room
from xray_models.flags import FIELDS
from xray_models.images import ImageError, encode_png, read_image

RECORD = {"task": "phantom", "image_sha256": "0" * 64, "reader": "A", "corrected_label": "Nodule"}


@pytest.fixture(scope="module")
def served(untrained, tmp_path_factory):
    """A running reading room whose phantom task has the untrained models."""
    with pytest.MonkeyPatch.context() as patch:
        from reading_room import panels

        patch.setattr(panels, "load_tasks", lambda: {"phantom": untrained})
        ledger = tmp_path_factory.mktemp("ledger")
        app = build_app(ledger, "phantom")
    _, url, _ = app.launch(prevent_thread_lock=True, quiet=True, server_name="127.0.0.1", **launch_options())
    yield Client(url, verbose=False), ledger, app
    app.close()


@pytest.fixture
def file(tmp_path, image):
    path = tmp_path / "DOE_JANE.png"
    path.write_bytes(encode_png(image))
    return handle_file(str(path))


def test_tasks(served, untrained):
    tasks = served[0].predict(api_name="/tasks")
    assert tasks["phantom"]["labels"] == list(untrained.labels)
    assert [model["model"] for model in tasks["phantom"]["models"]] == ["simple_cnn", "resnet18", "vit_tiny"]
    assert all(model["available"] for model in tasks["phantom"]["models"])


def test_read(served, file, image):
    reading = served[0].predict(file, "phantom", api_name="/read")
    assert reading["schema"] == 1
    assert reading["image"]["sha256"] == image.sha256
    assert [opinion["status"] for opinion in reading["opinions"]] == ["ok"] * 3
    assert reading["consensus"]["label"] in reading["consensus"]["probs"]


@pytest.mark.parametrize("method", ["grad_cam", "integrated_gradients", "occlusion"])
def test_explain(served, file, image, method):
    answer = served[0].predict(file, "phantom", "resnet18", method, "Nodule", api_name="/explain")
    for name in ("heatmap", "overlay"):
        kind, data = answer[name].split(",", 1)
        assert kind == "data:image/png;base64"
        assert Image.open(io.BytesIO(base64.b64decode(data))).size == image.pixels.shape[::-1]
    assert answer["stats"]["label"] == "Nodule"
    assert answer["stats"]["method"] == method
    assert 0 <= answer["stats"]["peak"]["row"] < image.pixels.shape[0]


def test_explain_without_a_label_takes_the_models_own(served, file):
    reading = served[0].predict(file, "phantom", api_name="/read")
    answer = served[0].predict(file, "phantom", "vit_tiny", "grad_cam", "", api_name="/explain")
    assert answer["stats"]["label"] == reading["opinions"][2]["label"]


@pytest.mark.parametrize("label", ["", "Nodule"])
def test_explain_of_a_model_that_does_not_answer_says_why(untrained, tmp_path, image, monkeypatch, label):
    monkeypatch.setattr("reading_room.panels.load_tasks", lambda: {"phantom": untrained})
    room, path = Room(tmp_path / "flags"), tmp_path / "x.png"
    path.write_bytes(encode_png(image))
    room.panels.get("phantom").checkpoints["resnet18"].parts.classifier.bias.data.fill_(np.nan)
    with pytest.raises(IntakeError, match="resnet18 is unavailable: its output is not a number"):
        room.explain(str(path), "phantom", "resnet18", "grad_cam", label)
    assert room.explain(str(path), "phantom", "simple_cnn", "grad_cam", label)["stats"]

    def refuse(*_):
        raise ImageError("too narrow")

    monkeypatch.setattr("xray_models.attribution.explain", refuse)
    with pytest.raises(IntakeError, match="too narrow"):
        room.explain(str(path), "phantom", "simple_cnn", "grad_cam", label)


def test_flag_and_flags(served, file):
    client, ledger, _ = served
    reading = client.predict(file, "phantom", api_name="/read")
    record = {
        "task": "phantom",
        "image_sha256": reading["image"]["sha256"],
        "reader": "AB",
        "corrected_label": "Effusion",
        "confidence": 0.7,
        "comment": "=1+1",
    }
    flag_id = client.predict(record, api_name="/flag")
    rows = list(csv.DictReader(io.StringIO(client.predict(api_name="/flags"))))
    assert list(rows[0]) == FIELDS
    row = next(row for row in rows if row["flag_id"] == flag_id)
    assert row["corrected_label"] == "Effusion"
    assert row["comment"] == "'=1+1"
    assert row["consensus_label"] == reading["consensus"]["label"]
    assert "resnet18" in row["opinions"]
    kept = [path for path in ledger.rglob("*") if path.is_file()]
    assert {path.suffix for path in kept} == {".csv", ".png"}
    assert not any(b"DOE_JANE" in path.read_bytes() for path in kept)


def test_withdraw_is_for_who_flagged(served, file):
    client, ledger, _ = served
    reading = client.predict(file, "phantom", api_name="/read")
    record = {
        "task": "phantom",
        "image_sha256": reading["image"]["sha256"],
        "reader": "AB",
        "corrected_label": "Effusion",
    }
    flag_id = client.predict(record, api_name="/flag")
    with pytest.raises(AppError, match="by the reader who saved it"):
        Client(client.src, verbose=False).predict(flag_id, api_name="/withdraw")
    row_id = client.predict(flag_id, api_name="/withdraw")
    rows = list(csv.DictReader(io.StringIO(client.predict(api_name="/flags"))))
    row = next(row for row in rows if row["flag_id"] == row_id)
    assert (row["decides"], row["status"], row["reason"]) == (flag_id, "rejected", "withdrawn")
    with pytest.raises(AppError, match="withdrawn already"):
        client.predict(flag_id, api_name="/withdraw")


def test_rank_puts_the_most_split_first_and_loses_no_file(served, tmp_path, phantoms):
    bad = tmp_path / "bad.png"
    bad.write_text("no image")
    paths = [bad, *sorted(phantoms.glob("*/*.png"))[:4]]
    rows = served[0].predict([handle_file(str(path)) for path in paths], "phantom", api_name="/rank")
    scores = [row["disagreement"] for row in rows]
    assert scores[-1] is None and rows[-1]["file"] == 0
    assert scores[:-1] == sorted(scores[:-1], reverse=True)
    assert sorted(row["file"] for row in rows) == [0, 1, 2, 3, 4]
    client, _, app = served
    who = f"session {client.session_hash}"
    assert all(app.room.commitments.has_seen(who, "phantom", row["image_sha256"]) for row in rows[:-1])


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda c, f: c.predict(f, "phantm", api_name="/read"), "Did you mean 'phantom'"),
        (
            lambda c, f: c.predict(f, "phantom", "resnet", "grad_cam", "", api_name="/explain"),
            "Did you mean 'resnet18'",
        ),
        (lambda c, f: c.predict(f, "phantom", "resnet18", "cam", "", api_name="/explain"), "Valid: grad_cam"),
        (lambda c, f: c.predict({"task": "phantom"}, api_name="/flag"), "is missing"),
        (lambda c, f: c.predict({"lable": 1}, api_name="/flag"), "Unknown key of a flag"),
        (lambda c, f: c.predict(RECORD | {"task": ["phantom"]}, api_name="/flag"), "Unknown task"),
        (lambda c, f: c.predict(RECORD | {"image_sha256": {}}, api_name="/flag"), "a text as image_sha256"),
        (lambda c, f: c.predict(RECORD | {"regions": 7}, api_name="/flag"), "a list of boxes"),
        (lambda c, f: c.predict(RECORD | {"reason": "withdrawn"}, api_name="/flag"), "with /withdraw"),
        (lambda c, f: c.predict(RECORD | {"decides": "flag-1"}, api_name="/flag"), "on the Review page"),
        (lambda c, f: c.predict(RECORD | {"status": "accepted"}, api_name="/flag"), "on the Review page"),
        (
            lambda c, f: c.predict(
                RECORD,
                api_name="/flag",
            ),
            "Read it again",
        ),
    ],
)
def test_wrong_calls_get_a_sentence(served, file, call, says):
    with pytest.raises(AppError, match=says):
        call(served[0], file)


def test_what_is_not_an_image_is_refused(served, tmp_path):
    path = tmp_path / "x.png"
    path.write_text("<svg onload=alert(1)>")
    with pytest.raises(AppError, match="SVG"):
        served[0].predict(handle_file(str(path)), "phantom", api_name="/read")


def test_a_path_on_the_server_is_no_upload(served, tmp_path, image):
    """A client names a file that it did not send: refused, and the file stays."""
    path = tmp_path / "private.png"
    path.write_bytes(encode_png(image))
    sent = {"path": str(path), "meta": {"_type": "gradio.FileData"}}
    url = served[0].src.rstrip("/") + "/gradio_api/call/read"
    call = httpx.post(url, json={"data": [sent, "phantom"]}).json()
    events = httpx.get(f"{url}/{call['event_id']}", timeout=30).text
    assert "event: error" in events
    assert image.sha256 not in events
    assert path.exists()


@pytest.mark.parametrize("sent", ["DOE_JANE.png", 7, {"path": "DOE_JANE.png"}, ["DOE_JANE.png"]])
@pytest.mark.parametrize("call", ["/read", "/rank"])
def test_what_is_no_file_is_told_how_to_send_one_and_leaves_no_name(served, sent, call, caplog, capfd):
    with pytest.raises(AppError, match=r"handle_file\(path\)"):
        served[0].predict(sent, "phantom", api_name=call)
    assert "DOE" not in caplog.text + "".join(capfd.readouterr())


def test_nothing_is_fetched_from_an_address_that_a_caller_names(served, monkeypatch):
    fetched = []
    monkeypatch.setattr("gradio.processing_utils.sh.get", lambda url, **_: fetched.append(url))
    sent = {"path": "http://93.184.216.34/x.png", "meta": {"_type": "gradio.FileData"}}
    for data, name in (([sent, "phantom"], "read"), ([[sent], "phantom"], "rank")):
        url = served[0].src.rstrip("/") + f"/gradio_api/call/{name}"
        call = httpx.post(url, json={"data": data}).json()
        assert "Send the file itself" in httpx.get(f"{url}/{call['event_id']}", timeout=30).text
    assert fetched == []


def test_only_the_documented_endpoints_are_public(served):
    named = served[0].view_api(return_format="dict", print_info=False)["named_endpoints"]
    assert set(named) == {"/tasks", "/read", "/explain", "/rank", "/flag", "/withdraw", "/flags"}


def test_who_saw_an_image_openly_reads_it_blinded_no_more(served, file, image):
    """Neither may a flag say so, nor does the page ask for a label of one's own."""
    client, _, app = served
    record = {"task": "phantom", "image_sha256": image.sha256, "reader": "A", "corrected_label": "Nodule"}
    client.predict(file, "phantom", api_name="/read")
    with pytest.raises(AppError, match="lock your own label"):
        client.predict(record | {"mode": "blinded", "first_label": "Normal"}, api_name="/flag")
    assert app.room.commitments.has_seen(f"session {client.session_hash}", "phantom", image.sha256)
    flag_id = client.predict(record | {"first_label": "Normal"}, api_name="/flag")
    rows = csv.DictReader(io.StringIO(client.predict(api_name="/flags")))
    row = next(row for row in rows if row["flag_id"] == flag_id)
    assert (row["mode"], row["first_label"]) == ("open", "")


@pytest.fixture(scope="module")
def blinded(untrained, tmp_path_factory):
    """A blinded reading room."""
    with pytest.MonkeyPatch.context() as patch:
        from reading_room import panels

        patch.setattr(panels, "load_tasks", lambda: {"phantom": untrained})
        app = build_app(tmp_path_factory.mktemp("blinded"), "phantom", blinded=True)
    _, url, _ = app.launch(prevent_thread_lock=True, quiet=True, server_name="127.0.0.1", **launch_options())
    yield url
    app.close()


def test_a_blinded_room_says_nothing_before_the_commitment(blinded, file, image, tmp_path):
    ann, bob = (Client(blinded, verbose=False) for _ in range(2))
    calls = [
        lambda c: c.predict(file, "phantom", api_name="/read"),
        lambda c: c.predict(file, "phantom", "resnet18", "grad_cam", "", api_name="/explain"),
    ]
    for call in calls:
        with pytest.raises(AppError, match="lock your own label"):
            call(ann)
    for call in (lambda c: c.predict([file], "phantom", api_name="/rank"), lambda c: c.predict(api_name="/flags")):
        with pytest.raises(AppError, match="reads blinded"):
            call(ann)
    locked = ann.predict(file, "phantom", "Effusion", 0.6, api_name="/commit")
    assert locked == {"image_sha256": image.sha256, "label": "Effusion", "confidence": 0.6}
    for call in calls:
        assert call(ann)
        with pytest.raises(AppError, match="lock your own label"):  # another reader
            call(bob)
    with pytest.raises(AppError, match="locked as Effusion"):
        ann.predict(file, "phantom", "Nodule", 0.6, api_name="/commit")
    record = {"task": "phantom", "image_sha256": image.sha256, "reader": "A", "corrected_label": "Nodule"}
    with pytest.raises(AppError, match="lock your own label"):
        bob.predict(record, api_name="/flag")
    assert ann.predict(record | {"first_label": "Normal", "mode": "open"}, api_name="/flag")


def test_sessions_are_kept_up_to_a_number(untrained, tmp_path, monkeypatch):
    """Gradio keeps a description of the whole page for each; its own bound is ten thousand."""
    assert launch_options()["state_session_capacity"] <= 1000
    monkeypatch.setattr("reading_room.app.SESSIONS", 3)
    monkeypatch.setattr("reading_room.panels.load_tasks", lambda: {"phantom": untrained})
    app = build_app(tmp_path, "phantom")
    _, url, _ = app.launch(prevent_thread_lock=True, quiet=True, server_name="127.0.0.1", **launch_options())
    try:
        callers = [Client(url, verbose=False) for _ in range(5)]
        for caller in [*callers, callers[0]]:  # the first one's session has gone by then
            assert list(caller.predict(api_name="/tasks")) == ["phantom"]
        assert len(app.state_holder.session_data) == 3
    finally:
        app.close(verbose=False)


def test_sixteen_bits_survive_the_way_in(served, tmp_path):
    pixels = np.linspace(0, 65535, 64 * 64).reshape(64, 64).astype(np.uint16)
    path = tmp_path / "deep.png"
    Image.fromarray(pixels).save(path)
    reading = served[0].predict(handle_file(str(path)), "phantom", api_name="/read")
    assert reading["image"]["bits"] == 16
    assert reading["image"]["sha256"] == read_image(path).sha256
