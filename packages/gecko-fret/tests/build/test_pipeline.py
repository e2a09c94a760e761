import json
import re
import shutil
from collections import Counter

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gecko_core.errors import ConfigError, DataError, GeckoError
from gecko_core.io import read_json
from gecko_fret import load_fret
from gecko_fret.corpus.passages import Corpus, Passage


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


def test_same_configuration_gives_the_same_bytes(run, tmp_path, data_files):
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


def test_datasets_reads_every_folder(run, tmp_path, every_source, titled):
    """The library reads no maps; candidates had their scores in one."""
    datasets = pytest.importorskip("datasets")
    out = tmp_path / "fret"
    run(out, every_source | {"mine.fuse": "calibrated"}, corpus=titled)
    folders = {path.parent for path in out.glob("*/part-*.parquet")}
    assert {"measured", "scored", "fret"} <= {folder.name for folder in folders}
    read = {}
    for folder in folders:
        files = sorted(map(str, folder.glob("part-*.parquet")))
        kept = str(tmp_path / "cache" / folder.name)
        read[folder.name] = datasets.load_dataset("parquet", data_files=files, split="train", cache_dir=kept)
        assert len(read[folder.name]) == sum(pq.read_metadata(file).num_rows for file in files)
    for ours, row in zip(load_fret(out), read["fret"], strict=True):
        assert ours.id == row["id"]
        scores = row["candidates"][0]["scores"]
        assert ours.candidates[0].scores == {judge: score for judge, score in scores.items() if score is not None}


def test_sources_stop_resume_and_change_like_everything_else(run, tmp_path, every_source, data_files):
    run(tmp_path / "whole", every_source)
    asked = []

    def stop():
        asked.append(1)
        return len(asked) > 5

    assert not run(tmp_path / "fret", every_source, stop=stop).complete
    assert run(tmp_path / "fret", every_source).complete
    assert data_files(tmp_path / "fret") == data_files(tmp_path / "whole")
    (tmp_path / "mine.txt").write_text("quite other words\n")
    with pytest.raises(ConfigError, match=r"settings of 'generate' have changed .*\(no value of them, but a file or a"):
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


def test_a_folder_goes_on_with_the_rules_of_text_that_it_was_begun_with(run, tmp_path, data_files):
    def of_version_0_1(out):
        manifest = read_json(out / "manifest.json", checksum="sha256")
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
    assert rules(tmp_path / "new") == 3


def test_a_build_that_cannot_begin_leaves_nothing(run, tmp_path):
    with pytest.raises(DataError, match="no such evaluation set"):
        run(tmp_path / "fret", {"mine": {"decontaminate": [str(tmp_path / "absent")]}})
    with pytest.raises(ConfigError, match=r"generate.kinds: 'poetry' is not in the prompts"):
        run(tmp_path / "fret", {"generate.kinds": {"poetry": 1}})
    assert not list(tmp_path.iterdir())
    (tmp_path / "file").write_text("x")
    with pytest.raises(GeckoError, match="Not a directory"):
        run(tmp_path / "file" / "fret")


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
    with pytest.raises(DataError, match=r"none of the 40 attempts gave a query \(.*length \d+.*\); .* a larger llm"):
        run(tmp_path / "fret", {"generate.min_words": 30})
    with pytest.raises(DataError, match=r"none of the \d+ texts gave a query \(.*\); .* try other sources"):
        run(tmp_path / "titles", {"generate.min_words": 30, "generate.sources": ["titles", "sentences"]})


def test_empty_corpus_is_refused(run, tmp_path):
    with pytest.raises(DataError, match="corpus is empty"):
        run(tmp_path / "fret", corpus=Corpus([]))
    assert not (tmp_path / "fret").exists()
