"""Block scoring against the ordinary way, row by row: random requests, small limits, several families of models."""

import copy
import math
import random

import pytest
import torch

from gecko_fret.llm.blocks import Continuation, Group, block_mask, group_rows, make_packs
from gecko_fret.llm.protocol import ScoreRequest
from gecko_fret.llm.transformers import TransformersLLM

PREFIX = "Passage: a cat sat on the mat.\nQuery: where is the cat\n\n"
OTHER = "Passage: the dog.\n\n"
LABELS = [" 0", " 1", " 2", " 3", " 4"]
WORDS = ["the", "a", "cat", "sat", "on", "mat", "dog", "ran", "far", "what", "is", "where", "query", "task"]


def text(draw, words):
    return "".join(f" {draw.choice(WORDS)}" for _ in range(words))


def made(seed=0, contexts=5, tail=""):
    """Requests of a few contexts in random order: long and empty continuations, single ones, equal ones."""
    draw, requests = random.Random(seed), []
    for number in range(contexts):
        context = f"Passage:{text(draw, draw.choice((1, 4, 17)))}.\nQuery:"
        lengths = [draw.choice((0, 1, 2, 5, 9, 40)) for _ in range(1 if number == 0 else draw.randint(2, 9))]
        rows = [ScoreRequest((PREFIX, OTHER, "")[number % 3], context, text(draw, n), tail) for n in lengths]
        requests += [*rows, rows[0]] if number % 2 else rows
    draw.shuffle(requests)
    return requests


def llm(model, tokenizer, batch_tokens=4096, batch_rows=64):
    return TransformersLLM(
        model, tokenizer, name="tiny", fingerprint="t", batch_tokens=batch_tokens, batch_rows=batch_rows
    )


def assert_close(results, expected, tolerance=1e-4):
    assert [row.tokens for row in results] == [row.tokens for row in expected]
    for result, wanted in zip(results, expected, strict=True):
        assert result.logprob == pytest.approx(wanted.logprob, abs=tolerance, nan_ok=True)
        assert result.labels == pytest.approx(wanted.labels, abs=tolerance)


@pytest.mark.parametrize("labels", [(), LABELS], ids=["likelihood", "labels"])
@pytest.mark.parametrize("tail", ["", "\nRelevance:"])
@pytest.mark.parametrize(
    "options", [{}, {"batch_tokens": 64}, {"batch_tokens": 4}, {"batch_rows": 1}, {"batch_rows": 3}]
)
def test_scores_are_those_of_rows_of_their_own(tiny_model, word_tokenizer, options, tail, labels):
    requests = made(tail=tail)
    backend = llm(tiny_model, word_tokenizer, **options)
    assert_close(backend.score(requests, labels, blocks=True), llm(tiny_model, word_tokenizer).score(requests, labels))


def test_labels_alone_after_text_of_no_interest_or_nothing(tiny_model, word_tokenizer):
    """What the judge yes-no asks: the query is no continuation, nobody wants its log-probability."""
    draw = random.Random(3)
    requests = [ScoreRequest(PREFIX, "Passage: the dog.", tail=text(draw, n)) for n in (3, 0, 8, 0, 1)]
    backend = llm(tiny_model, word_tokenizer)
    results = backend.score(requests, LABELS, blocks=True)
    assert all(math.isnan(row.logprob) and row.tokens == 0 for row in results)
    assert_close(results, backend.score(requests, LABELS))
    assert len({row.labels for row in results}) == 4


@torch.inference_mode()
def test_labels_of_a_model_in_half_precision_are_not_rounded_to_its_logits(tiny_model, word_tokenizer):
    """With blocks the labels' logits are products in fp32; a shared context: ``test_yes_no``, with a real LLM."""
    model = copy.deepcopy(tiny_model).bfloat16()
    encode = lambda text: word_tokenizer(text)["input_ids"]  # noqa: E731
    labels = [encode(label)[-1] for label in LABELS]
    request = ScoreRequest("", "Passage: the dog.", tail=" the cat")
    state = model.model(torch.tensor([encode("Passage: the dog. the cat ")])).last_hidden_state[0, -1]
    exact = (state.double() @ model.lm_head.weight[labels].double().T).softmax(-1)
    rounded = model.lm_head(state)[labels].double().softmax(-1)
    backend = llm(model, word_tokenizer)
    for blocks, expected in ((True, exact), (False, rounded)):
        (scored,) = backend.score([request], LABELS, blocks=blocks)
        assert scored.labels == pytest.approx(expected.tolist(), abs=1e-6)
    assert exact.tolist() != pytest.approx(rounded.tolist(), abs=1e-4)


def test_nothing_to_score_and_no_requests(tiny_model, word_tokenizer):
    backend = llm(tiny_model, word_tokenizer)
    assert backend.score([], blocks=True) == []
    results = backend.score([ScoreRequest("", "Query:", word) for word in ("", " cat", "")], blocks=True)
    assert [row.tokens for row in results] == [0, 2, 0]
    assert math.isnan(results[0].logprob)


def test_equal_calls_give_equal_bits(tiny_model, word_tokenizer):
    requests = made(seed=1)
    first, second = (llm(tiny_model, word_tokenizer).score(requests, LABELS, blocks=True) for _ in range(2))
    assert repr(first) == repr(second)  # nan is not equal to itself


def test_a_context_is_read_once_and_counted_so_whatever_the_batches(tiny_model, word_tokenizer, monkeypatch):
    requests = [
        *(ScoreRequest(PREFIX, "Query:", f" {words}") for words in ("a cat", "the dog ran far", "a cat")),
        *(ScoreRequest("", "Passage:", f" {words}") for words in ("a cat", "a cat")),
    ]
    counted = []
    for options in ({}, {"batch_tokens": 4}, {"batch_rows": 1}):
        backend, read = llm(tiny_model, word_tokenizer, **options), []
        forward = backend._decoder.forward
        monkeypatch.setattr(
            backend._decoder, "forward", lambda ids, *rest, f=forward, r=read: (r.append(ids.numel()), f(ids, *rest))[1]
        )
        assert backend._decoder.takes_blocks("", 1)  # probes the model, once
        read.clear()
        backend.score(requests, blocks=True)
        counted.append((backend.usage.prompt_tokens, backend.usage.requests))
    # A word is two tokens, its space and itself; the last one is predicted, not read. "Query:" is two tokens as well.
    # Equal requests are read once, but for those that have no other to share their context with.
    assert counted == [(2 + 3 + 7 + 2 * (2 + 3), 5)] * 3
    assert sum(read) == counted[-1][0]  # in batches of one row nothing is padded


def test_most_of_the_tokens_are_saved(tiny_model, word_tokenizer):
    draw = random.Random(0)
    context = "Passage:" + text(draw, 60)
    requests = [ScoreRequest(PREFIX, context, text(draw, 4)) for _ in range(20)]
    alone, together = llm(tiny_model, word_tokenizer), llm(tiny_model, word_tokenizer)
    alone.score(requests)
    together.score(requests, blocks=True)
    assert together.usage.prompt_tokens * 8 < alone.usage.prompt_tokens
    assert together.usage.requests == alone.usage.requests == 20


# -- other families

FAMILIES = {
    "qwen3": {},
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 512},
    "gpt_neox": {},
    "gemma2": {"sliding_window": 4096, "query_pre_attn_scalar": 8},
    "gemma3_text": {"sliding_window": 4096, "query_pre_attn_scalar": 8},
    "mistral": {"sliding_window": 4096},
    "granite": {"logits_scaling": 8.0},
    "cohere": {"logit_scale": 0.0625, "pad_token_id": 0},
}


@pytest.mark.parametrize("family", FAMILIES)
def test_families_of_models(family, random_model, word_tokenizer):
    backend = llm(random_model(family, **FAMILIES[family]), word_tokenizer)
    assert backend._decoder.takes_blocks(PREFIX, 100)
    requests = made(seed=2, tail="\nRelevance:")
    assert_close(backend.score(requests, LABELS, blocks=True), backend.score(requests, LABELS))


@pytest.mark.parametrize("family", ["gemma2", "gemma3_text", "mistral"])
def test_beyond_a_sliding_window_rows_are_scored_as_ever(family, random_model, word_tokenizer):
    backend = llm(random_model(family, **FAMILIES[family] | {"sliding_window": 24}), word_tokenizer)
    short = [ScoreRequest("", "Query:", text(random.Random(n), 3)) for n in range(5)]
    assert backend._decoder.takes_blocks("", 24)
    assert not backend._decoder.takes_blocks("", 25)
    requests = [*made(seed=2), *short]
    assert_close(backend.score(requests, blocks=True), backend.score(requests))
    backend = llm(backend._decoder._model, word_tokenizer)
    backend.score(requests[:-5], blocks=True)
    before = backend.usage.prompt_tokens
    backend.score(short, blocks=True)
    assert backend.usage.prompt_tokens - before == 2 + 5 * 5  # the context once: these fit into the window


def test_models_that_make_something_of_their_own_of_a_mask_are_scored_as_ever(
    random_model, word_tokenizer, monkeypatch
):
    """Masks of numbers to add (eager attention) are not True and False; states that run along a row obey none."""
    requests = made(seed=4)
    eager = llm(random_model("llama", "eager"), word_tokenizer)
    assert not eager._decoder.takes_blocks("", 10)
    assert_close(eager.score(requests, blocks=True), eager.score(requests))
    other = llm(random_model("qwen3"), word_tokenizer)
    monkeypatch.setattr(other._decoder, "recurrent", True)
    assert not other._decoder.takes_blocks("", 10)

    refuses = llm(random_model("qwen3"), word_tokenizer)
    forward = refuses._decoder.forward

    def flat(ids, mask, *rest):
        _, _ = mask.shape
        return forward(ids, mask, *rest)

    monkeypatch.setattr(refuses._decoder, "forward", flat)
    assert not refuses._decoder.takes_blocks("", 10)
    assert_close(refuses.score(requests, blocks=True), refuses.score(requests))


def test_real_llm_in_fp32(smollm2):
    prefix = "For each passage, a question that it answers.\n\nPassage: Cats sleep a lot.\nQuery: do cats sleep\n\n"
    passages = ["The Nile flows north through Egypt to the sea.", "Bread is baked from flour, water, salt and yeast."]
    queries = [
        " what is bread made of",
        " how long is the Nile",
        " yeast",
        " which way does the Nile flow, and through what",
    ]
    requests = [ScoreRequest(prefix, f"Passage: {p}\nQuery:", q, "\nRelevant:") for p in passages for q in queries]
    model = smollm2._decoder._model
    smollm2.close()  # forgets the prefix in bf16
    model.float()
    try:
        assert_close(smollm2.score(requests, [" No", " Yes"], blocks=True), smollm2.score(requests, [" No", " Yes"]))
    finally:
        model.bfloat16()
        smollm2.close()
    rounded = smollm2.score(requests, [" No", " Yes"], blocks=True)
    assert_close(rounded, smollm2.score(requests, [" No", " Yes"]), tolerance=0.1)  # bf16 has 8 bits of mantissa


# -- the plan of rows


def test_groups_keep_the_order_of_requests_and_join_equal_ones():
    rows = [("p", [1], [5], [5, 6]), ("q", [1], [5], [5, 6]), ("p", [1], [], [7]), ("p", [1], [5], [5, 6])]
    groups = group_rows(rows)
    assert [(g.prefix, [c.rows for c in g.continuations]) for g in groups] == [("p", [[0, 3], [2]]), ("q", [[1]])]
    assert (groups[0].tokens, groups[0].depth) == (2, 2)


def test_packs_are_even_and_hold_everything_that_is_read():
    lengths = [9, 1, 4, 0, 7, 30, 2, 5, 5, 3]
    group = Group("", (1,), [Continuation(tuple(range(n)), ()) for n in lengths])
    packs = list(make_packs(group, 3, 16))
    assert sorted(len(c.read) for pack in packs for c, _ in pack.members) == sorted(n for n in lengths if n)
    assert sorted(len(pack.ids) for pack in packs) == [12, 12, 12, 30]
    for pack in packs:
        assert pack.group == 3
        for number, (continuation, start) in enumerate(pack.members):
            end = start + len(continuation.read)
            assert tuple(pack.ids[start:end]) == continuation.read
            assert pack.offsets[start:end] == list(range(len(continuation.read)))
            assert pack.owners[start:end] == [number] * len(continuation.read)


def test_mask_lets_a_token_see_prefix_context_and_its_own_beginning():
    group = Group("", (1,), [Continuation((5, 6), ()), Continuation((7,), ())])
    (pack,) = make_packs(group, 0, 16)
    mask = block_mask([pack], torch.tensor([[0, 1, 1]]), 4)
    assert mask.shape == (1, 1, 4, 7)
    assert mask[0, 0].int().tolist() == [
        [0, 1, 1, 1, 0, 0, 0],
        [0, 1, 1, 1, 1, 0, 0],
        [0, 1, 1, 0, 0, 1, 0],
        [0, 1, 1, 0, 0, 0, 1],
    ]
