import pytest
import torch

from gecko_core import threads


@pytest.mark.parametrize(("given", "allowed", "expected"), [(4, 2, 2), (1, 8, 1), (3, 3, 3)])
def test_cores_are_those_that_threads_are_for_and_the_process_may_use(monkeypatch, given, allowed, expected):
    monkeypatch.setattr(torch, "get_num_threads", lambda: given)
    monkeypatch.setattr(threads.os, "sched_getaffinity", lambda process: set(range(allowed)), raising=False)
    assert threads.usable_cores() == expected
    monkeypatch.delattr(threads.os, "sched_getaffinity")
    monkeypatch.setattr(threads.os, "cpu_count", lambda: allowed)
    assert threads.usable_cores() == expected


@pytest.mark.parametrize(
    ("load", "given", "expected"),
    [
        (0.1, {}, {"GOMP_SPINCOUNT": "10000"}),
        (0.9, {}, {"OMP_WAIT_POLICY": "PASSIVE"}),
        (0.1, {"OMP_WAIT_POLICY": "ACTIVE"}, {"OMP_WAIT_POLICY": "ACTIVE"}),
        (0.9, {"GOMP_SPINCOUNT": "7"}, {"GOMP_SPINCOUNT": "7"}),
    ],
)
def test_threads_spin_only_on_a_quiet_machine_and_as_the_user_says(monkeypatch, load, given, expected):
    environment = dict(given)
    monkeypatch.setattr(threads.os, "environ", environment)
    monkeypatch.setattr(threads.os, "getloadavg", lambda: (load, 0.0, 0.0))
    monkeypatch.setattr(threads.os, "cpu_count", lambda: 2)
    threads.choose_waiting()
    assert environment == expected
