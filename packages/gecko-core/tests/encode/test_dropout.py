import pytest
import torch
from torch.nn import functional

from gecko_core.encode.cpu import Compute
from gecko_core.encode.dropout import dropout


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 1e-3])
def test_the_share_is_dropped_wherever_a_value_stands_and_the_mean_stays(dtype, share):
    torch.manual_seed(0)
    found = dropout(torch.ones(1_000_003, dtype=dtype), share)
    kept = found != 0
    error = (share * (1 - share) / len(found)) ** 0.5
    assert abs(1 - kept.double().mean().item() - share) < 6 * error + 2**-16
    scale = found[kept].double().unique()
    torch.testing.assert_close(scale, torch.full_like(scale, 1 / (1 - share)), rtol=1e-2, atol=0)
    for lane in range(4):  # 16 bits each of one word
        of_lane = 1 - kept[lane::4].double().mean().item()
        assert abs(of_lane - share) < 6 * 2 * error + 2**-16
    pairs = (kept[1:] & kept[:-1]).double().mean().item()  # neighbours do not know of each other
    assert abs(pairs - (1 - share) ** 2) < 12 * error + 2**-15


def test_the_gradient_is_that_of_what_was_kept():
    torch.manual_seed(1)
    x = torch.randn(7, 5, 3, requires_grad=True)
    found = dropout(x, 0.3)
    (gradient,) = torch.autograd.grad(found.sum(), x)
    kept = found != 0
    scale = gradient[kept].unique()
    assert len(scale) == 1
    torch.testing.assert_close(scale.item(), 1 / 0.7, rtol=1e-4, atol=0)
    torch.testing.assert_close(found, torch.where(kept, x * scale, torch.zeros(())))
    assert bool((gradient[~kept] == 0).all())


def test_a_seed_drops_the_same_values_and_another_seed_others():
    x = torch.ones(1000)
    drawn = []
    for seed in (3, 3, 4):
        torch.manual_seed(seed)
        drawn.append(dropout(x, 0.5))
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


@pytest.mark.parametrize("share", [0.0, 1.0, 1e-7])
def test_shares_that_16_bits_cannot_hold_are_pytorchs(share):
    x = torch.ones(3, 4)
    torch.testing.assert_close(dropout(x, share), functional.dropout(x, float(round(share))))
    assert dropout(torch.ones(0, 3), 0.5).shape == (0, 3)


def test_layers_within_the_block_drop_by_it_in_training_alone(monkeypatch):
    calls = []
    monkeypatch.setattr("gecko_core.encode.cpu.dropout", lambda x, share: calls.append(share) or x)
    layer, x = torch.nn.Dropout(0.25), torch.ones(8)
    with Compute():
        layer(x)
        layer.eval()(x)
        torch.nn.Dropout(0.25, inplace=True)(x.clone())
    layer.train()(x)
    assert calls == [0.25]
    monkeypatch.setenv("GECKO_COMPUTE", "torch")
    with Compute():
        layer(x)
    assert calls == [0.25]
