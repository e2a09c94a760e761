"""Clients of the server on this machine, see ../conftest.py."""

import pytest

from gecko_fret.llm.capabilities import Capabilities
from gecko_fret.llm.config import LLMConfig
from gecko_fret.llm.segments import SegmentTokenizer

#: What the server can do over its completions API unless a test takes something away.
COMPLETIONS = Capabilities("completions", echo=True, alternatives=20, logprobs=True)
CHAT = Capabilities("chat", alternatives=20, logprobs=True)


@pytest.fixture
def settings(server):
    """Makes the configuration of a client of the server."""

    def settings(**given):
        options = {"retry_pause_s": 0.01, "timeout_s": 5, "concurrency": 3} | given
        return LLMConfig(**{"backend": "openai", "model": "tiny", "url": server.url} | options)

    return settings


@pytest.fixture
def connect(settings, word_tokenizer):
    """Connects the backend; ``can``: what it knows of the server, None: it has to ask."""
    from gecko_fret.llm.openai import OpenAILLM

    made = []

    def connect(tokenizer=True, can=COMPLETIONS, **given):
        tokens = SegmentTokenizer(word_tokenizer, "tiny") if tokenizer else None
        made.append(OpenAILLM(settings(**given), tokens, can))
        return made[-1]

    yield connect
    for llm in made:
        llm.close()


@pytest.fixture
def chat():
    """What the server can do over its chat API unless a test takes something away."""
    return CHAT


@pytest.fixture
def completions():
    """The same of its completions API."""
    return COMPLETIONS


@pytest.fixture
def reference(tiny_model, word_tokenizer):
    from gecko_fret.llm.transformers import TransformersLLM

    return TransformersLLM(tiny_model, word_tokenizer, name="t", fingerprint="t", batch_tokens=4096, batch_rows=64)
