import copy
import math
from dataclasses import replace

import pytest
import torch

from gecko_core.errors import ModelError
from gecko_fret.llm.config import LLMConfig
from gecko_fret.llm.protocol import LLM, ChatLLM, Sampling, ScoreRequest, WriteRequest
from gecko_fret.llm.sampling import end_tokens
from gecko_fret.llm.transformers import TransformersLLM

PREFIX = "Passage: a cat sat on the mat.\nQuery: where is the cat\n\n"
OTHER = "Passage: the dog.\n\n"
REQUESTS = [
    ScoreRequest(PREFIX, "Passage: the dog ran far.\nQuery:", " what ran"),
    ScoreRequest(PREFIX, "Passage: a cat.\nQuery:", " where is the dog what is a mat"),
    ScoreRequest(PREFIX, "Passage: the mat is on the mat the mat is on the mat.\nQuery:", " cat"),
    ScoreRequest(PREFIX, "Query:", " the dog sat on a far mat"),
]
LABELS = [" 0", " 1", " 2", " 3", " 4"]


@pytest.fixture
def make(tiny_model, word_tokenizer):
    def make(**options):
        options = {"batch_tokens": 4096, "batch_rows": 64} | options
        return TransformersLLM(tiny_model, word_tokenizer, name="tiny", fingerprint="t", **options)

    return make


def naive(model, tokenizer, request, labels=(), *, begin=False):
    """The definition: the whole prompt of one row in one forward pass, all logits, fp32."""

    def ids(text, special=False):
        return tokenizer(text, add_special_tokens=special)["input_ids"]

    context, continuation = ids(request.prefix, begin) + ids(request.context), ids(request.continuation)
    tail = ids(request.tail)
    label_ids = [ids(label) for label in labels]
    lead = label_ids[0][:-1] if labels else []
    sequence = context + continuation + tail + lead
    with torch.no_grad():
        logprobs = model(torch.tensor([sequence])).logits[0].float().log_softmax(-1)
    scored = [logprobs[len(context) + i - 1, token].item() for i, token in enumerate(continuation)]
    probabilities = logprobs[-1, [row[-1] for row in label_ids]].softmax(-1).tolist() if labels else []
    return (sum(scored) / len(scored) if scored else math.nan), probabilities


def test_backend_is_an_llm(make):
    assert isinstance(make(), LLM)
    assert isinstance(make(), ChatLLM)


@pytest.mark.parametrize("options", [{}, {"batch_rows": 1}, {"batch_rows": 3}, {"batch_tokens": 64}])
@pytest.mark.parametrize("prefix", [PREFIX, ""])
def test_query_likelihood_equals_the_naive_full_prompt(make, tiny_model, word_tokenizer, options, prefix):
    requests = [replace(request, prefix=prefix) for request in REQUESTS]
    for result, request in zip(make(**options).score(requests), requests, strict=True):
        expected, _ = naive(tiny_model, word_tokenizer, request)
        assert result.logprob == pytest.approx(expected, abs=1e-4)
        assert result.tokens == len(word_tokenizer(request.continuation, add_special_tokens=False)["input_ids"])
        assert result.labels == ()


def test_rows_of_different_prefixes_share_a_batch(make, tiny_model, word_tokenizer):
    prefixes = [PREFIX, OTHER, "", PREFIX]
    requests = [replace(request, prefix=p) for request, p in zip(REQUESTS, prefixes, strict=True)]
    llm = make()
    for result, request in zip(llm.score(requests), requests, strict=True):
        assert result.logprob == pytest.approx(naive(tiny_model, word_tokenizer, request)[0], abs=1e-4)


def test_labels_equal_the_naive_full_prompt(make, tiny_model, word_tokenizer):
    requests = [ScoreRequest(PREFIX, r.context + r.continuation + "\nRelevance:") for r in REQUESTS]
    for result, request in zip(make().score(requests, LABELS), requests, strict=True):
        _, expected = naive(tiny_model, word_tokenizer, request, LABELS)
        assert result.labels == pytest.approx(expected, abs=1e-4)
        assert sum(result.labels) == pytest.approx(1)
        assert math.isnan(result.logprob)


def test_joint_scoring_equals_the_naive_full_prompt(make, tiny_model, word_tokenizer):
    requests = [ScoreRequest(PREFIX, r.context, r.continuation, "\nRelevance:") for r in REQUESTS]
    for result, request in zip(make(batch_rows=3).score(requests, LABELS), requests, strict=True):
        likelihood, labels = naive(tiny_model, word_tokenizer, request, LABELS)
        assert result.logprob == pytest.approx(likelihood, abs=1e-4)
        assert result.labels == pytest.approx(labels, abs=1e-4)


def test_equal_calls_give_equal_bits(make):
    assert make().score(REQUESTS) == make().score(REQUESTS)


def test_prefix_is_computed_once(make):
    llm = make(batch_rows=1)
    llm.score(REQUESTS)
    own = sum(
        len(llm._segments.encode([r.context])[0]) + len(llm._segments.encode([r.continuation])[0]) - 1 for r in REQUESTS
    )
    assert llm.usage.prompt_tokens == own  # a last token is predicted, not read
    assert llm.usage.prefix_tokens == len(llm._segments.encode([PREFIX])[0])
    assert llm.usage.requests == len(REQUESTS)


def test_no_logits_over_the_vocabulary_for_context_tokens(make, monkeypatch):
    llm = make()
    sizes = []
    whole = llm._decoder.logits
    monkeypatch.setattr(
        llm._decoder, "logits", lambda hidden, rows=None: (sizes.append(hidden.shape[0]), whole(hidden, rows))[1]
    )
    scored = llm.score(REQUESTS)
    assert sum(sizes) == sum(result.tokens for result in scored)


def test_greedy_generation_equals_transformers_generate(make, tiny_model, word_tokenizer):
    sampling = Sampling(max_new_tokens=12, temperature=0, stop=())
    requests = [WriteRequest(p, r.context, 0) for p, r in zip([PREFIX, PREFIX, OTHER, ""], REQUESTS, strict=True)]
    for request, completion in zip(requests, make().generate(requests, sampling), strict=True):
        ids = word_tokenizer(request.prefix + request.body, add_special_tokens=False, return_tensors="pt")["input_ids"]
        expected = tiny_model.generate(ids, max_new_tokens=12, do_sample=False, pad_token_id=0)[0, ids.shape[1] :]
        if expected[-1] == 2:
            expected = expected[:-1]
        assert completion.text == word_tokenizer.decode(expected)


def test_sampling_depends_on_the_rows_seed_alone(make):
    requests = [WriteRequest(PREFIX, request.context, seed) for seed, request in enumerate(REQUESTS)]
    sampling = Sampling(max_new_tokens=10, temperature=1.0, stop=())
    together = make().generate(requests, sampling)
    alone = [make().generate([request], sampling)[0] for request in requests]
    assert [c.text for c in together] == [c.text for c in alone]
    other = make().generate([replace(request, seed=request.seed + 10) for request in requests], sampling)
    assert [c.text for c in together] != [c.text for c in other]


def test_generation_stops_before_the_stop_string(make):
    sampling = Sampling(max_new_tokens=40, temperature=1.0, stop=("cat", "\n"))
    completions = make().generate([WriteRequest(PREFIX, REQUESTS[0].context, seed) for seed in range(6)], sampling)
    assert all("cat" not in c.text and "\n" not in c.text for c in completions)
    assert any(c.finished and c.tokens < 40 for c in completions)


@pytest.mark.parametrize("options", [{}, {"batch_rows": 2}])
def test_contrastive_decoding_equals_its_definition(make, tiny_model, word_tokenizer, options):
    """Token by token, two whole prompts in fp64: log p(token | passage) - contrast * log p(token), above the cut."""
    sampling = Sampling(max_new_tokens=8, temperature=0, stop=(), contrast=0.7, plausible=0.2)
    requests = [
        WriteRequest(p, r.context, 0, "Query:") for p, r in zip([PREFIX, PREFIX, OTHER, ""], REQUESTS, strict=True)
    ]

    def ids(text):
        return word_tokenizer(text, add_special_tokens=False)["input_ids"]

    def logprobs(row):
        with torch.no_grad():
            return tiny_model(torch.tensor([row])).logits[0, -1].double().log_softmax(-1)

    plain = make().generate(requests, replace(sampling, contrast=0.0))
    completions = make(**options).generate(requests, sampling)
    for request, completion in zip(requests, completions, strict=True):
        there, without = ids(request.prefix) + ids(request.body), ids(request.prefix) + ids(request.without)
        written, own = [], []
        while len(written) < 8 and (not written or written[-1] != 2):
            p, q = logprobs(there + written), logprobs(without + written)
            scores = p - 0.7 * q
            scores[p < p.max() + math.log(0.2)] = -math.inf
            written.append(int(scores.argmax()))
            own.append(p[written[-1]].item())
        assert completion.tokens == len(written)
        assert completion.text == word_tokenizer.decode(written[:-1] if written[-1] == 2 else written)
        assert completion.logprob == pytest.approx(sum(own) / len(own), abs=1e-4)
    assert [c.text for c in completions] != [c.text for c in plain]


def test_contrast_does_not_depend_on_the_batch_and_its_tokens_are_counted(make):
    sampling = Sampling(max_new_tokens=10, temperature=1.0, stop=(), contrast=0.5)
    requests = [WriteRequest(PREFIX, request.context, seed, "Query:") for seed, request in enumerate(REQUESTS)]
    llm = make()
    together = llm.generate(requests, sampling)
    assert [c.text for c in together] == [make().generate([request], sampling)[0].text for request in requests]
    bodies = llm._segments.encode([text for request in requests for text in (request.body, request.without)])
    assert llm.usage.prompt_tokens == sum(map(len, bodies))


def test_an_end_token_that_the_configuration_does_not_name_ends_a_completion(tiny_model, word_tokenizer):
    tokenizer = copy.deepcopy(word_tokenizer)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_end|>"]})
    tokenizer.eos_token = None
    ends = end_tokens(tokenizer)
    assert tokenizer.convert_tokens_to_ids("<|im_end|>") in ends
    options = {"name": "tiny", "fingerprint": "t", "batch_tokens": 4096, "batch_rows": 64}
    llm = TransformersLLM(tiny_model, tokenizer, **options)
    assert llm._end_ids() == ends | {2}


def test_truncate_cuts_at_tokens(make):
    assert make().truncate(["the cat sat on", "a"], 3) == ["the cat", "a"]


def test_labels_of_several_tokens_are_refused(make):
    with pytest.raises(ModelError, match="not one token each"):
        make().score(REQUESTS[:1], [" the cat", " the dog sat"])


def test_unknown_model_is_one_line(tmp_path):
    with pytest.raises(ModelError):
        TransformersLLM.load(LLMConfig(model="no-such-model"))
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ModelError, match=r"no \.safetensors file"):
        TransformersLLM.load(LLMConfig(model=str(tmp_path)))


def test_dtype_is_the_configured_one_or_that_of_the_device(tmp_path, tiny_model, word_tokenizer, monkeypatch):
    tiny_model.save_pretrained(tmp_path)
    word_tokenizer.save_pretrained(tmp_path)
    monkeypatch.setattr("gecko_fret.llm.transformers.weights_dtype", lambda device: torch.float16)
    for dtype, expected in (("float32", "float32"), ("auto", "float16")):
        llm = TransformersLLM.load(LLMConfig(model=str(tmp_path), dtype=dtype))
        assert llm.fingerprint.endswith(f":{expected}")


@pytest.mark.parametrize(("capability", "end"), [((7, 5), ":auto:float16"), ((8, 0), ":auto")])
def test_fingerprint_is_that_of_version_0_1_where_auto_is_what_it_was(
    tmp_path, tiny_model, monkeypatch, capability, end
):
    tiny_model.save_pretrained(tmp_path)
    on_cpu = TransformersLLM.fingerprint_of(LLMConfig(model=str(tmp_path)))
    assert on_cpu.endswith(":auto")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    on_gpu = TransformersLLM.fingerprint_of(LLMConfig(model=str(tmp_path)))
    assert on_gpu == on_cpu.removesuffix(":auto") + end
    for settings in ({"device": "cpu"}, {"dtype": "bfloat16"}):
        config = LLMConfig(model=str(tmp_path), **settings)
        assert TransformersLLM.fingerprint_of(config).endswith(f":{config.dtype}")


def test_real_llm_prefers_the_right_passage_and_agrees_with_fp32(smollm2):
    """SmolLM2 in bf16 with a shared prefix against the naive way in fp32."""
    prefix = "For each passage, a question that it answers.\n\nPassage: Cats sleep a lot.\nQuery: do cats sleep\n\n"
    passages = ["The Nile flows north through Egypt to the sea.", "Bread is baked from flour, water, salt and yeast."]
    requests = [ScoreRequest(prefix, f"Passage: {p}\nQuery:", " what is bread made of") for p in passages]
    wrong, right = smollm2.score(requests)
    assert right.logprob > wrong.logprob
    model = smollm2._decoder._model
    # With a begin mark where the tokenizer has one: this GGUF file gets one from transformers 4, and none from 5.
    exact = [naive(model.float(), smollm2._tokenizer, request, begin=True)[0] for request in requests]
    model.bfloat16()
    smollm2.close()  # forgets the prefix
    assert [wrong.logprob, right.logprob] == pytest.approx(exact, abs=0.08)  # bf16 has 8 bits of mantissa
