import threading
import time
from concurrent.futures import CancelledError, ThreadPoolExecutor

import pytest

from gecko_fret.llm.lanes import answers_until_now, lane, usage_here, waiting
from gecko_fret.llm.protocol import Sampling, Usage, WriteRequest


def test_lanes_compute_in_turn_and_wait_together():
    turn, computing, most_computing, most_waiting = threading.Lock(), [], [], []
    waiters = []

    def work(_):
        with lane(turn):
            for _ in range(5):
                computing.append(1)
                most_computing.append(len(computing))
                time.sleep(0.001)
                computing.pop()
                with waiting():
                    waiters.append(1)
                    time.sleep(0.01)
                    most_waiting.append(len(waiters))
                    waiters.pop()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    assert max(most_computing) == 1
    assert max(most_waiting) > 1
    assert not turn.locked()


def test_a_lane_gives_its_turn_back_after_an_error():
    turn = threading.Lock()
    with pytest.raises(ValueError, match="broken"), lane(turn), waiting():
        raise ValueError("broken")
    assert not turn.locked()


def test_usage_is_counted_apart_and_added_up():
    turn, whole = threading.Lock(), Usage(requests=10, prompt_tokens=100)
    with lane(turn):
        usage_here(whole).requests += 2
        assert usage_here(whole) == Usage(requests=2)
        assert whole.requests == 10
    assert whole == Usage(requests=12, prompt_tokens=100)
    assert usage_here(whole) is whole


def test_answers_of_lanes_at_work_count_outside_of_them():
    turn, whole, other = threading.Lock(), Usage(requests=10), Usage()
    counted, go_on = threading.Event(), threading.Event()

    def work():
        with lane(turn):
            usage_here(whole).requests += 2
            usage_here(other).requests += 5
            counted.set()
            with waiting():
                assert go_on.wait(60)

    with ThreadPoolExecutor(1) as pool:
        pool.submit(work)
        assert counted.wait(60)
        assert answers_until_now(whole) == 12
        assert answers_until_now(other) == 5
        go_on.set()
    assert (answers_until_now(whole), whole.requests, other.requests) == (12, 12, 5)


def test_requests_of_a_lane_count_in_it(connect, server):
    """They are answered in the client's own thread."""
    llm, turn, counted = connect(), threading.Lock(), {}
    server.pause = 0.02

    def write(number):
        with lane(turn):
            llm.generate([WriteRequest("", "a cat", 1)] * number, Sampling(max_new_tokens=2))
            counted[number] = llm.usage.requests

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(write, (1, 2, 3)))
    assert counted == {1: 1, 2: 2, 3: 3}
    assert llm.usage.requests == 6


def test_an_interrupted_client_waits_for_nobody(connect, server):
    llm, turn, ended = connect(timeout_s=60), threading.Lock(), []
    server.pause = 30

    def write():
        with lane(turn), pytest.raises(CancelledError):
            llm.generate([WriteRequest("", "a cat", 1)], Sampling(max_new_tokens=2))
        ended.append(time.monotonic())

    thread = threading.Thread(target=write)
    thread.start()
    time.sleep(0.3)
    began = time.monotonic()
    llm.interrupt()
    thread.join(10)
    assert ended
    assert ended[0] - began < 5
    with pytest.raises(CancelledError):
        llm.generate([WriteRequest("", "a cat", 1)], Sampling(max_new_tokens=2))
    server.pause = 0
