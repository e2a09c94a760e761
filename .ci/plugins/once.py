"""A pytest plugin by which no test runs twice: one run notes what passed, a later one leaves it out.

PYTHONPATH=.ci/plugins TESTS_PASSED_TO=FILE pytest -p once ...
PYTHONPATH=.ci/plugins TESTS_PASSED_IN=FILE pytest -p once ...
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

_passed: set[str] = set()
_failed: set[str] = set()


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.when == "call" and report.passed:
        _passed.add(report.nodeid)
    if report.failed:
        _failed.add(report.nodeid)


def pytest_sessionfinish(session: pytest.Session) -> None:
    to = os.environ.get("TESTS_PASSED_TO")
    if to and not hasattr(session.config, "workerinput"):  # of several processes, the one that all report to
        with Path(to).open("a", encoding="utf-8") as file:
            file.writelines(f"{name!r}\n" for name in sorted(_passed - _failed))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    passed = os.environ.get("TESTS_PASSED_IN")
    if not passed or not Path(passed).exists():
        return
    names = set(Path(passed).read_text(encoding="utf-8").splitlines())
    before = [item for item in items if repr(item.nodeid) in names]
    config.hook.pytest_deselected(items=before)
    items[:] = [item for item in items if repr(item.nodeid) not in names]
