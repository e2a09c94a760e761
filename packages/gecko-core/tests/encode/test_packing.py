import numpy as np
import pytest
import torch
import transformers

from gecko_core import Gecko
from gecko_core.backbones.registry import ADAPTERS
from gecko_core.backbones.t5 import T5Adapter
from gecko_core.encode.packing import packed
from gecko_core.errors import ConfigError, DataError, ModelError

#: Attention is called in a way that texts without padding can use since transformers 5; before, they are padded.
needs_packing = pytest.mark.skipif(int(transformers.__version__.split(".")[0]) < 5, reason="needs transformers 5")
PADDED_ONLY = {"mpnet", "gemma2"} | T5Adapter.model_types  # Gemma 2 caps the logits of its attention
TYPES = sorted({model_type for adapter in ADAPTERS for model_type in adapter.model_types} - PADDED_ONLY)
LENGTHS = [37, 23, 23, 23, 23, 22, 14, 9, 2, 2, 1]


@pytest.fixture
def load(backbone_folder):
    return lambda kind: Gecko.from_backbone(backbone_folder(kind), dims=(32, 8), device="cpu", dtype="float32")


def rows_of(lengths=LENGTHS, seed=0):
    draw = np.random.default_rng(seed)
    return [draw.integers(4, 50, length).tolist() for length in lengths]


def test_layout():
    batch = packed([[5, 6, 7], [8, 9, 5], [4]], vocabulary=80)
    assert batch.input_ids.tolist() == [5, 6, 7, 8, 9, 5, 4]
    assert batch.position_ids.tolist() == [0, 1, 2, 0, 1, 2, 0]
    assert batch.bounds.tolist() == [0, 3, 6, 7]
    (tile,) = batch.tiles
    assert tile.rows.tolist() == [[0, 1, 2], [3, 4, 5], [6, 0, 0]]  # 0: any token
    assert tile.seen.tolist() == [[True] * 3, [True] * 3, [True, False, False]]
    assert tile.places.tolist() == [0, 1, 2, 3, 4, 5, 6]


def test_a_batch_is_filled_up_with_tokens_of_no_text():
    batch = packed([[5] * 14, [8, 9, 4]], vocabulary=80, few_shapes=True)
    assert batch.input_ids.tolist() == [5] * 14 + [8, 9, 4, 0]
    assert batch.position_ids.tolist() == [*range(14), 0, 1, 2, 0]
    assert batch.bounds.tolist() == [0, 14, 17]
    assert batch.tiles[-1].tokens.stop == 17


def test_batches_come_in_few_sizes():
    sizes = {len(packed([[4] * length], vocabulary=80, few_shapes=True).input_ids) for length in range(1, 2049)}
    assert len(sizes) <= 8 * 8 + 8
    assert {1, 9, 15, 16, 18, 1920, 2048} <= sizes


def test_tiles_hold_texts_of_nearly_one_length():
    batch = packed(rows_of([80, 72, 70, 69, 40, 40, 2]), vocabulary=80)
    assert [tuple(tile.rows.shape) for tile in batch.tiles] == [(3, 80), (1, 72), (2, 40), (1, 2)]
    assert [tile.seen is None for tile in batch.tiles] == [False, False, True, True]
    assert [(tile.tokens.start, tile.tokens.stop) for tile in batch.tiles] == [
        (0, 222),
        (222, 291),
        (291, 371),
        (371, 373),
    ]


def test_tiles_come_in_few_sizes():
    draw = np.random.default_rng(1)
    shapes = set()
    for _ in range(200):
        lengths = sorted(draw.integers(1, 200, draw.integers(1, 100)).tolist(), reverse=True)
        batch = packed(rows_of(lengths), vocabulary=80)
        shapes |= {tuple(tile.rows.shape) for tile in batch.tiles}
        for tile in batch.tiles:
            tokens = tile.rows.flatten()[tile.places]
            assert tokens.tolist() == list(range(tile.tokens.start, tile.tokens.stop))
            assert tile.seen is None or tile.seen.any(1).all()
    sizes, lengths = ({shape[axis] for shape in shapes} for axis in (0, 1))
    assert sizes <= {1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128}
    assert len(lengths) <= 8 * 8


@pytest.mark.parametrize("count", range(1, 24))
def test_any_number_of_texts_of_one_token(count):
    """Their number is filled up to one of few sizes; the rows that are added hold no text."""
    batch = packed([[7]] * count, 80, "cpu")
    (tile,) = batch.tiles
    assert (tile.seen is None) == (len(tile.rows) == count)
    assert tile.places.tolist() == list(range(count))


def test_roberta_leaves_padding_tokens_out_of_its_count():
    batch = packed([[5, 1, 7], [1], [8]], vocabulary=80, padding_position=1)
    assert batch.position_ids.tolist() == [2, 1, 3, 1, 2]


def test_bad_rows():
    with pytest.raises(ModelError, match="token id 80 is outside of the backbone's 80 embeddings"):
        packed([[1], [80]], vocabulary=80)
    for rows in ([], [[1], []]):
        with pytest.raises(DataError, match="every row a token"):
            packed(rows, vocabulary=80)


@needs_packing
@pytest.mark.parametrize("kind", TYPES)
@torch.inference_mode()
def test_packed_equals_padded(load, kind):
    """Windows of local attention (8 tokens and fewer in these configs) included."""
    gecko, rows = load(kind), rows_of()
    assert gecko.can_pack
    torch.testing.assert_close(gecko.forward_packed(rows), gecko(**gecko.collate(rows)), atol=3e-6, rtol=1e-4)


@pytest.mark.parametrize("kind", TYPES)
def test_encode_without_padding_equals_with(load, kind, sentences):
    gecko = load(kind)
    texts = [*sentences[:40], "", "gecko", "<pad> gecko <pad>", "gecko " * 300]
    gecko.padding_free = True
    without = gecko.encode(texts, batch_tokens=97)
    gecko.padding_free = False
    assert abs(gecko.encode(texts, batch_tokens=97) - without).max() < 3e-6


@pytest.mark.parametrize("kind", TYPES)
def test_gradients_without_padding_equal_those_with(load, kind):
    gecko, rows = load(kind), rows_of()
    pull = torch.randn(len(rows), 32, generator=torch.Generator().manual_seed(0))
    found = []
    for padding_free in (False, True):
        gecko.padding_free = padding_free
        gecko.zero_grad(set_to_none=True)
        (gecko(rows=rows) * pull).sum().backward()
        found.append(torch.cat([p.grad.flatten() for p in gecko.parameters() if p.grad is not None]))
    assert len(found[0]) == len(found[1])
    assert (found[0] - found[1]).norm() < 2e-5 * found[0].norm()


@needs_packing
def test_rows_take_the_way_that_pays(load):
    gecko, rows = load("bert"), rows_of()
    expected = gecko.forward_packed(rows)
    assert gecko.runs_packed
    assert torch.equal(gecko(rows=rows), expected)
    gecko.gradient_checkpointing()
    gecko.train()
    assert not gecko.runs_packed  # what is computed again in the backward pass would not know of the texts' bounds
    with torch.no_grad():
        assert gecko.runs_packed
    gecko.eval()
    torch.testing.assert_close(gecko(rows=rows), expected, atol=3e-6, rtol=1e-4)
    gecko.padding_free = False
    torch.testing.assert_close(gecko(rows=rows), expected, atol=3e-6, rtol=1e-4)
    with pytest.raises(ConfigError, match="input_ids and attention_mask, or rows"):
        gecko()


@pytest.mark.parametrize("kind", sorted(PADDED_ONLY))
def test_the_others_are_padded(load, kind):
    gecko = load(kind)
    gecko.padding_free = True
    assert not gecko.can_pack
    assert gecko.encode(["a gecko", ""]).shape == (2, 32)
    with pytest.raises(ModelError, match="cannot run without padding"):
        gecko.forward_packed([[1, 2]])


def test_other_attention_is_padded(load):
    gecko = load("bert")
    expected = gecko.encode(["a gecko", "is small"])
    gecko.backbone.set_attn_implementation("eager")
    assert not gecko.can_pack
    assert abs(gecko.encode(["a gecko", "is small"]) - expected).max() < 1e-6


@needs_packing
def test_packed_reaches_the_head_and_keeps_no_gradient_rule(load):
    gecko = Gecko.from_backbone(load("bert").backbone.config._name_or_path, dims=(16,), device="cpu", dtype="float32")
    rows = rows_of([5, 3])
    torch.testing.assert_close(gecko.forward_packed(rows), gecko(**gecko.collate(rows)), atol=3e-6, rtol=1e-4)
