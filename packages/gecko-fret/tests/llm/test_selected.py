import torch
from transformers import DynamicCache

from gecko_fret.llm.selected import SelectedRows


def test_rows_are_read_in_any_order_and_nothing_is_kept():
    torch.manual_seed(0)
    cache = DynamicCache()
    for layer in range(2):
        cache.update(*torch.randn(2, 3, 2, 5, 4), layer)
    before = [layer.keys.clone() for layer in cache.layers]
    selected = SelectedRows(cache, torch.tensor([2, 0, 2, 1]))
    for _ in range(2):
        new_keys, new_values = torch.randn(2, 4, 2, 3, 4)
        keys, values = selected.update(new_keys, new_values, 1)
        assert torch.equal(keys, torch.cat([cache.layers[1].keys[[2, 0, 2, 1]], new_keys], dim=2))
        assert torch.equal(values, torch.cat([cache.layers[1].values[[2, 0, 2, 1]], new_values], dim=2))
        assert selected.get_seq_length() == cache.get_seq_length() == 5
    assert all(torch.equal(layer.keys, keys) for layer, keys in zip(cache.layers, before, strict=True))
