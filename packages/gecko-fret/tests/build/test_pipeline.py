import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gecko_core.errors import ConfigError, DataError, GeckoError
from gecko_fret import load_fret
from gecko_fret.build.folder import Workspace
from gecko_fret.build.pipeline import build_fret
from gecko_fret.config import parse_config
from gecko_fret.corpus.passages import Corpus, Passage
from gecko_fret.models import Models

SMALL = {
    "llm": {"model": "fake"},
    "generate": {"seeds": 20, "attempts": 2, "part_size": 6, "max_copied": 1.0},
    "retrieve": {"candidates": 6, "part_size": 5},
    "corpus": {"part_size": 15},
    "mine": {"fuse": "rrf"},
}


def data_files(out):
    """Contents of everything that must be the same for the same inputs."""
    paths = sorted([*out.rglob("*.parquet"), *out.rglob("*.npy"), *out.rglob("report.*")])
    return {str(path.relative_to(out)): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


@pytest.fixture
def run(small_corpus, fake_llm, fake_embedder):
    def run(out, changes=None, *, corpus=small_corpus, llm=None, **options):
        raw = json.loads(json.dumps(SMALL))
        for key, value in (changes or {}).items():
            section, _, name = key.partition(".")
            if name or isinstance(value, dict):
                raw.setdefault(section, {}).update({name: value} if name else value)
            else:
                raw[section] = value
        models = Models(llms={"fake": llm or fake_llm()}, embedder=fake_embedder())
        return build_fret(parse_config(raw), out, corpus=corpus, models=models, **options)

    return run


def test_build_gives_rows_whose_labels_follow_from_their_scores(run, tmp_path):
    summary = run(tmp_path / "fret")
    assert summary.complete
    rows = load_fret(tmp_path / "fret")
    assert len(rows) == summary.counts["rows"] > 10
    for row in rows:
        assert row.positive.id == row.candidates[0].id
        assert row.seed_rank is not None
        assert row.seed_rank <= 4
        assert len(row.candidates) == 6
        assert all(n.id not in (row.positive.id, row.seed_id) for n in row.negatives)
        assert [c.fused for c in row.candidates] == sorted((c.fused for c in row.candidates), reverse=True)
        assert all(c.fused == 1 / c.rank_ql + 1 / c.rank_rc for c in row.candidates)
    assert len({row.id for row in rows}) == len(rows)
    assert rows[0].query == next(iter(rows)).query == rows[:1][0].query


@pytest.mark.long
@pytest.mark.parametrize("slow", [False, True])
def test_a_long_list_of_parts_is_not_saved_after_every_part(run, tmp_path, monkeypatch, slow):
    write, saves = Workspace.write_manifest, []

    def counted(self, manifest):
        saves.append(1)
        time.sleep(0.2 if slow else 0)
        write(self, manifest)

    monkeypatch.setattr(Workspace, "write_manifest", counted)
    run(tmp_path / "fret", {"retrieve.part_size": 1, "generate.part_size": 1})
    parts = sum(len(list((tmp_path / "fret" / name).glob("part-*"))) for name in ("attempts", "scored"))
    assert parts > 30
    assert (len(saves) < parts) if slow else (len(saves) > parts)


def test_folder_holds_every_step_and_a_manifest_that_adds_up(run, tmp_path):
    out = tmp_path / "fret"
    summary = run(out)
    for name in ("corpus", "attempts", "generated", "embeddings", "retrieved", "scored", "fret", "rejects"):
        assert list((out / name).glob("part-*")), name
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["complete"] is True
    assert manifest["config"]["generate"]["seeds"] == 20
    counts, rejects = manifest["counts"], manifest["rejects"]
    assert counts["attempts"] == 40
    assert counts["queries"] == 40 - sum(rejects["generate"].values())
    kept = counts["queries"] - rejects.get("retrieve", {}).get("seed_not_found", 0)
    assert counts["scored_pairs"] == kept * 6
    assert counts["rows"] == kept - sum(rejects.get("mine", {}).values())
    assert manifest["tokens"]["write"]["generated_tokens"] > 0
    assert manifest["search"] == {"kind": "exact", "recall_at_6": 1.0}
    assert summary.counts == counts
    assert (out / "report.html").read_text().startswith("<!doctype html>")
    assert not list(out.rglob("*.tmp"))


def test_same_configuration_gives_the_same_bytes(run, tmp_path):
    run(tmp_path / "a")
    run(tmp_path / "b")
    assert data_files(tmp_path / "a") == data_files(tmp_path / "b")
    run(tmp_path / "c", {"seed": 1})
    assert data_files(tmp_path / "a") != data_files(tmp_path / "c")


@pytest.fixture
def every_source(tmp_path):
    """Settings that take queries from everywhere, and show the LLM the user's own."""
    (tmp_path / "log.txt").write_text("subject3word1 subject3word4 please\nlarge\nwhere is subject8word0\n404 ???\n")
    (tmp_path / "mine.txt").write_text("subject5word1 and subject5word7\nsubject2word3 subject2word9 how\n")
    return {
        "generate.sources": ["llm", "titles", "sentences", "log"],
        "generate.log": str(tmp_path / "log.txt"),
        "generate.per_source": {"sentences": 30},
        "generate.examples": str(tmp_path / "mine.txt"),
        "generate.keep": "grounded",
        "generate.write_task": False,
    }


@pytest.fixture
def titled(small_corpus):
    """Passages with titles from which they can be found."""
    return Corpus([Passage(p.id, " ".join(p.text.split()[:4]), p.text) for p in small_corpus])


@pytest.mark.parametrize("fuse", ["rrf", "calibrated"])
def test_queries_of_all_sources_become_rows(run, tmp_path, every_source, titled, fuse):
    out = tmp_path / "fret"
    summary = run(out, every_source | {"mine.fuse": fuse}, corpus=titled)
    table = pa.concat_tables(
        pq.read_table(path).select(["id", "seed_id", "source"]) for path in sorted((out / "generated").glob("*"))
    )
    sources = Counter(table["source"].to_pylist())
    assert set(sources) == {"llm", "titles", "sentences", "log"}
    assert sources["log"] == 3  # "404 ???" is no text
    assert 20 < sources["sentences"] <= 30
    assert summary.counts["queries"] == sum(sources.values())
    rows = {row.id: row for row in load_fret(out)}
    assert {row.seed_id for row in rows.values() if row.id.startswith("log:")} == {None}
    assert {name for name in ("log:1", "log:2", "log:3") if name in rows}
    assert any(identifier.endswith("/title") for identifier in rows)
    assert {row["id"]: row["source"] for row in table.to_pylist() if row["id"] in rows} == {
        row.id: row.source for row in rows.values()
    }
    for row in rows.values():
        shown = [passage for passage in (row.positive, *row.negatives) if passage]
        assert all((passage.title is None) == (row.source == "titles") for passage in shown)
    report = (out / "report.md").read_text()
    for source, count in sources.items():
        kept = sum(query["id"] in rows for query in table.to_pylist() if query["source"] == source)
        assert re.search(rf"\| {source} \| {count} \| {kept} \|", report)


def test_sources_stop_resume_and_change_like_everything_else(run, tmp_path, every_source):
    run(tmp_path / "whole", every_source)
    asked = []

    def stop():
        asked.append(1)
        return len(asked) > 5

    assert not run(tmp_path / "fret", every_source, stop=stop).complete
    assert run(tmp_path / "fret", every_source).complete
    assert data_files(tmp_path / "fret") == data_files(tmp_path / "whole")
    (tmp_path / "mine.txt").write_text("quite other words\n")
    with pytest.raises(ConfigError, match="the settings of 'write' have changed"):
        run(tmp_path / "fret", every_source)
    run(tmp_path / "fret", every_source, force=True)
    assert "quite other words" in (tmp_path / "fret" / "examples.json").read_text()


def test_a_build_without_an_llm_to_write(run, tmp_path, every_source, titled):
    changes = {name: every_source[name] for name in ("generate.log",)} | {"generate.sources": ["titles", "log"]}
    summary = run(tmp_path / "fret", changes, corpus=titled)
    assert summary.counts["attempts"] == 0
    assert summary.counts["rows"] > 10


def test_the_users_queries_are_kept_out_of_evaluation_sets_too(run, tmp_path, every_source):
    (tmp_path / "eval.jsonl").write_text(json.dumps({"text": "subject3word1 subject3word4 please"}) + "\n")
    out = tmp_path / "fret"
    run(out, every_source | {"mine.decontaminate": [str(tmp_path / "eval.jsonl")]})
    assert "log:1" not in {row.id for row in load_fret(out)}
    rejects = [row for path in (out / "rejects").glob("part-mine-*") for row in pq.read_table(path).to_pylist()]
    assert ("log:1", "contaminated") in {(row["id"], row["reason"]) for row in rejects}


def test_part_size_does_not_change_rows(run, tmp_path):
    run(tmp_path / "a")
    run(tmp_path / "b", {"generate.part_size": 20, "retrieve.part_size": 50})
    strip = [
        [(r.id, r.query, r.positive.id, [n.id for n in r.negatives]) for r in load_fret(tmp_path / n)] for n in "ab"
    ]
    assert strip[0] == strip[1]


def test_finished_build_is_read_not_repeated(run, fake_llm, tmp_path):
    run(tmp_path / "fret")
    before = data_files(tmp_path / "fret")

    def refuse():
        raise AssertionError("the LLM was asked again")

    summary = run(tmp_path / "fret", llm=fake_llm(on_call=refuse))
    assert summary.complete
    assert data_files(tmp_path / "fret") == before


@pytest.mark.parametrize("after", [1, 3, 6, 9, 12, 15])
def test_stopped_build_goes_on_to_the_same_bytes(run, tmp_path, after):
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


def test_error_in_the_middle_loses_no_finished_part(run, fake_llm, tmp_path):
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


def test_changed_setting_says_what_it_would_delete_and_asks_for_force(run, tmp_path):
    out = tmp_path / "fret"
    run(out)
    before = data_files(out)
    with pytest.raises(ConfigError, match=r"holds another run: the settings of 'mine' .*--force .*\d of fret"):
        run(out, {"mine": {"rrf_k": 60}})
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


def test_a_folder_goes_on_with_the_rules_of_text_that_it_was_begun_with(run, tmp_path):
    def of_version_0_1(out):
        manifest = json.loads((out / "manifest.json").read_text())
        del manifest["config"]["corpus"]["text_rules"]
        (out / "manifest.json").write_text(json.dumps(manifest))

    def rules(out):
        return json.loads((out / "manifest.json").read_text())["config"]["corpus"]["text_rules"]

    out = tmp_path / "fret"
    assert not run(out, {"corpus.text_rules": 1}, stop=iter([False] * 4 + [True] * 99).__next__).complete
    of_version_0_1(out)
    assert run(out).complete
    assert rules(out) == 1
    run(tmp_path / "whole", {"corpus.text_rules": 1})
    assert data_files(out) == data_files(tmp_path / "whole")
    of_version_0_1(out)
    with pytest.raises(ConfigError, match="the corpus has changed"):
        run(out, {"corpus.text_rules": 2})
    run(tmp_path / "new")
    assert rules(tmp_path / "new") == 2


def test_speed_settings_may_change_between_runs(run, tmp_path):
    run(tmp_path / "fret", stop=iter([False] * 4 + [True] * 99).__next__)
    assert run(tmp_path / "fret", {"llm": {"model": "fake", "batch_rows": 3}}).complete


def test_a_build_that_cannot_begin_leaves_nothing(run, tmp_path):
    with pytest.raises(DataError, match="no such evaluation set"):
        run(tmp_path / "fret", {"mine": {"decontaminate": [str(tmp_path / "absent")]}})
    with pytest.raises(ConfigError, match=r"generate.kinds: 'poetry' is not in the prompts"):
        run(tmp_path / "fret", {"generate.kinds": {"poetry": 1}})
    assert not list(tmp_path.iterdir())
    (tmp_path / "file").write_text("x")
    with pytest.raises(GeckoError, match="Not a directory"):
        run(tmp_path / "file" / "fret")


def test_decontamination_sets_count_by_content(run, tmp_path):
    for name in ("a.jsonl", "b/a.jsonl"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text('{"text": "a question of the evaluation set"}')
    run(tmp_path / "fret", {"mine": {"decontaminate": [str(tmp_path / "a.jsonl")]}})
    assert run(tmp_path / "fret", {"mine": {"decontaminate": [str(tmp_path / "b" / "a.jsonl")]}}).complete
    (tmp_path / "a.jsonl").write_text('{"text": "another question"}')
    with pytest.raises(ConfigError, match="the settings of 'mine' have changed"):
        run(tmp_path / "fret", {"mine": {"decontaminate": [str(tmp_path / "a.jsonl")]}})


def test_folder_of_something_else_is_left_alone(run, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ConfigError, match=r"holds files but no manifest\.json"):
        run(tmp_path, force=True)
    assert [p.name for p in tmp_path.iterdir()] == ["notes.txt"]
    (tmp_path / "manifest.json").write_text('{"something": "else"}')
    with pytest.raises(DataError, match="not the manifest of a FRet folder"):
        run(tmp_path)


def test_two_builds_in_one_folder_are_kept_apart(run, fake_llm, tmp_path):
    inner = []

    def again():
        if not inner:
            inner.append(1)
            with pytest.raises(ConfigError, match="another build is running in this folder"):
                run(tmp_path / "fret")
            inner.append(2)

    assert run(tmp_path / "fret", llm=fake_llm(on_call=again)).complete
    assert inner == [1, 2]


def test_embeddings_are_shared_through_a_cache(run, tmp_path):
    cache = {"retrieve.cache": str(tmp_path / "cache")}
    run(tmp_path / "a", cache)
    stamps = {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").rglob("*.npy")}
    assert len(stamps) == 3
    run(tmp_path / "b", cache)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").rglob("*.npy")} == stamps
    assert not (tmp_path / "b" / "embeddings").exists()
    run(tmp_path / "plain")
    assert [r.candidates for r in load_fret(tmp_path / "b")] == [r.candidates for r in load_fret(tmp_path / "plain")]


def test_output_that_is_a_file_is_refused(run, tmp_path):
    (tmp_path / "out").write_text("x")
    with pytest.raises(ConfigError, match="is a file"):
        run(tmp_path / "out")


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def swap(path):
    other = next(other for other in sorted(path.parent.glob("part-*")) if other != path)
    data = path.read_bytes()
    path.write_bytes(other.read_bytes())
    other.write_bytes(data)


DAMAGES = {
    "lost": lambda path: path.unlink(),
    "cut": lambda path: path.write_bytes(path.read_bytes()[:50]),
    "empty": lambda path: path.write_bytes(b""),
    "flipped": flip,
    "swapped": swap,
    "foreign": lambda path: shutil.copy(path, path.with_name(path.name.replace("00000", "00099"))),
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory, small_corpus, make_models):
    """A finished build, to be copied."""
    out = tmp_path_factory.mktemp("whole") / "fret"
    assert build_fret(parse_config(SMALL), out, corpus=small_corpus, models=make_models()).complete
    return out


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("folder", ["corpus", "attempts", "generated", "embeddings", "retrieved", "scored", "fret"])
def test_a_part_that_is_not_what_was_written_is_made_again(run, whole, tmp_path, folder, damage):
    out = tmp_path / "fret"
    shutil.copytree(whole, out)
    DAMAGES[damage](sorted((out / folder).glob("part-*"))[0])
    if folder in ("corpus", "fret"):  # what readers of a finished folder read
        with pytest.raises(DataError, match=r"part-0\d+\.parquet: the part is .*; run the same build again"):
            load_fret(out)
    summary = run(out)
    assert summary.complete
    assert summary.counts == json.loads((whole / "manifest.json").read_text())["counts"]
    assert data_files(out) == data_files(whole)


def test_rejects_that_are_lost_are_made_again_with_their_part(run, whole, tmp_path):
    out = tmp_path / "fret"
    shutil.copytree(whole, out)
    for path in sorted((out / "rejects").glob("*-00000.parquet")):
        path.unlink()
    assert run(out).complete
    assert data_files(out) == data_files(whole)


def test_a_part_that_comes_out_different_takes_what_was_made_of_it_along(run, whole, fake_llm, tmp_path, caplog):
    """An LLM behind a server may answer otherwise this time: rows of the old answers do not fit the new ones."""
    out = tmp_path / "fret"
    shutil.copytree(whole, out)
    (out / "attempts" / "part-00000.parquet").unlink()

    class Other(fake_llm):
        def _complete(self, prefix, body, seed):
            return super()._complete(prefix, body, seed + 1)

    assert run(out, llm=Other()).complete
    assert "attempts/part-00000.parquet was lost and came out different; made again of it: filter" in caplog.text
    queries = {row["id"] for path in (out / "generated").glob("*") for row in pq.read_table(path).to_pylist()}
    assert {row.id for row in load_fret(out)} <= queries
    assert data_files(out) != data_files(whole)


def test_a_folder_of_a_version_without_a_list_is_taken_over(run, whole, fake_llm, tmp_path):
    out = tmp_path / "fret"
    shutil.copytree(whole, out)
    manifest = json.loads((out / "manifest.json").read_text())
    for stage in manifest["stages"].values():
        del stage["models"]
    del manifest["parts"], manifest["lost"]
    (out / "manifest.json").write_text(json.dumps(manifest))
    assert len(load_fret(out)) == manifest["counts"]["rows"]

    def refuse():
        raise AssertionError("the LLM was asked again")

    assert run(out, llm=fake_llm(on_call=refuse)).complete
    (out / "fret" / "part-00000.parquet").unlink()
    assert run(out).complete
    assert data_files(out) == data_files(whole)


@pytest.mark.long
def test_a_killed_build_asks_the_llm_again_for_its_last_part_alone(run, fake_llm, tmp_path):
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


def test_shared_embeddings_that_are_not_what_was_written_are_made_again(run, tmp_path):
    cache = {"retrieve.cache": str(tmp_path / "cache")}
    run(tmp_path / "a", cache)
    first, second, third = sorted((tmp_path / "cache").rglob("*.npy"))
    before = [path.read_bytes() for path in (first, second, third)]
    flip(first)
    second.unlink()
    third.write_bytes(before[0])
    run(tmp_path / "b", cache)
    assert [path.read_bytes() for path in (first, second, third)] == before
    assert [r.candidates for r in load_fret(tmp_path / "b")] == [r.candidates for r in load_fret(tmp_path / "a")]
    assert not run(tmp_path / "c", cache, stop=iter([False] * 9 + [True] * 99).__next__).complete
    shutil.rmtree(tmp_path / "cache")
    assert run(tmp_path / "c", cache).complete


def test_parts_are_not_deleted_through_a_link(run, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "part-of-me.txt").write_text("x")
    run(tmp_path / "fret")
    shutil.rmtree(tmp_path / "fret" / "fret")
    (tmp_path / "fret" / "fret").symlink_to(tmp_path / "mine")
    with pytest.raises(ConfigError, match="fret: is a link, and parts are deleted there"):
        run(tmp_path / "fret")
    assert (tmp_path / "mine" / "part-of-me.txt").read_text() == "x"


def test_a_build_that_was_killed_in_its_first_write_goes_on(run, tmp_path):
    (tmp_path / "fret").mkdir()
    (tmp_path / "fret" / ".manifest.json.123-abcdef.tmp").write_text("{")
    assert run(tmp_path / "fret").complete


def test_no_surviving_query_names_the_reasons(run, tmp_path):
    with pytest.raises(DataError, match=r"none of the 40 attempts gave a query \(.*length \d+.*\)"):
        run(tmp_path / "fret", {"generate.min_words": 30})


def test_no_surviving_row_names_the_reasons(run, tmp_path):
    with pytest.raises(DataError, match=r"no row survived \(.*mine low_relevance \d+"):
        run(tmp_path / "fret", {"mine": {"min_relevance": 4.0}})


def test_empty_corpus_is_refused(run, tmp_path):
    with pytest.raises(DataError, match="corpus is empty"):
        run(tmp_path / "fret", corpus=Corpus([]))
    assert not (tmp_path / "fret").exists()


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
import sys, time
sys.path.insert(0, sys.argv[2])
import conftest, numpy
from gecko_fret.config import parse_config
from gecko_fret.models import Models
from gecko_fret.build.folder import Workspace
from gecko_fret.build.pipeline import build_fret
from build import test_pipeline
corpus = conftest.small_corpus.__wrapped__() if hasattr(conftest.small_corpus, "__wrapped__") else None
models = Models(llms={"fake": conftest.FakeLLM(on_call=lambda: time.sleep(0.02))}, embedder=conftest.FakeEmbedder())
print("ready", flush=True)
build_fret(parse_config(test_pipeline.SMALL), sys.argv[1], corpus=corpus, models=models)
"""


@pytest.mark.long
@pytest.mark.parametrize("kills", [2, pytest.param(50, marks=[pytest.mark.slow, pytest.mark.timeout(1800)])])
def test_killed_build_goes_on_to_the_same_bytes(run, tmp_path, kills):
    """SIGKILL at random moments of builds that go on after each: every output is that of a build left alone."""
    run(tmp_path / "whole")
    expected, here, builds = data_files(tmp_path / "whole"), str(Path(__file__).parents[1]), 0
    delays = np.random.default_rng(0)
    while kills:
        out = tmp_path / f"fret-{builds}"
        child = subprocess.Popen(
            [sys.executable, "-c", CHILD, str(out), here],
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
