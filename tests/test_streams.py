"""An event's receipt never overtakes the news that its session's stream has ended."""

import asyncio
import json
import time
from types import SimpleNamespace

import pytest

from reading_room.streams import ENDED, FOLLOWS, STREAM, SettledStreams


async def queue(scope, receive, send):
    """Ends every stream at once, and takes every event."""
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b'data: {"msg":"close_stream"}\n\n'})


@pytest.fixture
def clock(monkeypatch):
    """The time that the middleware sees, in seconds; what it sleeps passes at once."""
    now = SimpleNamespace(seconds=100.0)

    async def sleep(seconds):
        now.seconds += seconds

    monkeypatch.setattr(
        "reading_room.streams.time", SimpleNamespace(monotonic=lambda: now.seconds, time_ns=time.time_ns)
    )
    monkeypatch.setattr("reading_room.streams.asyncio", SimpleNamespace(sleep=sleep))
    return now


def call(app, path, query=b"", body=(), agent="Mozilla/5.0", **more):
    """Sends a request; returns the headers of its answer."""
    parts = [{"type": "http.request", "body": part, "more_body": True} for part in body] + [{"type": "http.request"}]
    sent, got = [], {}

    async def receive():
        return parts.pop(0)

    async def send(message):
        sent.append(message["type"])
        got.update(message.get("headers", ()))

    headers = [(b"user-agent", agent.encode()), *((name.encode(), text.encode()) for name, text in more.items())]
    asyncio.run(app({"type": "http", "path": path, "query_string": query, "headers": headers}, receive, send))
    assert sent == ["http.response.start", "http.response.body"]
    return {name.decode(): text.decode() for name, text in got.items()}


def end_stream(app, session):
    return call(app, "/gradio_api/queue/data", b"session_hash=" + session.encode())[STREAM]


def join(app, clock, session, **known):
    """Seconds for which the receipt of an event is held back."""
    before = clock.seconds
    text = json.dumps({"data": ["x" * 50], "session_hash": session}).encode()
    call(app, "/gradio_api/queue/join", body=(text[:20], text[20:]), **known)
    return clock.seconds - before


def test_a_receipt_waits_for_the_end_of_its_own_sessions_stream(clock):
    app = SettledStreams(queue, grace=0.25)
    assert join(app, clock, "a") == 0  # no stream has ended
    end_stream(app, "a")
    clock.seconds += 0.1
    assert join(app, clock, "b") == 0  # nobody waits for another's
    assert join(app, clock, "a") == pytest.approx(0.15)
    assert join(app, clock, "a") == pytest.approx(0)


def test_a_client_in_python_waits_less(clock):
    app = SettledStreams(queue, grace=0.25)
    end_stream(app, "a")
    assert join(app, clock, "a", agent="gradio_client/2.7.2; python/3.11.7") == pytest.approx(0.05)


def test_a_page_that_follows_the_numbers_of_streams_is_told_which_one_ended_and_does_not_wait(clock):
    app = SettledStreams(queue, grace=0.25)
    numbers = [int(end_stream(app, session)) for session in "aba"]
    assert numbers == sorted(set(numbers))  # no two have the same
    body = json.dumps({"session_hash": "a"}).encode()
    assert call(app, "/gradio_api/queue/join", body=(body,), **{FOLLOWS: "1"})[ENDED] == str(numbers[2])
    assert clock.seconds == 100
    assert call(app, "/gradio_api/queue/join", body=(body.replace(b'a"', b'c"'),))[ENDED] == "0"


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b"{}"])
def test_a_body_that_is_no_event_is_passed_on(body, clock):
    app = SettledStreams(queue)
    end_stream(app, "a")
    call(app, "/gradio_api/queue/join", body=(body,))
    assert clock.seconds == 100


def test_sessions_are_forgotten_in_the_end(monkeypatch, clock):
    monkeypatch.setattr("reading_room.streams._REMEMBERED", 2)
    app = SettledStreams(queue)
    for session in "abc":
        end_stream(app, session)
    assert join(app, clock, "a") == 0
    assert join(app, clock, "c") > 0
