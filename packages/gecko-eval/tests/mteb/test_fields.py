"""Document-level vectors in an evaluation: rankings by the formula, results apart, coverage told."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gecko_core.errors import ConfigError, DataError
from gecko_eval.baselines import Bm25
from gecko_eval.data.beir import load_beir
from gecko_eval.mteb.entries import entries_for
from gecko_eval.mteb.fields import FieldsEmbedder, with_fields
from gecko_eval.mteb.local import from_retrieval_set
from gecko_eval.mteb.run import run_tasks
from gecko_eval.results import load_results

WEIGHTS = {"title": 0.5, "chunks": 0.1, "queries": 1.0}


@pytest.fixture
def make_fret(tmp_path):
    """Writes a FRet folder of passages and (passage id, query)."""

    def make(passages, queries, name="fret"):
        text = [(column, pa.string()) for column in ("id", "title", "text")]
        rows = [{"id": f"{n}", "query": q, "seed_id": i, "positive_id": i} for n, (i, q) in enumerate(queries)]
        other = [(column, pa.string()) for column in ("id", "query", "seed_id", "positive_id")]
        for step, schema, of_step in (("corpus", text, passages), ("generated", other, rows), ("fret", other, rows)):
            path = tmp_path / name / step / "part-00000.parquet"
            path.parent.mkdir(parents=True)
            pq.write_table(pa.Table.from_pylist(of_step, schema=pa.schema(schema)), path)
        (tmp_path / name / "manifest.json").write_text(json.dumps({"complete": True}))
        return tmp_path / name

    return make


@pytest.fixture
def set_of(beir_folder):
    return load_beir(beir_folder, unjudged="drop")


def passages_of(data):
    return [
        {"id": i, "title": t or None, "text": d} for i, t, d in zip(data.doc_ids, data.titles, data.docs, strict=True)
    ]


def evaluated(embedder, beir_folder, out, dims=(64, 16), **options):
    data = load_beir(beir_folder, unjudged="drop")
    entries = entries_for([], None, [from_retrieval_set(data, beir_folder)])
    return run_tasks(embedder, entries, dims, out, say=lambda line: None, **options)["tasks"]["toy"]


def test_rankings_are_those_of_the_formula(embedder, set_of, beir_folder, make_fret, tmp_path):
    data = set_of
    queries = [(data.doc_ids[row], f"{data.docs[row].split()[0]} query {row}") for row in range(0, 60, 2)]
    queries += [(data.doc_ids[3], "another of three"), (data.doc_ids[3], "third of three")]
    run = make_fret(passages_of(data), queries)
    fielded = with_fields(embedder, run, "published", "answered")
    outcome = evaluated(fielded, beir_folder, tmp_path / "out", rankings=True)
    model = embedder.model
    for dim in (64, 16):

        def of(texts, titles=None, dim=dim):
            full = model.encode(model.format_documents(texts, titles)).astype(np.float64)[:, :dim]
            return full / np.linalg.norm(full, axis=1, keepdims=True)

        chunks, titles = of(list(data.docs), list(data.titles)), [t or "" for t in data.titles]
        kept = 1.1 * chunks
        kept += 0.5 * np.where(np.array([bool(t) for t in titles])[:, None], of([t or "none" for t in titles]), chunks)
        for row, name in enumerate(data.doc_ids):
            written = [query for identifier, query in queries if identifier == name]
            kept[row] += of(written).mean(0) if written else chunks[row]
        asked = model.encode_queries(list(data.queries)).astype(np.float64)[:, :dim]
        asked /= np.linalg.norm(asked, axis=1, keepdims=True)
        scores = asked @ kept.T
        lines = (tmp_path / "out" / "rankings" / f"toy@{dim}.trec").read_text().splitlines()
        for number, query in enumerate(data.query_ids):
            ranked = [line.split() for line in lines if line.split()[0] == query]
            assert [row[2] for row in ranked[:10]] == [data.doc_ids[i] for i in np.argsort(-scores[number])[:10]]
            np.testing.assert_allclose([float(row[4]) for row in ranked[:10]], np.sort(scores[number])[::-1][:10], 1e-5)
    assert outcome.get("notes", []) == []


def test_documents_are_ranked_by_their_best_chunk(embedder, set_of, beir_folder, make_fret, tmp_path):
    data = set_of
    passages = passages_of(data)[1:]
    words = data.docs[0].split()
    passages += [
        {"id": "d0#0", "title": None, "text": "zebra yak walrus"},
        {"id": "d0#1", "title": None, "text": " ".join(words[:4])},  # what q0 asks for, word for word
    ]
    run = make_fret(passages, [("d1", "any")])
    fielded = with_fields(embedder, run, "queries=0", "answered")
    outcome = evaluated(fielded, beir_folder, tmp_path / "out", dims=(64,), rankings=True)
    ranked = [
        line.split()
        for line in (tmp_path / "out" / "rankings" / "toy@64.trec").read_text().splitlines()
        if "q0 " in line
    ]
    assert (ranked[0][2], round(float(ranked[0][4]), 4)) == ("d0", 1.0)
    assert len({row[2] for row in ranked}) == len(ranked) == 60
    assert "scores" in outcome


def test_results_are_apart_and_texts_are_encoded_once(embedder, set_of, beir_folder, make_fret, tmp_path):
    run = make_fret(passages_of(set_of), [("d0", "one query")])
    cache = tmp_path / "cache"
    plain = evaluated(embedder, beir_folder, tmp_path / "plain", cache_folder=cache)
    before = embedder.model.texts_encoded
    fielded = with_fields(embedder, run, "title=0,queries=0.5", "answered")
    with_them = evaluated(fielded, beir_folder, tmp_path / "fields", cache_folder=cache)
    # The titles of half of the documents, and the query; the tokens of the documents themselves are known.
    assert embedder.model.texts_encoded - before == 30 + 1
    assert fielded.key != embedder.key
    assert with_them["scores"]["64"]["main"] != plain["scores"]["64"]["main"]
    assert load_results(tmp_path / "fields")["model"]["record"]["fields"]["weights"] == "title=0,chunks=0,queries=0.5"
    with pytest.raises(ConfigError, match=r"holds results of words, not of words\+fields"):
        evaluated(fielded, beir_folder, tmp_path / "plain")
    none = with_fields(embedder, run, "queries=0", "answered")
    assert evaluated(none, beir_folder, tmp_path / "none")["scores"]["64"]["main"] == plain["scores"]["64"]["main"]


def test_coverage_is_told(embedder, set_of, beir_folder, make_fret, tmp_path):
    half = make_fret(passages_of(set_of)[:30], [("d0", "one query")])
    outcome = evaluated(with_fields(embedder, half, "published", "all"), beir_folder, tmp_path / "half")
    assert outcome["notes"] == ["30 of 60 documents have fields; the others go by their text"]
    other = make_fret([{"id": "x", "title": None, "text": "y"}], [("x", "q")], "other")
    outcome = evaluated(with_fields(embedder, other, "published", "all"), beir_folder, tmp_path / "other")
    assert "toy: none of its 60 documents is in" in outcome["error"]


def test_fields_of_another_corpus_with_the_same_ids_are_refused(embedder, set_of, beir_folder, make_fret, tmp_path):
    """Numbers as ids are those of many corpora."""
    mine = passages_of(set_of)
    others = [passage | {"text": f"something else {n}"} for n, passage in enumerate(mine)]
    run = make_fret(others, [("d0", "one query")])
    outcome = evaluated(with_fields(embedder, run, "published", "all"), beir_folder, tmp_path / "out")
    message = f"toy: 60 of 60 documents have other texts in {run}; build that folder of the set's own corpus"
    assert outcome["error"] == message
    spaced = [passage | {"text": f"  {passage['text']}\n".replace(" ", "  ")} for passage in mine]
    run = make_fret([*others[:7], *spaced[7:]], [("d0", "one query")], "few")
    outcome = evaluated(with_fields(embedder, run, "published", "all"), beir_folder, tmp_path / "few")
    assert outcome["notes"] == [f"7 of 60 documents have other texts in {run}"]


def test_tasks_without_documents_are_skipped(embedder, set_of, data_root, make_fret, tmp_path):
    run = make_fret(passages_of(set_of), [("d0", "one query")])
    fielded = with_fields(embedder, run, "published", "answered")
    results = run_tasks(
        fielded, entries_for(["topics", "similar"], data_root), (64,), tmp_path / "out", say=lambda l: None
    )
    assert all("fields are those of a corpus' documents" in task["skipped"] for task in results["tasks"].values())


def test_what_cannot_be_used_is_one_line(embedder, tmp_path):
    with pytest.raises(ConfigError, match="bm25 has no vectors to add"):
        with_fields(Bm25(), tmp_path, "published", "answered")
    with pytest.raises(DataError, match="not a FRet folder"):
        with_fields(embedder, tmp_path, "published", "answered")
    assert not isinstance(embedder, FieldsEmbedder)
