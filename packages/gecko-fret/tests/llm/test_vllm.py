"""The vllm backend's use of the engine, against one that answers in vLLM's shapes from a tiny model.

The real engine, which needs an environment of its own, is compared in benchmarks/three_backends.py.
"""

import sys
from types import ModuleType, SimpleNamespace

import pytest
import torch

from gecko_core.errors import ModelError
from gecko_fret.llm.config import LLMConfig
from gecko_fret.llm.protocol import LLM, Sampling, ScoreRequest, WriteRequest
from gecko_fret.llm.transformers import TransformersLLM
from gecko_fret.llm.vllm import VllmLLM

PREFIX = "Passage: a cat sat on the mat.\nQuery: where is the cat\n\n"
REQUESTS = [
    ScoreRequest(PREFIX, "Passage: the dog ran far.\nQuery:", " what ran", "\nRelevance:"),
    ScoreRequest(PREFIX, "Passage: a cat.\nQuery:", " where is the dog", "\nRelevance:"),
]
LABELS = [" 0", " 1", " 2", " 3", " 4"]


class Engine:
    """vLLM's offline engine as far as the backend knows it."""

    def __init__(self, model, tokenizer):
        self.model, self.tokenizer, self.calls = model, tokenizer, []

    def get_tokenizer(self):
        return self.tokenizer

    def generate(self, prompts, params, use_tqdm):
        assert use_tqdm is False
        self.calls.append(([p["prompt_token_ids"] for p in prompts], params))
        return [self._one(p["prompt_token_ids"], own) for p, own in zip(prompts, params, strict=True)]

    @torch.no_grad()
    def _one(self, ids, params):
        prompt = self.model(torch.tensor([ids])).logits[0].log_softmax(-1)
        echoed = None
        if params.prompt_logprobs is not None:
            at = range(1, len(ids))
            echoed = [None, *({ids[i]: SimpleNamespace(logprob=prompt[i - 1, ids[i]].item())} for i in at)]
        new, steps, finish = [], [], "length"
        for _ in range(params.max_tokens):
            logits = self.model(torch.tensor([[*ids, *new]])).logits[0, -1]
            if params.allowed_token_ids:
                allowed = torch.full_like(logits, float("-inf"))
                allowed[params.allowed_token_ids] = logits[params.allowed_token_ids]
                logits = allowed
            logprobs = logits.log_softmax(-1)
            token = logits.argmax().item()
            shown = logprobs.topk(params.logprobs).indices.tolist() if params.logprobs else []
            steps.append({t: SimpleNamespace(logprob=logprobs[t].item()) for t in {token, *shown}})
            if token == self.tokenizer.eos_token_id:
                finish = "stop"
                steps.pop()
                break
            new.append(token)
        output = SimpleNamespace(text=self.tokenizer.decode(new), token_ids=new, logprobs=steps, finish_reason=finish)
        return SimpleNamespace(prompt_logprobs=echoed, outputs=[output])


@pytest.fixture
def make(monkeypatch, tiny_model, word_tokenizer):
    module = ModuleType("vllm")
    defaults = {"prompt_logprobs": None, "logprobs": None, "allowed_token_ids": None}
    module.SamplingParams = lambda **options: SimpleNamespace(**(defaults | options))
    module.TokensPrompt = dict
    monkeypatch.setitem(sys.modules, "vllm", module)

    def make(**settings):
        engine = Engine(tiny_model, word_tokenizer)
        return VllmLLM(engine, LLMConfig(backend="vllm", model="tiny", **settings), "vllm:tiny")

    return make


@pytest.fixture
def reference(tiny_model, word_tokenizer):
    return TransformersLLM(tiny_model, word_tokenizer, name="t", fingerprint="t", batch_tokens=4096, batch_rows=64)


def test_scores_are_those_of_the_transformers_backend(make, reference):
    llm = make()
    assert isinstance(llm, LLM)
    for result, expected in zip(llm.score(REQUESTS, LABELS), reference.score(REQUESTS, LABELS), strict=True):
        assert result.logprob == pytest.approx(expected.logprob, abs=1e-4)
        assert result.tokens == expected.tokens
        assert result.labels == pytest.approx(expected.labels, abs=1e-4)


def test_prompt_logprobs_are_asked_for_only_where_read(make):
    llm = make()
    llm.score([ScoreRequest(PREFIX, "Query: a cat\nRelevance:")], LABELS)
    (params,) = llm._engine.calls[0][1]
    assert params.prompt_logprobs is None
    assert len(params.allowed_token_ids) == params.logprobs == 5


def test_calls_are_bounded_by_tokens(make, reference):
    llm = make(batch_tokens=64)
    result = llm.score(REQUESTS * 3)
    assert len(llm._engine.calls) == 6
    assert [row.logprob for row in result] == pytest.approx(
        [row.logprob for row in reference.score(REQUESTS * 3)], abs=1e-4
    )


def test_blocks_are_prompts_in_the_order_of_their_contexts(make, reference):
    requests = [REQUESTS[0], REQUESTS[1], ScoreRequest(PREFIX, REQUESTS[0].context, " a mat", "\nRelevance:")]
    llm = make()
    results, expected = llm.score(requests, LABELS, blocks=True), reference.score(requests, LABELS)
    assert [row.logprob for row in results] == pytest.approx([row.logprob for row in expected], abs=1e-4)
    prompts = [llm._tokenizer.tokenizer.decode(ids) for ids in llm._engine.calls[0][0]]
    assert ["ran far" in prompt for prompt in prompts] == [True, True, False]


def test_completions_and_their_seeds(make, reference):
    requests = [WriteRequest(PREFIX, request.context, 2**33 + i) for i, request in enumerate(REQUESTS)]
    sampling = Sampling(max_new_tokens=6, temperature=0, stop=())
    llm = make()
    result, expected = llm.generate(requests, sampling), reference.generate(requests, sampling)
    assert [row.text for row in result] == [row.text for row in expected]
    assert [params.seed for params in llm._engine.calls[0][1]] == [0, 1]
    assert {(*params.stop_token_ids, params.skip_special_tokens) for params in llm._engine.calls[0][1]} == {(2, False)}
    assert llm.usage.requests == 2
    without = make(send_seed=False)
    without.generate(requests, sampling)
    assert [params.seed for params in without._engine.calls[0][1]] == [None, None]
    assert without.generate([], sampling) == []


def test_closing_lets_the_engine_go(make):
    llm = make()
    llm.close()
    llm.close()
    assert llm._engine is None


def test_missing_vllm_is_one_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(ModelError, match=r"pip install 'gecko-fret\[vllm\]'"):
        VllmLLM.load(LLMConfig(backend="vllm"))
