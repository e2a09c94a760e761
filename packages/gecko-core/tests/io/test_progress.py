import io
import sys

import pytest

from gecko_core.errors import ConfigError
from gecko_core.io import progress
from gecko_core.io.progress import Bars, Lines, Silent, format_seconds, make_progress


def test_lines_tell_beginning_middle_and_end(monkeypatch):
    clock = iter([0.0, 5.0, 20.0, 40.0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    stream = io.StringIO()
    lines = Lines(stream, every=10)
    lines.start("score", 100, 20, "queries")
    lines.advance(20)
    lines.advance(20)
    lines.finish()
    assert stream.getvalue().splitlines() == [
        "score     20 of 100 queries done before",
        "score     60 of 100 queries, 20 s left",
        "score     stopped, 60 of 100 queries in 40 s",
    ]


def test_a_note_alone_is_a_line_of_its_own_and_no_unit(monkeypatch):
    clock = iter([0.0, 5.0, 12.0, 30.0, 40.0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    stream = io.StringIO()
    lines = Lines(stream, every=10)
    lines.start("score", 100, 0, "queries")
    lines.advance(0, "12 answers")  # too early
    lines.advance(0, "40 answers")
    lines.advance(50)
    lines.finish()
    assert stream.getvalue().splitlines() == [
        "score     100 queries",
        "score     40 answers, 0 of 100 queries",
        "score     50 of 100 queries, 30 s left",
        "score     stopped, 50 of 100 queries in 40 s",
    ]


def test_a_stage_that_is_done_says_how_much_this_run_has_done():
    stream = io.StringIO()
    lines = Lines(stream, every=10)
    lines.start("score", 30, 20, "queries")
    lines.advance(10)
    lines.finish()
    assert stream.getvalue().splitlines()[1:] == ["score     done, 10 queries in 0 s"]


def test_a_stage_with_nothing_to_do_says_so_once():
    stream = io.StringIO()
    lines = Lines(stream)
    lines.start("write", 8, 8, "seeds")
    lines.finish()
    assert stream.getvalue().splitlines() == ["write     8 of 8 seeds done before"]


def test_bars_draw_on_a_terminal():
    from rich.console import Console

    stream = io.StringIO()
    bars = Bars(Console(file=stream, force_terminal=True, width=100))
    bars.start("score", 10, 0, "queries")
    bars.advance(10)
    bars.finish()
    assert "10/10" in stream.getvalue()


def test_choice_of_progress(capsys):
    assert isinstance(make_progress(None), Silent)
    assert isinstance(make_progress(True), Lines)  # pytest's stderr is no terminal
    own = Silent()
    assert make_progress(own) is own
    own.start("a", 1, 0, "b")
    own.advance(1)
    own.finish()
    assert capsys.readouterr() == ("", "")


def test_lines_come_as_often_as_asked_for(capsys):
    for every in (0.0, 1000.0):
        lines = make_progress(True, every=every)
        lines.start("a", 3, 0, "b")
        lines.advance(1)
        lines.advance(1)
        print("--", file=sys.stderr)
    often, seldom, _ = capsys.readouterr().err.split("--\n")
    assert (len(often.splitlines()), len(seldom.splitlines())) == (3, 1)


def test_durations_are_short_to_read():
    assert [format_seconds(s) for s in (0.4, 59.6, 61, 3600, 7800)] == [
        "0 s",
        "1 min 0 s",
        "1 min 1 s",
        "1 h 0 min",
        "2 h 10 min",
    ]


@pytest.mark.parametrize("wrong", ["yes", 1, object(), Silent])
def test_progress_of_another_kind_is_refused(wrong):
    with pytest.raises(ConfigError, match=r"progress must be True, False or an object as gecko_core\.io\.Progress"):
        make_progress(wrong)
