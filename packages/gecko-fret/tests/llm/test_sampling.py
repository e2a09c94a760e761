import math

import pytest
import torch

from gecko_core.errors import ConfigError
from gecko_fret.config import load_config
from gecko_fret.llm.protocol import Sampling
from gecko_fret.llm.sampling import StopWatch, contrasted, draw_tokens, end_tokens, uniform_numbers


def test_numbers_belong_to_the_seed_not_to_the_batch():
    both = uniform_numbers([1, 2], 5)
    assert torch.equal(both[1], uniform_numbers([2], 5)[0])
    assert not torch.equal(both[0], both[1])
    assert uniform_numbers([], 5).shape == (0, 5)


def test_zero_temperature_takes_the_likeliest():
    logits = torch.tensor([[0.0, 3.0, 1.0], [2.0, 2.0, 0.0]])
    chosen, logprobs = draw_tokens(logits, torch.tensor([0.9, 0.9]), Sampling(temperature=0))
    assert chosen.tolist() == [1, 0]
    assert torch.allclose(logprobs, logits.log_softmax(-1)[[0, 1], [1, 0]])


def test_draws_follow_the_distribution():
    logits = torch.tensor([0.5, 0.3, 0.2]).log().expand(10_000, 3)
    uniform = (torch.arange(10_000, dtype=torch.float64) + 0.5) / 10_000
    chosen, _ = draw_tokens(logits, uniform, Sampling(temperature=1, top_p=1))
    assert torch.bincount(chosen).tolist() == [5000, 3000, 2000]


def test_nucleus_and_top_k_cut_the_tail():
    logits = torch.tensor([0.5, 0.3, 0.2]).log().expand(1000, 3)
    uniform = torch.linspace(0, 0.9999, 1000, dtype=torch.float64)
    assert draw_tokens(logits, uniform, Sampling(temperature=1, top_p=0.6))[0].unique().tolist() == [0, 1]
    assert draw_tokens(logits, uniform, Sampling(temperature=1, top_p=1, top_k=1))[0].unique().tolist() == [0]
    cold = draw_tokens(logits, uniform, Sampling(temperature=0.1, top_p=1))[0]
    assert torch.bincount(cold, minlength=3)[0] > 950


def test_contrast_favours_what_the_passage_makes_likelier():
    there, without = torch.tensor([[0.5, 0.3, 0.15, 0.05]]).log(), torch.tensor([[0.8, 0.1, 0.0999, 1e-4]]).log()
    scores = contrasted(there, without, contrast=1.0, plausible=0.2)
    # The last token has the largest ratio, and is too improbable with the passage: 0.05 < 0.2 * 0.5.
    assert scores[0, 3] == -math.inf
    assert scores[0, :3].tolist() == pytest.approx([math.log(0.5 / 0.8), math.log(3), math.log(0.15 / 0.0999)])
    assert contrasted(there, without, 0.0, 1e-9).tolist() == [pytest.approx(there[0].tolist())]


@pytest.mark.parametrize("temperature", [0.0, 0.7, 1.0])
def test_drawing_with_a_contrast_never_takes_an_implausible_token(temperature):
    there = torch.tensor([0.5, 0.3, 0.15, 0.05]).log().expand(500, 4)
    without = torch.tensor([0.9, 0.05, 0.0499, 1e-4]).log().expand(500, 4)
    uniform = torch.linspace(0, 0.9999, 500, dtype=torch.float64)
    sampling = Sampling(temperature=temperature, top_p=1, contrast=1.0, plausible=0.2)
    chosen, logprobs = draw_tokens(there, uniform, sampling, without)
    counts = torch.bincount(chosen, minlength=4).tolist()
    assert counts[3] == 0
    assert counts[1] == max(counts) > counts[0]
    torch.testing.assert_close(logprobs, there.gather(1, chosen[:, None])[:, 0])  # the model's own, not the contrast's


def test_extreme_logits_give_a_token():
    there, without = torch.tensor([[1e4, -1e4, 0.0]]), torch.tensor([[-1e4, 1e4, 0.0]])
    sampling = Sampling(temperature=0.7, contrast=1.0, plausible=1.0)
    assert draw_tokens(there, torch.tensor([0.99]), sampling, without)[0].tolist() == [0]


@pytest.mark.parametrize("temperature", [5e-324, 1e-308, 1e-40])
def test_a_temperature_near_zero_takes_the_likeliest(temperature):
    logits = torch.tensor([[30.0, 31.0, 29.0, 12.0], [-4.0, -90.0, -5.0, -math.inf]]).repeat(50, 1)
    uniform = torch.linspace(0, 0.9999, 100, dtype=torch.float64)
    chosen, _ = draw_tokens(logits, uniform, Sampling(temperature=temperature, top_p=1))
    assert chosen.tolist() == [1, 0] * 50


def test_a_contrast_as_large_as_the_configuration_allows_is_finite():
    there, without = torch.randn(64, 50).mul(1e3), torch.randn(64, 50).mul(1e3)
    scores = contrasted(there.log_softmax(-1), without.log_softmax(-1), 1_000.0, 1e-9)
    assert not scores.isnan().any()
    assert scores.amax(-1).isfinite().all()
    drawn = draw_tokens(there, torch.full((64,), 0.5), Sampling(contrast=1_000.0, plausible=1e-9), without)[0]
    assert torch.isfinite(scores.gather(1, drawn[:, None])).all()
    for more in ("1001", "1e39", ".inf"):
        with pytest.raises(ConfigError, match=r"generate\.contrast"):
            load_config(None, [f"generate.contrast={more}"])


def test_ends_are_special_tokens_that_end_a_turn(word_tokenizer):
    import copy

    tokenizer = copy.deepcopy(word_tokenizer)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|endoftext|>", "<tool>"]})
    ids = tokenizer.convert_tokens_to_ids(["</s>", "<|endoftext|>"])
    assert end_tokens(tokenizer) == set(ids)
    watch = StopWatch(tokenizer, Sampling(stop=()), end_tokens(tokenizer))
    cat, dog = tokenizer.convert_tokens_to_ids(["cat", "dog"])
    assert watch.finished([cat, ids[1]])
    assert watch.text([cat, ids[1]]) == ("cat", True)
    assert not watch.finished([cat, dog])
