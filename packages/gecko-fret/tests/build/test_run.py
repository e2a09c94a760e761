import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from gecko_core.errors import ConfigError, DataError
from gecko_fret import load_fret
from gecko_fret.build.folder import Workspace
from gecko_fret.corpus.passages import Corpus, Passage


@pytest.mark.long
@pytest.mark.parametrize("slow", [False, True])
def test_a_long_list_of_parts_is_not_saved_after_every_part(run, tmp_path, monkeypatch, slow):
    write, saves = Workspace.write_manifest, []

    def counted(self, manifest):
        saves.append(1)
        time.sleep(0.2 if slow else 0)
        write(self, manifest)

    monkeypatch.setattr(Workspace, "write_manifest", counted)
    if not slow:  # on a busy machine, too
        monkeypatch.setattr("gecko_fret.build.run._QUICK_S", 60.0)
    run(tmp_path / "fret", {"retrieve.part_size": 1, "generate.part_size": 1})
    parts = sum(len(list((tmp_path / "fret" / name).glob("part-*"))) for name in ("attempts", "scored"))
    assert parts > 30
    assert (len(saves) < parts) if slow else (len(saves) > parts)


def test_finished_build_is_read_not_repeated(run, fake_llm, tmp_path, data_files):
    run(tmp_path / "fret")
    before = data_files(tmp_path / "fret")

    def refuse():
        raise AssertionError("the LLM was asked again")

    summary = run(tmp_path / "fret", llm=fake_llm(on_call=refuse))
    assert summary.complete
    assert data_files(tmp_path / "fret") == before


@pytest.mark.parametrize("after", [1, 3, 6, 9, 12, 15])
def test_stopped_build_goes_on_to_the_same_bytes(run, tmp_path, after, data_files):
    run(tmp_path / "whole")
    asked = []

    def stop():
        asked.append(1)
        return len(asked) > after

    summary = run(tmp_path / "fret", stop=stop)
    assert not summary.complete
    with pytest.raises(DataError, match="not finished"):
        load_fret(tmp_path / "fret")
    assert run(tmp_path / "fret").complete
    assert data_files(tmp_path / "fret") == data_files(tmp_path / "whole")


def test_error_in_the_middle_loses_no_finished_part(run, fake_llm, tmp_path, data_files):
    run(tmp_path / "whole")
    calls = []

    def fail():
        calls.append(1)
        if len(calls) == 7:
            raise RuntimeError("power cut")

    with pytest.raises(RuntimeError):
        run(tmp_path / "fret", llm=fake_llm(on_call=fail))
    assert run(tmp_path / "fret").complete
    assert data_files(tmp_path / "fret") == data_files(tmp_path / "whole")


def test_changed_setting_says_what_it_would_delete_and_asks_for_force(run, tmp_path, data_files):
    out = tmp_path / "fret"
    run(out)
    before = data_files(out)
    with pytest.raises(
        ConfigError, match=r"another run: the settings of 'mine' .*\(mine.rrf_k was 0.0\).*--force .*\d of fret"
    ):
        run(out, {"mine": {"rrf_k": 60}, "llm": {"model": "fake", "batch_rows": 3}})
    changes = {"generate": {"seeds": 19, "attempts": 1, "min_words": 2, "temperature": 0.1}}
    with pytest.raises(
        ConfigError, match=r"'generate' .*\(generate.seeds was 20; generate.attempts was 2; .*; and others"
    ):
        run(out, changes)
    assert data_files(out) == before
    run(out, {"mine": {"rrf_k": 60}}, force=True)
    after = data_files(out)
    unchanged = [name for name in before if name.startswith(("attempts", "scored", "generated"))]
    assert unchanged
    assert all(after[name] == before[name] for name in unchanged)
    run(tmp_path / "fresh", {"mine": {"rrf_k": 60}})
    assert after == data_files(tmp_path / "fresh")


def test_changed_setting_of_a_step_that_has_no_part_yet_needs_no_force(run, tmp_path):
    assert not run(tmp_path / "fret", stop=iter([False] * 4 + [True] * 99).__next__).complete
    assert run(tmp_path / "fret", {"mine.rrf_k": 60}).complete
    assert json.loads((tmp_path / "fret" / "manifest.json").read_text())["config"]["mine"]["rrf_k"] == 60


def test_changed_corpus_is_refused_and_named(run, small_corpus, tmp_path):
    run(tmp_path / "fret")
    changed = Corpus([*small_corpus, Passage("new", None, "one more")], name="small")
    with pytest.raises(ConfigError, match="holds another run: the corpus has changed"):
        run(tmp_path / "fret", corpus=changed)


def test_speed_settings_may_change_between_runs(run, tmp_path):
    run(tmp_path / "fret", stop=iter([False] * 4 + [True] * 99).__next__)
    assert run(tmp_path / "fret", {"llm": {"model": "fake", "batch_rows": 3}}).complete


def test_decontamination_sets_count_by_content(run, tmp_path):
    for name in ("a.jsonl", "b/a.jsonl"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text('{"text": "a question of the evaluation set"}')
    run(tmp_path / "fret", {"mine": {"decontaminate": [str(tmp_path / "a.jsonl")]}})
    assert run(tmp_path / "fret", {"mine": {"decontaminate": [str(tmp_path / "b" / "a.jsonl")]}}).complete
    (tmp_path / "a.jsonl").write_text('{"text": "another question"}')
    with pytest.raises(ConfigError, match="the settings of 'mine' have changed"):
        run(tmp_path / "fret", {"mine": {"decontaminate": [str(tmp_path / "a.jsonl")]}})


@pytest.mark.long
def test_a_killed_build_asks_the_llm_again_for_its_last_part_alone(run, fake_llm, tmp_path, data_files):
    """What an LLM has answered is listed before it is asked for the next part; a part takes two calls at most."""
    calls = []
    run(tmp_path / "whole", llm=fake_llm(on_call=lambda: calls.append(1)))
    for last in range(1, len(calls) + 1):
        out, again = tmp_path / f"{last}", []

        def die(count=iter(range(1, last + 1)), last=last):
            if next(count) == last:
                os._exit(9)

        child = os.fork()
        if not child:
            run(out, llm=fake_llm(on_call=die))
        os.waitpid(child, 0)
        assert run(out, llm=fake_llm(on_call=lambda again=again: again.append(1))).complete
        assert len(again) - (len(calls) - last + 1) in (0, 1)
        assert data_files(out) == data_files(tmp_path / "whole")


def test_no_surviving_row_names_the_reasons(run, tmp_path):
    with pytest.raises(DataError, match=r"no row survived \(.*mine low_relevance \d+"):
        run(tmp_path / "fret", {"mine": {"min_relevance": 4.0}})


def test_progress_counts_every_unit_once(run, tmp_path):
    class Recorder:
        def __init__(self):
            self.stages = {}

        def start(self, stage, total, done, unit):
            self.now = self.stages[stage] = [total, done]

        def advance(self, count):
            self.now[1] += count

        def finish(self):
            pass

    first = Recorder()
    run(tmp_path / "fret", progress=first)
    assert all(total == done for total, done in first.stages.values())
    assert set(first.stages) == {"corpus", "write", "filter", "embed", "retrieve", "score", "mine"}
    asked = iter([False] * 5 + [True] * 99)
    run(tmp_path / "stopped", stop=asked.__next__)
    again = Recorder()
    run(tmp_path / "stopped", progress=again)
    assert all(total == done for total, done in again.stages.values())


CHILD = """
import json, sys, time
sys.path.insert(0, sys.argv[2])
import conftest, numpy
from gecko_fret.config import parse_config
from gecko_fret.models import Models
from gecko_fret.build.folder import Workspace
from gecko_fret.build.pipeline import build_fret
corpus = conftest.small_corpus.__wrapped__() if hasattr(conftest.small_corpus, "__wrapped__") else None
models = Models(llms={"fake": conftest.FakeLLM(on_call=lambda: time.sleep(0.02))}, embedder=conftest.FakeEmbedder())
print("ready", flush=True)
build_fret(parse_config(json.loads(sys.argv[3])), sys.argv[1], corpus=corpus, models=models)
"""


@pytest.mark.long
@pytest.mark.parametrize("kills", [2, pytest.param(50, marks=[pytest.mark.slow, pytest.mark.timeout(1800)])])
def test_killed_build_goes_on_to_the_same_bytes(run, small, tmp_path, kills, data_files):
    """SIGKILL at random moments of builds that go on after each: every output is that of a build left alone."""
    run(tmp_path / "whole")
    expected, here, builds = data_files(tmp_path / "whole"), str(Path(__file__).parents[1]), 0
    delays = np.random.default_rng(0)
    while kills:
        out = tmp_path / f"fret-{builds}"
        child = subprocess.Popen(
            [sys.executable, "-c", CHILD, str(out), here, json.dumps(small)],
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )
        assert child.stdout.readline() == "ready\n"
        time.sleep(delays.uniform(0.02, 0.4))
        finished = child.poll() == 0
        child.send_signal(signal.SIGKILL)
        child.wait()
        child.stdout.close()
        kills -= not finished
        if finished or not kills:
            assert run(out).complete
            assert data_files(out) == expected
            assert not list(out.rglob("*.tmp"))
            builds += 1


class PowerCut(Exception):
    pass


@pytest.fixture
def real_llm(tiny_model, word_tokenizer, fake_llm, monkeypatch):
    """Makes a small real backend that counts its passes over pairs; the one with number ``cut`` fails.

    What it writes is the fake one's: its weights are random.
    """
    from gecko_fret.llm.transformers import TransformersLLM

    def real_llm(cut=None):
        llm = TransformersLLM(
            tiny_model, word_tokenizer, name="fake", fingerprint="tiny", batch_tokens=256, batch_rows=8
        )
        forward, llm.passes = llm._decoder.forward, 0

        def counted(*args):
            llm.passes += 1
            if llm.passes == cut:
                raise PowerCut
            return forward(*args)

        monkeypatch.setattr(llm._decoder, "forward", counted)
        monkeypatch.setattr(llm, "generate", fake_llm().generate)
        return llm

    return real_llm


@pytest.mark.parametrize("blocks", [False, True])
def test_a_part_that_was_scored_in_part_goes_on_there(run, real_llm, tmp_path, data_files, blocks):
    changes = {"score.blocks": blocks, "generate.seeds": 6, "retrieve.part_size": 100}
    whole, out = real_llm(), tmp_path / "fret"
    run(tmp_path / "whole", changes, llm=whole)
    with pytest.raises(PowerCut):
        run(out, changes, llm=real_llm(cut=whole.passes - 1))
    assert [path.name for path in (out / "partial").iterdir()] == ["score-00000.txt"]
    again = real_llm()
    assert run(out, changes, llm=again).complete
    assert again.passes < whole.passes / 2
    assert data_files(out) == data_files(tmp_path / "whole")
    assert not (out / "partial").exists()


def test_what_other_settings_have_scored_goes_with_their_parts(run, real_llm, tmp_path):
    changes = {"generate.seeds": 6, "retrieve.part_size": 2}
    whole, out = real_llm(), tmp_path / "fret"
    run(tmp_path / "whole", changes, llm=whole)
    with pytest.raises(PowerCut):
        run(out, changes, llm=real_llm(cut=whole.passes - 1))
    assert list((out / "partial").iterdir())
    changed = changes | {"score.passage_tokens": 20}
    with pytest.raises(ConfigError, match="holds another run"):
        run(out, changed, llm=real_llm())
    assert list((out / "partial").iterdir())
    with pytest.raises(PowerCut):
        run(out, changed, llm=real_llm(cut=1), force=True)
    assert not (out / "partial").exists()
