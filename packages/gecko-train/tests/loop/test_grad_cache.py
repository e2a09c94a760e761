import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from gecko_train.loop.grad_cache import backward_through_batch, split_batch


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 32), nn.Tanh(), nn.Dropout(0.5), nn.Linear(32, 6)).double()


def batch_loss(embeddings):
    similarities = embeddings @ embeddings.T
    return torch.logsumexp(similarities - 9 * torch.eye(len(embeddings)), dim=1).mean()


@pytest.mark.parametrize("dropout", [True, False])
def test_cached_gradients_are_those_of_one_backward_pass_dropout_included(dropout):
    torch.manual_seed(1)
    inputs = torch.randn(14, 8, dtype=torch.double).split([5, 5, 4])
    gradients, losses = [], []
    for cache in (True, False):
        model = network().train(dropout)
        losses.append(backward_through_batch(inputs, model, batch_loss, seed=3, cache=cache))
        gradients.append(torch.cat([parameter.grad.flatten() for parameter in model.parameters()]))
    assert losses[0] == losses[1]
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-12, atol=1e-14)
    assert gradients[0].abs().sum() > 0


def test_another_seed_drops_other_units():
    inputs = [torch.ones(4, 8, dtype=torch.double)] * 2
    losses = [backward_through_batch(inputs, network(), batch_loss, seed=seed) for seed in (1, 1, 2)]
    assert losses[0] == losses[1]
    assert losses[0] != losses[2]


def test_only_the_last_micro_batch_synchronises():
    from contextlib import contextmanager

    held = []

    @contextmanager
    def no_sync():
        held.append("no sync")
        yield

    inputs = list(torch.randn(6, 2, 8, dtype=torch.double))
    backward_through_batch(inputs, network(), batch_loss, seed=0, no_sync=no_sync)
    assert len(held) == 5


@given(st.lists(st.integers(1, 300), min_size=1, max_size=80), st.integers(64, 512))
def test_micro_batches_hold_every_text_once_within_the_budget(lengths, budget):
    groups, cache = split_batch(lengths, budget, quick=64, cache=True)
    assert cache == (len(groups) > 1)
    assert sorted(np.concatenate(groups).tolist()) == list(range(len(lengths)))
    for group in groups:
        longest = max(lengths[index] for index in group)
        assert longest == lengths[group[0]]
        assert len(group) == 1 or longest * len(group) <= budget


def test_a_batch_that_fits_is_split_into_short_pieces_and_not_cached():
    pieces, cache = split_batch([10, 30, 20, 40], fits=120, quick=50)
    assert not cache
    assert [piece.tolist() for piece in pieces] == [[3], [1], [2, 0]]
    assert split_batch([10, 30, 20, 40], fits=100, quick=50)[1]
