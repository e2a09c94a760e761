import torch

from gecko_fret.llm.protocol import Sampling
from gecko_fret.llm.sampling import draw_tokens, uniform_numbers


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
