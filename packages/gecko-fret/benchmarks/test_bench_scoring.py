"""Scoring with the shipped prompts against the naive way: full prompt per pair, padded batch, all logits.

    uv run pytest packages/gecko-fret/benchmarks --benchmark-only

Both ways score the same pairs with the packaged LLM; the ratio of the two means is the gain.
"""

import random

import pytest
import torch

from gecko_fret.corpus import python_docs
from gecko_fret.llm import load_llm
from gecko_fret.llm.config import LLMConfig
from gecko_fret.prompting import load_prompts, prompt_text

pytest.importorskip("gguf")
PAIRS = 32


@pytest.fixture(scope="module")
def llm():
    return load_llm(LLMConfig())


@pytest.fixture(scope="module")
def pairs(llm):
    """(kind, passage, query) of the kinds in turn, passages cut to 128 tokens."""
    passages = random.Random(0).sample(list(python_docs()), PAIRS)
    kinds = load_prompts("default").kinds
    texts = llm.truncate([prompt_text(passage) for passage in passages], 128)
    return [(kinds[i % len(kinds)], text, "how are elements of a list put in order") for i, text in enumerate(texts)]


def shared(llm, prompts, pairs):
    likelihoods = llm.score([prompts.likelihood(*pair) for pair in pairs])
    labels = llm.score(
        [prompts.classification(text, query) for _, text, query in pairs], prompts.label_strings("separate")
    )
    return [row.logprob for row in likelihoods], [row.labels for row in labels]


def joint(llm, prompts, pairs):
    requests = [prompts.joint_scoring(text, query) for _, text, query in pairs]
    return llm.score(requests, prompts.label_strings("joint"))


@torch.inference_mode()
def naive(llm, prompts, pairs, batch=8):
    """Every prompt in full, padded to the longest of its batch, logits of every position, in the model's own dtype.

    With the attention that transformers chooses.
    """
    model, segments = llm._decoder._model, llm._segments
    attention = model.config._attn_implementation
    model.set_attn_implementation("sdpa")
    tokens = segments.labels(prompts.label_strings("separate"))
    likelihoods, labels = [], []
    for start in range(0, len(pairs), batch):
        chunk = pairs[start : start + batch]
        for rows, wanted in (
            (segments.score([prompts.likelihood(*pair) for pair in chunk]), likelihoods),
            (segments.score([prompts.classification(t, q) for _, t, q in chunk], tokens.lead), labels),
        ):
            width = max(len(row.ids) for row in rows)
            ids = torch.tensor([row.ids + [0] * (width - len(row.ids)) for row in rows])
            mask = torch.tensor([[1] * len(row.ids) + [0] * (width - len(row.ids)) for row in rows])
            logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits.float()
            for place, row in enumerate(rows):
                if row.end > row.start:
                    logprobs = logits[place, row.start - 1 : row.end - 1].log_softmax(-1)
                    targets = torch.tensor(row.ids[row.start : row.end])
                    wanted.append(logprobs.gather(1, targets[:, None]).mean().item())
                else:
                    wanted.append(tuple(logits[place, len(row.ids) - 1, tokens.ids].softmax(-1).tolist()))
    model.set_attn_implementation(attention)
    return likelihoods, labels


@pytest.mark.parametrize("way", [naive, shared, joint], ids=["naive", "shared prefix", "joint"])
def test_scoring(benchmark, llm, pairs, way):
    prompts = load_prompts("default")
    shared(llm, prompts, pairs[:2])  # prefixes and kernels are warm
    result = benchmark.pedantic(way, args=(llm, prompts, pairs), rounds=2, iterations=1)
    benchmark.extra_info["pairs_per_second"] = round(PAIRS / benchmark.stats["mean"], 2)
    if way is shared:
        expected = naive(llm, prompts, pairs)
        assert result[0] == pytest.approx(expected[0], abs=0.1)
