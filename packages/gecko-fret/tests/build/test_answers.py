import threading

import pytest

from gecko_fret.build.answers import SharedProgress, answers_told


class Recorder:
    def __init__(self):
        self.calls, self.noted = [], threading.Event()

    def start(self, *args):
        self.calls.append(args)

    def advance(self, *args):
        self.calls.append(args)
        if len(args) > 1:
            self.noted.set()

    def finish(self):
        self.calls.append(())


def test_answers_are_noted_while_a_part_is_in_the_making():
    recorder, counts = Recorder(), iter([7, 7, 7, 19])
    with answers_told(SharedProgress(recorder), lambda: next(counts, 1019), every=0.001):
        assert recorder.noted.wait(60)
        recorder.noted.clear()
        assert recorder.noted.wait(60)
    assert recorder.calls == [(0, "12 answers"), (0, "1,012 answers")]


def test_without_answers_nothing_is_said():
    recorder, looked = Recorder(), threading.Event()

    def answered(times=[]):  # noqa: B006
        times.append(1)
        if len(times) > 3:
            looked.set()
        return 5

    with answers_told(SharedProgress(recorder), answered, every=0.001):
        assert looked.wait(60)
    assert recorder.calls == []


def test_the_thread_ends_with_the_step_however_that_ends():
    before = threading.active_count()
    with pytest.raises(KeyError), answers_told(SharedProgress(Recorder()), lambda: 0, every=60.0):
        raise KeyError("x")
    assert threading.active_count() == before


def test_units_are_told_as_a_caller_may_take_them():
    recorder = Recorder()
    progress = SharedProgress(recorder)
    progress.start("score", 3, 0, "queries")
    progress.advance(2)
    progress.advance(1, "quick")
    progress.finish()
    assert recorder.calls == [("score", 3, 0, "queries"), (2,), (1, "quick"), ()]
