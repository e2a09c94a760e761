"""Small builds with fake models; a corpus and a server's answers that fit: judges find what titles were taken from."""

import hashlib
import json
import re

import pytest

from gecko_fret.build.pipeline import build_fret
from gecko_fret.config import parse_config
from gecko_fret.corpus.passages import Corpus, Passage
from gecko_fret.models import Models


@pytest.fixture(scope="session")
def small():
    """The settings of a small build."""
    return {
        "llm": {"model": "fake"},
        "generate": {"seeds": 20, "attempts": 2, "part_size": 6, "max_copied": 1.0},
        "retrieve": {"candidates": 6, "part_size": 5},
        "corpus": {"part_size": 15},
        "mine": {"fuse": "rrf"},
    }


@pytest.fixture
def run(small, small_corpus, fake_llm, fake_embedder):
    """Runs a small build: run(out, changes=None, ...), where changes are by section or by section and name."""

    def run(out, changes=None, *, corpus=small_corpus, llm=None, **options):
        raw = json.loads(json.dumps(small))
        for key, value in (changes or {}).items():
            section, _, name = key.partition(".")
            if name or isinstance(value, dict):
                raw.setdefault(section, {}).update({name: value} if name else value)
            else:
                raw[section] = value
        models = Models(llms={"fake": llm or fake_llm()}, embedder=fake_embedder())
        return build_fret(parse_config(raw), out, corpus=corpus, models=models, **options)

    return run


@pytest.fixture(scope="session")
def data_files():
    """Reads the contents of everything that must be the same for the same inputs: data_files(out)."""

    def data_files(out):
        paths = sorted([*out.rglob("*.parquet"), *out.rglob("*.npy"), *out.rglob("report.*")])
        return {str(path.relative_to(out)): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}

    return data_files


@pytest.fixture(scope="session")
def corpus(small_corpus):
    """Titles of words that stand in their passages."""
    own = [[w for w in p.text.rstrip(".").split() if "word" in w] for p in small_corpus]
    return Corpus([Passage(p.id, " ".join(w[:3]), p.text) for p, w in zip(small_corpus, own, strict=True)], "small")


@pytest.fixture
def says():
    """A query of the passage's own words, or yes where one of the query's words is in the passage."""

    def says(body):
        asked = body["messages"][-1]["content"]
        words = re.findall(r"\w+word\w+", asked)
        if "relevant" not in asked:
            return f"what about {' '.join(words[:4])}"
        passage, _, query = asked.partition("Query:")
        return "Yes" if set(re.findall(r"\w+", passage)) & set(re.findall(r"\w+word\w+", query)) else "No"

    return says


@pytest.fixture
def local(server, says):
    """Section ``llm`` of the server."""
    server.says = says
    return {"backend": "openai", "model": "tiny", "url": server.url, "timeout_s": 5, "retry_pause_s": 0.01}
