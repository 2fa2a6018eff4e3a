import threading
import time

import pytest

from xray_models.workers import Workers, ahead


def test_results_and_errors_come_back():
    workers = Workers()
    assert workers.run(lambda: 7, 1) == 7
    with pytest.raises(ZeroDivisionError):
        workers.run(lambda: 1 / 0, 1)
    with pytest.raises(TimeoutError, match="the model's own"):
        workers.run(lambda: (_ for _ in ()).throw(TimeoutError("the model's own")), 1)


def test_a_thread_serves_again_and_a_hanging_one_holds_nobody_up():
    workers, free = Workers(), threading.Event()
    first = workers.run(threading.get_ident, 1)
    for _ in range(200):  # it says that it is done just before it waits again
        again = workers.run(threading.get_ident, 1)
        if again == first:
            break
        time.sleep(0.01)
    assert again == first
    with pytest.raises(TimeoutError, match=r"no answer within 0\.05 s"):
        workers.run(free.wait, 0.05)
    assert workers.run(lambda: 8, 1) == 8
    free.set()


def test_work_goes_on_side_by_side():
    workers, meeting = Workers(), threading.Barrier(3, timeout=5)
    begun = [workers.start(meeting.wait) for _ in range(2)]
    meeting.wait()  # passes only when both are at it
    assert {one.result(5) for one in begun} <= {0, 1, 2}


def test_the_next_item_is_made_while_the_caller_has_the_one_before():
    made = [threading.Event() for _ in range(3)]

    def work():
        for number, event in enumerate(made):
            event.set()
            yield number

    items = ahead(work())
    assert next(items) == 0
    assert made[1].wait(5)
    assert not made[2].wait(0.1)  # and no more than that
    assert list(items) == [1, 2]
    assert list(ahead(iter([]))) == []


def test_an_error_of_the_next_item_comes_when_it_is_asked_for():
    def work():
        yield 1
        raise KeyError("x")

    items = ahead(work())
    assert next(items) == 1
    with pytest.raises(KeyError):
        next(items)
