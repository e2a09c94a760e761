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


@pytest.fixture
def random_model(word_tokenizer):
    """Makes a small causal language model of a family of transformers', with random weights that differ a lot."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    small = {
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "max_position_embeddings": 512,
        "initializer_range": 0.5,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 0,
    }

    def random_model(family, attention="sdpa", **settings):
        torch.manual_seed(0)
        config = AutoConfig.for_model(family, vocab_size=len(word_tokenizer), **(small | settings))
        try:
            return AutoModelForCausalLM.from_config(config, attn_implementation=attention).eval()
        except ValueError as error:  # Gemma 2 from transformers 5.24 on: it caps logits, which fused attention cannot
            if "scaled_dot_product_attention" not in str(error):
                raise
            pytest.skip(f"{family} has no fused attention in this version of transformers")

    return random_model
