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


def test_the_time_left_is_told_until_the_first_units_are_done(monkeypatch):
    recorder, counts, clock = Recorder(), iter([7, 107, 157, 207, 257]), iter([0.0, 60.0, 120.0, 150.0])
    monkeypatch.setattr("gecko_fret.build.answers.time.monotonic", lambda: next(clock, 0.0))
    progress = SharedProgress(recorder)
    with answers_told(progress, lambda: next(counts, 257), expected=250, every=0.001):
        for told in range(4):
            while len(recorder.calls) <= told:
                assert recorder.noted.wait(60)
                recorder.noted.clear()
    assert recorder.calls == [
        (0, "100 of about 250 answers"),  # of an earlier run, perhaps: how fast they came says nothing
        (0, "150 of about 250 answers, 2 min 0 s left"),
        (0, "200 of about 250 answers, 1 min 0 s left"),
        (0, "250 answers"),
    ]


def test_after_the_first_units_their_time_left_is_the_only_one():
    recorder, counts = Recorder(), iter([0, 10])
    progress = SharedProgress(recorder)
    progress.start("score", 3, 0, "queries")
    progress.advance(1)
    recorder.calls.clear()
    with answers_told(progress, lambda: next(counts, 20), expected=30, every=0.001):
        while len(recorder.calls) < 2:
            assert recorder.noted.wait(60)
            recorder.noted.clear()
    assert recorder.calls == [(0, "10 of about 30 answers"), (0, "20 of about 30 answers")]


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
