"""Enriched texts in an evaluation: what is encoded, results apart, the share told."""

import json
from hashlib import sha256

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gecko_core.enriched import EnrichedTexts
from gecko_core.errors import ConfigError, DataError
from gecko_eval.baselines import Bm25
from gecko_eval.data.beir import load_beir
from gecko_eval.mteb.enriched import EnrichedEmbedder, with_enriched
from gecko_eval.mteb.entries import entries_for
from gecko_eval.mteb.local import from_retrieval_set
from gecko_eval.mteb.run import run_tasks


@pytest.fixture
def make_folder(tmp_path):
    def make(pairs, name="enriched"):
        path = tmp_path / name / "enriched" / "part-00000.parquet"
        path.parent.mkdir(parents=True)
        pq.write_table(pa.table({"text": list(pairs), "enriched": list(pairs.values())}), path)
        part = {"rows": len(pairs), "sha256": sha256(path.read_bytes()).hexdigest()}
        manifest = {"stages": {"enrich": {"done": True}}, "parts": {f"enriched/{path.name}": part}}
        (tmp_path / name / "manifest.json").write_text(json.dumps(manifest))
        return tmp_path / name

    return make


def evaluated(embedder, beir_folder, out):
    data = load_beir(beir_folder, unjudged="drop")
    entries = entries_for([], None, [from_retrieval_set(data, beir_folder)])
    return run_tasks(embedder, entries, (64,), out, say=lambda line: None)["tasks"]["toy"]


def test_documents_and_queries_are_read_enriched(embedder, beir_folder, make_folder, tmp_path):
    data = load_beir(beir_folder, unjudged="drop")
    words = {name: f"unique{name}" for name in data.query_ids}
    relevant = {max(told, key=told.get): name for name, told in data.qrels.items()}
    texts = dict(zip(data.doc_ids, data.docs, strict=True))
    documents = make_folder({texts[doc]: " ".join([words[query]] * 3) for doc, query in relevant.items()}, "documents")
    queries = make_folder(
        {text: words[name] for name, text in zip(data.query_ids, data.queries, strict=True)}, "queries"
    )
    plain = evaluated(embedder, beir_folder, tmp_path / "plain")
    outcome = evaluated(with_enriched(embedder, [documents, queries]), beir_folder, tmp_path / "both")
    # Every query and its best document have a word of their own: the document with grade 2 comes first everywhere.
    assert outcome["scores"]["64"]["splits"]["test"][0]["mrr_at_1"] == 1.0
    assert outcome["scores"]["64"]["main"] > plain["scores"]["64"]["main"]
    assert outcome["notes"] == ["33% of the texts are enriched"]  # 12 of 60 documents and 12 queries
    with pytest.raises(ConfigError, match=r"holds results of words, not of words\+enriched"):
        evaluated(with_enriched(embedder, [documents]), beir_folder, tmp_path / "plain")


def test_titles_stay_and_other_texts_too(embedder):
    class Task:
        name, type = "toy", "Retrieval"

    enriched = EnrichedEmbedder(embedder, EnrichedTexts({"a b": "c"}))
    assert enriched.with_prompts(["a  b", "d"], ["title", ""], Task, "document") == embedder.with_prompts(
        ["c", "d"], ["title", ""], Task, "document"
    )
    assert enriched.take_notes() == ["50% of the texts are enriched"]
    assert enriched.take_notes() == []
    assert enriched.key not in (embedder.key, EnrichedEmbedder(embedder, EnrichedTexts({"a b": "d"})).key)


def test_labelled_texts_are_read_enriched(embedder, data_root, make_folder, tmp_path):
    rows = [json.loads(line) for line in (data_root / "topics" / "test.jsonl").read_text().splitlines()]
    rows += [json.loads(line) for line in (data_root / "topics" / "train.jsonl").read_text().splitlines()]
    folder = make_folder({row["text"]: f"label {row['label']}" for row in rows})
    results = run_tasks(
        with_enriched(embedder, [folder]),
        entries_for(["topics"], data_root),
        (64,),
        tmp_path / "o",
        say=lambda line: None,
    )
    assert results["tasks"]["topics"]["scores"]["64"]["main"] == 1.0


def test_what_cannot_be_used_is_one_line(embedder, tmp_path):
    with pytest.raises(ConfigError, match="bm25 has no vectors of texts"):
        with_enriched(Bm25(), [tmp_path])
    with pytest.raises(DataError, match="not a FRet folder"):
        with_enriched(embedder, [tmp_path])
