import pytest

from reading_room.turns import OvertakenError, Turns, until_overtaken


def test_a_newer_turn_of_the_same_page_ends_the_one_before():
    turns = Turns()
    first, other = turns.take("a"), turns.take("b")
    first()
    second = turns.take("a")
    with pytest.raises(OvertakenError):
        first()
    second()
    other()


def test_callers_without_a_page_never_overtake_each_other():
    turns = Turns()
    first = turns.take("")
    turns.take("")
    first()


def test_a_page_shows_what_its_last_turn_noted():
    turns = Turns()
    first = turns.take("a")
    turns.note("a", first, "x")
    assert turns.shows("a") == "x" and turns.shows("b") is None
    second = turns.take("a")
    assert turns.shows("a") is None  # it asked for something, and that is not there yet
    with pytest.raises(OvertakenError):
        turns.note("a", first, "x")
    turns.note("a", second, "y")
    assert turns.shows("a") == "y"
    turns.take("a", "y")  # other maps of the same image
    assert turns.shows("a") == "y"
    turns.note("", turns.take(""), "z")
    assert turns.shows("") is None


def test_a_page_that_was_forgotten_is_not_stopped():
    turns = Turns(capacity=1)
    first = turns.take("a")
    turns.take("b")
    first()


def test_work_is_handed_on_until_it_is_overtaken():
    turns, done = Turns(), []

    def work():
        for step in range(4):
            done.append(step)
            yield step

    check = turns.take("a")
    seen = []
    for step in until_overtaken(work(), check, None):
        seen.append(step)
        if step == 1:
            turns.take("a")
    assert seen == [0, 1, None]  # gradio sends the last value again: it must be one that changes nothing
    assert done == [0, 1, 2]  # what was computed when the turn ended is not handed on

    def stopping():
        yield "begun"
        raise OvertakenError

    assert list(until_overtaken(stopping(), turns.take("c"), "nothing")) == ["begun", "nothing"]


def test_errors_of_the_work_are_not_swallowed():
    def broken():
        yield 1
        raise KeyError("x")

    with pytest.raises(KeyError):
        list(until_overtaken(broken(), Turns().take("a"), None))
