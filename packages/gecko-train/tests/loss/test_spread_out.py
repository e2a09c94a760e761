import torch
from torch.nn.functional import normalize

from gecko_train.loss.spread_out import spread_out


def test_spread_out_is_the_mean_squared_cosine_of_different_rows():
    v = torch.randn(6, 5, generator=torch.Generator().manual_seed(0))
    cosines = normalize(v, dim=-1) @ normalize(v, dim=-1).T
    wanted = (cosines.square().sum() - 6) / 30
    torch.testing.assert_close(spread_out(v), wanted)
    assert float(spread_out(v[:1])) == 0.0
