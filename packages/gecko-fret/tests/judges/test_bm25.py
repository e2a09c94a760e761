import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from gecko_core.errors import ConfigError, ModelError
from gecko_fret.config import parse_config
from gecko_fret.judges import Bm25, Pair
from gecko_fret.prompting import prompt_text

bm25s = pytest.importorskip("bm25s")


@pytest.mark.parametrize("settings", [{}, {"k1": 0.9, "b": 0.4}, {"stop_words": None}, {"stop_words": "de"}])
def test_passages_of_the_corpus_score_as_bm25s_scores_them(judge, python_docs_corpus, settings):
    corpus = python_docs_corpus.subset(python_docs_corpus.ids[::25])
    query = "how are the files of a folder copied and the copies named"
    values, _ = judge("bm25", [Pair("q", "", query, p, 0.0) for p in corpus], {"bm25": settings}, corpus=corpus)
    options = {"stopwords": settings.get("stop_words", "en"), "show_progress": False}
    index = bm25s.BM25(method="lucene", k1=settings.get("k1", 1.2), b=settings.get("b", 0.75), dtype="float64")
    index.index(bm25s.tokenize([prompt_text(p) for p in corpus], **options), show_progress=False)
    expected = index.get_scores(bm25s.tokenize([query], return_ids=False, **options)[0])
    assert np.count_nonzero(expected) > 10
    np.testing.assert_allclose(values, expected, rtol=1e-9)


def test_a_passage_is_scored_as_it_is_shown(judge, pairs, corpus):
    (pair,) = pairs("sourdough", ["bread"])
    bare = replace(pair, passage=replace(pair.passage, title=None))
    other = replace(pair, passage=replace(pair.passage, title=None, text="No such word."))
    (full, short, none), _ = judge("bm25", [pair, bare, other])
    assert full > short > none == 0.0


def test_words_that_few_passages_have_count_for_more(judge, pairs):
    (rare,), _ = judge("bm25", pairs("yeast", ["yeast"]))
    (common,), _ = judge("bm25", pairs("bread", ["yeast"]))
    assert rare > common > 0


def test_what_it_needs_is_one_line(monkeypatch):
    config = parse_config({"score": {"judges": ["bm25"], "bm25": {"stop_words": "tlh"}}})
    with pytest.raises(ConfigError, match=r"score.bm25.stop_words: bm25s knows no language 'tlh'; use another"):
        Bm25.check(config)
    monkeypatch.setitem(sys.modules, "bm25s", None)
    with pytest.raises(ModelError, match=r"pip install 'gecko-fret\[bm25\]'"):
        Bm25.check(config)


def test_words_are_split_without_jax(tmp_path):
    """bm25s would call JAX where there is one, which takes most of a GPU's memory."""
    (tmp_path / "jax").mkdir()
    (tmp_path / "jax" / "__init__.py").write_text("raise SystemExit('jax was imported')\n")
    code = (
        "from gecko_fret.judges.bm25 import split_words; from gecko_fret.config import parse_config; "
        "print(split_words(['Small geckos'], parse_config({}).score.bm25))"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False)
    assert done.stdout.strip() == "[['small', 'geckos']]", done.stderr
