"""A corpus and a server's answers that belong together: judges find what titles were taken from."""

import re

import pytest

from gecko_fret.corpus.passages import Corpus, Passage


@pytest.fixture
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
