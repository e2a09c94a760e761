"""A pytest plugin that tells which files of tests take the most time, setup and teardown included, over all processes.

PYTHONPATH=.ci/plugins pytest -p seconds ...
"""

from __future__ import annotations

from collections import Counter

import pytest

_MOST = 15
_seconds: Counter[str] = Counter()


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    _seconds[report.nodeid.partition("::")[0]] += report.duration


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    terminalreporter.section("slowest files")
    for name, seconds in _seconds.most_common(_MOST):
        terminalreporter.write_line(f"{seconds:6.0f} s {seconds / _seconds.total():4.0%} {name}")
    terminalreporter.write_line(f"{_seconds.total():6.0f} s all {len(_seconds)} files")
