import threading
import time

import pytest

from xray_models.workers import Workers


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
