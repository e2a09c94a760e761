import io

import pytest

from gecko_core import bars


@pytest.mark.parametrize(
    ("terminal", "given", "expected"),
    [(True, {}, None), (False, {}, "1"), (False, {"HF_DATASETS_DISABLE_PROGRESS_BARS": "0"}, "0")],
)
def test_bars_of_other_packages_are_off_where_there_is_no_terminal(monkeypatch, terminal, given, expected):
    environment = dict(given)
    monkeypatch.setattr(bars.os, "environ", environment)
    monkeypatch.setattr(bars.sys, "stderr", io.StringIO())
    monkeypatch.setattr(bars.sys.stderr, "isatty", lambda: terminal, raising=False)
    bars.choose_bars()
    assert environment.get("HF_DATASETS_DISABLE_PROGRESS_BARS") == expected
    assert environment.get("TQDM_DISABLE") == (None if terminal else "1")


def test_a_stream_that_is_not_there_is_no_terminal():
    closed = io.StringIO()
    closed.close()
    assert not any(bars.on_terminal(stream) for stream in (None, closed, io.StringIO()))
