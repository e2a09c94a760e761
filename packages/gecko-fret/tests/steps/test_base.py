"""A step of one's own: one class and one line in STEPS, and the build runs, resumes, counts and reports it."""

import json
from dataclasses import dataclass

import pytest

from gecko_core.errors import ConfigError
from gecko_fret.build.folder import Workspace
from gecko_fret.build.pipeline import build_fret
from gecko_fret.config import parse_config
from gecko_fret.steps import FILTER, RETRIEVE, STEPS, PartStep, StepResult

SETTINGS = {
    "llm": {"model": "fake"},
    "generate": {"seeds": 20, "attempts": 2, "part_size": 6, "max_copied": 1.0},
    "retrieve": {"candidates": 6, "part_size": 5},
    "mine": {"fuse": "rrf"},
}


@dataclass(frozen=True, slots=True)
class Length:
    query_id: str
    words: int


class LengthStep(PartStep):
    """Counts the words of the queries, and rejects the longest."""

    name = "lengths"
    folder = "lengths"
    row = Length
    counted_as = "lengths"
    metered = True
    upstream = (FILTER,)
    limit = 8

    def __init__(self):
        self.made = []

    def fingerprint(self, build):
        return [self.limit]

    def inputs(self, build, number):
        self.made.append(number)
        return build.parts(FILTER).rows(number)

    def make(self, build):
        def measure(queries):
            lengths = [Length(query.id, len(query.query.split())) for query in queries]
            long = [self.reject("long", row.query_id, str(row.words)) for row in lengths if row.words > self.limit - 1]
            return StepResult(lengths, long, {"words": sum(row.words for row in lengths)})

        return measure


@pytest.fixture(params=[STEPS.index(RETRIEVE), len(STEPS)], ids=["between", "last"])
def step(request):
    step = LengthStep()
    STEPS.insert(request.param, step)
    yield step
    STEPS.remove(step)


@pytest.fixture
def run(small_corpus, make_models, tmp_path):
    def run(**options):
        return build_fret(
            parse_config(SETTINGS), tmp_path / "fret", corpus=small_corpus, models=make_models(), **options
        )

    return run


def test_a_step_is_run_counted_metered_rejected_and_reported(run, step, tmp_path):
    summary = run()
    rows = list(Workspace(tmp_path / "fret").parts(step))
    assert summary.complete
    assert summary.counts["lengths"] == summary.counts["queries"] == len(rows)
    assert summary.tokens["lengths"] == {"words": sum(row.words for row in rows)}
    assert summary.rejects["lengths"] == {"long": sum(row.words > 7 for row in rows)}
    assert summary.seconds["lengths"] > 0
    assert "| lengths | long |" in (tmp_path / "fret" / "report.md").read_text()
    manifest = json.loads((tmp_path / "fret" / "manifest.json").read_text())
    assert manifest["stages"]["lengths"]["done"]


def test_a_stopped_step_goes_on_with_its_missing_parts(run, step):
    def stop():
        return len(step.made) == 2

    assert not run(stop=stop).complete
    assert step.made == [0, 1]
    assert run().complete
    assert step.made == list(range(len(step.made)))


def test_a_changed_step_is_refused_by_name_and_made_again_by_force(run, step):
    run()
    made = len(step.made)
    step.limit = 3
    with pytest.raises(ConfigError, match=r"the settings of 'lengths' have changed .* \d of lengths"):
        run()
    assert run(force=True).complete
    assert len(step.made) == 2 * made


def test_a_folder_built_without_the_step_gets_its_parts(small_corpus, make_models, tmp_path):
    def run():
        return build_fret(parse_config(SETTINGS), tmp_path / "fret", corpus=small_corpus, models=make_models())

    run()
    stamps = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.parquet")}
    step = LengthStep()
    STEPS.append(step)
    try:
        assert run().counts["lengths"] > 0
    finally:
        STEPS.remove(step)
    assert {path: path.stat().st_mtime_ns for path in stamps} == stamps
