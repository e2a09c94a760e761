"""Families of models whose tokens see more than a mask says, against the whole prompt in one pass without a cache."""

import math

import pytest
import torch

from gecko_core.errors import ModelError
from gecko_fret.llm.protocol import Sampling, ScoreRequest, WriteRequest
from gecko_fret.llm.transformers import TransformersLLM

LINEAR = {
    "linear_num_value_heads": 2,
    "linear_num_key_heads": 2,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
    "head_dim": 8,
}
FAMILIES = {
    "bloom": {"n_layer": 2, "n_head": 4},
    "mpt": {"d_model": 32, "n_layers": 2, "n_heads": 4, "max_seq_len": 256},
    "mistral": {"sliding_window": 8},
    "cohere2": {"sliding_window": 8, "logit_scale": 0.0625},
    "granite": {"logits_scaling": 8.0},
    "llama4_text": {
        "num_local_experts": 2,
        "num_experts_per_tok": 1,
        "attention_chunk_size": 8,
        "head_dim": 8,
        "intermediate_size_mlp": 48,
    },
    "lfm2": {"layer_types": ["conv", "full_attention", "conv", "full_attention"]},
    "qwen3_next": {
        **LINEAR,
        "num_experts": 4,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 16,
        "shared_expert_intermediate_size": 16,
    },
    "mamba2": {"num_heads": 8, "head_dim": 8, "state_size": 8, "n_groups": 2, "expand": 2},
}
RECURRENT = {"lfm2", "qwen3_next", "mamba2"}
EAGER = {"bloom", "mpt", "mamba2"}
PREFIXES = ["Passage: a cat sat on the mat.\nQuery: where is the cat\n\n", "Passage: the dog.\n\n", ""]


@pytest.fixture
def backend(random_model, word_tokenizer):
    """Makes a model and the LLM that it is; what is refused is refused because of the version of transformers."""

    def backend(family):
        attention = "eager" if family in EAGER else "sdpa"
        model = random_model(family, attention, **{"num_hidden_layers": 4} | FAMILIES[family])
        limits = {"batch_tokens": 4096, "batch_rows": 64}
        try:
            llm = TransformersLLM(model, word_tokenizer, name="tiny", fingerprint="t", **limits)
        except ModelError as error:
            assert family in RECURRENT
            pytest.skip(str(error))
        assert llm._decoder.recurrent == (family in RECURRENT)
        return model, llm

    return backend


def ids_of(tokenizer, *parts):
    first, *others = (tokenizer(part, add_special_tokens=number == 0)["input_ids"] for number, part in enumerate(parts))
    return sum(others, first)


@pytest.mark.parametrize("family", FAMILIES)
def test_scores_are_those_of_the_whole_prompt(family, backend, word_tokenizer):
    model, llm = backend(family)
    rows = [("Passage: the cat sat.\nQuery:", " what is a cat"), ("Query:", " where"), ("the mat:", " ran far the dog")]
    requests = [ScoreRequest(prefix, context, text) for prefix in PREFIXES for context, text in rows]
    one_by_one, in_blocks = (llm.score(requests, blocks=blocks) for blocks in (False, True))
    for request, *scored in zip(requests, one_by_one, in_blocks, strict=True):
        before = ids_of(word_tokenizer, request.prefix, request.context)
        whole = ids_of(word_tokenizer, request.prefix, request.context, request.continuation)
        with torch.no_grad():
            logprobs = model(torch.tensor([whole]), use_cache=False).logits[0].float().log_softmax(-1)
        wanted = [logprobs[place - 1, whole[place]].item() for place in range(len(before), len(whole))]
        assert [each.logprob for each in scored] == pytest.approx([sum(wanted) / len(wanted)] * 2, abs=1e-3)


@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_written_does_not_depend_on_the_rows_beside_it(family, backend, word_tokenizer):
    """Rows of different lengths are padded: behind a prefix, which some models count as distance or as text."""
    model, llm = backend(family)
    bodies = [" the cat", " the dog sat", " a cat sat on the mat where the dog ran"]
    requests = [WriteRequest(prefix, body, 0) for prefix, body in zip(PREFIXES, bodies, strict=True)]
    sampling = Sampling(max_new_tokens=10, temperature=0.0, stop=())
    for request, completion in zip(requests, llm.generate(requests, sampling), strict=True):
        ids, written = ids_of(word_tokenizer, request.prefix, request.body), []
        for _ in range(10):
            with torch.no_grad():
                logits = model(torch.tensor([ids + written]), use_cache=False).logits[0, -1]
            written.append(int(logits.argmax()))
            if written[-1] == 2:
                break
        assert completion.text == word_tokenizer.decode(written[:-1] if written[-1] == 2 else written)
        assert completion.tokens == len(written)
        assert math.isfinite(completion.logprob)
