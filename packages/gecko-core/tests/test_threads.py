import pytest

from gecko_core import threads


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
