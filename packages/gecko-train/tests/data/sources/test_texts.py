import json

import numpy as np
import pytest
import torch

from gecko_core.errors import ConfigError, DataError
from gecko_core.text_identity import text_id
from gecko_fret.corpus import Corpus, Passage
from gecko_train.config import SetConfig
from gecko_train.data.rows import Document
from gecko_train.data.sources.base import SourceContext
from gecko_train.data.sources.registry import load_set
from gecko_train.data.sources.texts import Texts
from gecko_train.data.teacher import TeacherVectors

CORPUS = Corpus(
    [
        Passage("a", "a bank of dort", "Bank dort lims sonk. Mull bart prank ties. Short one."),
        Passage("b", None, "Lims dort bank mull. Bank dort lims sonk."),
        Passage("c", "prank of kell", "Sonk bart kell mull."),
    ]
)


def load(options=None, **context):
    return load_set(SetConfig(source="texts", options=options or {}), SourceContext(CORPUS, **context))


def test_passages_titles_and_sentences_are_texts_of_their_own():
    rows = list(load())
    assert [row.documents[0] for row in rows[:3]] == [Document(p.text, p.title) for p in CORPUS]
    assert all(row.query is None and not row.answered for row in rows[:3])
    assert [row.query for row in rows[3:]] == [
        "a bank of dort", "prank of kell", "Bank dort lims sonk.", "Mull bart prank ties.", "Lims dort bank mull.",
        "Sonk bart kell mull.",
    ]  # fmt: skip
    assert all(row.documents == () for row in rows[3:])
    assert len({row.query_id for row in rows}) == len({row.positive_id for row in rows}) == len(rows)


def test_texts_that_are_set_apart_as_queries_are_left_out():
    apart = frozenset([text_id("prank of KELL"), text_id("Lims dort bank mull.")])
    assert len(list(load(held_out=apart))) == len(list(load())) - 2


def test_queries_of_the_users_own(tmp_path):
    (tmp_path / "log.txt").write_text("kell\n\nwhat is a bank \n")
    rows = list(load({"kinds": ["queries"], "queries": str(tmp_path / "log.txt")}))
    assert [row.query for row in rows] == ["kell", "what is a bank"]
    (tmp_path / "log.jsonl").write_text("".join(json.dumps({"query": f"q  {n}"}) + "\n" for n in range(2)))
    rows = list(load({"kinds": ["queries"], "queries": str(tmp_path / "log.jsonl")}))
    assert [row.query for row in rows] == ["q 0", "q 1"]
    assert {row.query for row in load({"queries": str(tmp_path / "log.txt")})} >= {"kell", "what is a bank"}
    with pytest.raises(
        ConfigError, match="is given a file of queries, and its kinds name none; add queries to the kinds"
    ):
        load({"kinds": ["passages"], "queries": str(tmp_path / "log.txt")})
    with pytest.raises(ConfigError, match=r"give their file in the options \(queries: FILE\)"):
        load({"kinds": ["queries"]})
    with pytest.raises(ConfigError, match="source 'texts' without a path and without a corpus"):
        load_set(SetConfig(source="texts"), SourceContext())


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("bad.jsonl", '{"question": "x"}\n', r"bad\.jsonl:1: no text in 'query' or 'text'"),
        ("blank.jsonl", '{"query": " ", "text": "a passage"}\n', r"blank\.jsonl:1: no text in 'query'"),
        ("empty.txt", "\n", r"empty\.txt: holds no query; write one a line"),
        ("log.ndjson", '{"query": "x"}\n', r"log\.ndjson: queries are not read from '\.ndjson'"),
    ],
)
def test_a_file_that_holds_no_queries_is_refused_before_training(tmp_path, name, content, message):
    (tmp_path / name).write_text(content)
    config = SetConfig(source="texts", options={"kinds": ["passages", "queries"], "queries": str(tmp_path / name)})
    with pytest.raises(DataError, match=message):
        load_set(config, SourceContext(CORPUS))
    with pytest.raises(DataError, match=message):
        Texts().check(config)


@pytest.fixture
def teacher(tiny_backbone, tmp_path):
    from gecko_core import Gecko

    model = Gecko.from_backbone(tiny_backbone, dims=(32,), device="cpu", dtype=torch.float32)
    return TeacherVectors(model, tmp_path / "vectors")


def test_blocks_are_made_of_the_passages_that_the_teacher_finds(teacher):
    config = SetConfig(source="texts", task="t", options={"kinds": ["sentences"], "candidates": 2}, blocks={})
    blocks = load_set(config, SourceContext(CORPUS, teacher=teacher))
    assert len(blocks) == 4
    passages = [Document(passage.text, passage.title) for passage in CORPUS]
    documents = teacher.model.encode_documents([d.text for d in passages], [d.title for d in passages])
    for row in blocks.rows(range(4)):
        similarities = documents @ teacher.model.encode_queries([row.query], "t")[0]
        best = np.argsort(-similarities)[:2]
        assert row.documents == tuple(passages[place] for place in best)
        np.testing.assert_allclose(row.scores, similarities[best] / 0.05, atol=2e-2)


def test_blocks_need_a_teacher_and_queries(teacher, monkeypatch):
    config = SetConfig(source="texts", blocks={})
    with pytest.raises(ConfigError, match="are the teacher's neighbours; name a `teacher` in the stage"):
        load_set(config, SourceContext(CORPUS))
    only = SetConfig(source="texts", blocks={}, options={"kinds": ["passages"]})
    with pytest.raises(DataError, match=r"no sentences, titles or queries; add them to the options"):
        load_set(only, SourceContext(CORPUS, teacher=teacher))
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match="start the same command once without torchrun"):
        load_set(config, SourceContext(CORPUS, teacher=teacher))


def test_a_source_without_candidates_makes_no_blocks(tmp_path):
    with pytest.raises(ConfigError, match="source 'title-body' has no candidates to make blocks of"):
        load_set(SetConfig(source="title-body", blocks={}), SourceContext(CORPUS))
