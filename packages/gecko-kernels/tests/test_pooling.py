"""Mean pooling: against the reference, and what a user would notice."""

from __future__ import annotations

import pytest
import torch
from torch.autograd import gradcheck

from gecko_kernels import masked_mean_pool, packed_mean_pool
from gecko_kernels.reference import reference_packed_pool, reference_pool

DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]


@pytest.fixture
def padded():
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(5, 7, 11, generator=generator, dtype=torch.float64)
    mask = torch.tensor(
        [[1] * 7, [1, 1, 1, 0, 0, 0, 0], [0, 0, 0, 0, 1, 1, 1], [1, 0, 1, 0, 0, 1, 0], [0] * 7], dtype=torch.int64
    )
    return hidden, mask


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("normalize", [False, True])
def test_masked_agrees_with_reference(padded, dtype, normalize, assert_near, tolerances):
    hidden, mask = padded
    found_leaf, expected_leaf = (hidden.to(dtype).requires_grad_() for _ in range(2))
    found = masked_mean_pool(found_leaf, mask, normalize=normalize)
    expected = reference_pool(expected_leaf, mask, normalize=normalize)
    assert_near(found, expected, tolerances[dtype])
    weights = torch.linspace(-1, 1, expected.numel()).reshape(expected.shape).to(dtype)
    (found * weights).sum().backward()
    (expected * weights).sum().backward()
    assert_near(found_leaf.grad, expected_leaf.grad, tolerances[dtype])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("normalize", [False, True])
def test_packed_agrees_with_reference(dtype, normalize, assert_near, tolerances):
    generator = torch.Generator().manual_seed(1)
    hidden = torch.randn(12, 5, generator=generator, dtype=torch.float64)
    bounds = torch.tensor([0, 3, 3, 4, 11], dtype=torch.int32)
    found_leaf, expected_leaf = (hidden.to(dtype).requires_grad_() for _ in range(2))
    found = packed_mean_pool(found_leaf, bounds, normalize=normalize)
    expected = reference_packed_pool(expected_leaf, bounds, normalize=normalize)
    assert_near(found, expected, tolerances[dtype])
    weights = torch.linspace(-1, 1, expected.numel()).reshape(expected.shape).to(dtype)
    (found * weights).sum().backward()
    (expected * weights).sum().backward()
    assert_near(found_leaf.grad, expected_leaf.grad, tolerances[dtype])
    assert not found_leaf.grad[11].any()


def test_packed_equals_padded(padded):
    hidden, mask = padded
    kept = hidden[:2]
    packed = torch.cat([kept[0], kept[1, :3]])
    together = packed_mean_pool(packed, torch.tensor([0, 7, 10]), skip=1, normalize=True)
    torch.testing.assert_close(together, masked_mean_pool(kept, mask[:2], skip=1, normalize=True))


def test_padding_is_never_read(padded):
    hidden, mask = padded
    poisoned = hidden.masked_fill(mask[..., None] == 0, torch.nan).requires_grad_()
    pooled = masked_mean_pool(poisoned, mask)
    torch.testing.assert_close(pooled, masked_mean_pool(hidden, mask))
    pooled.sum().backward()
    assert poisoned.grad.isfinite().all()
    assert not poisoned.grad[mask == 0].any()


def test_row_without_tokens_is_zero(padded):
    hidden, mask = padded
    assert not masked_mean_pool(hidden, mask, normalize=True)[4].any()
    assert not packed_mean_pool(hidden[0], torch.tensor([0, 0, 7]))[0].any()


@pytest.mark.parametrize("pool", [packed_mean_pool, reference_packed_pool])
def test_no_sequences_have_no_rows(pool):
    for normalize in (False, True):
        pooled = pool(torch.zeros(0, 4, dtype=torch.bfloat16), torch.tensor([0]), normalize=normalize)
        assert (pooled.shape, pooled.dtype) == ((0, 4), torch.bfloat16)


def test_skip_leaves_out_leading_valid_tokens(padded):
    hidden, mask = padded
    pooled = masked_mean_pool(hidden, mask, skip=torch.tensor([2, 0, 1, 1, 3]))
    torch.testing.assert_close(pooled[0], hidden[0, 2:].mean(0))
    torch.testing.assert_close(pooled[2], hidden[2, 5:].mean(0))
    torch.testing.assert_close(pooled[3], hidden[3, [2, 5]].mean(0))
    for far in (9, 2**63 - 1, 2**70):
        assert not masked_mean_pool(hidden, mask, skip=far).any()
        assert not packed_mean_pool(hidden[0], torch.tensor([0, 1, len(hidden[0])]), skip=far).any()
    largest = torch.full((2,), 2**63 - 1)
    assert not packed_mean_pool(hidden[0], torch.tensor([0, 1, len(hidden[0])]), skip=largest).any()


def test_prefix_norms_are_those_of_the_mean(padded):
    hidden, mask = padded
    pooled, norms = masked_mean_pool(hidden, mask, normalize=True, prefix_norms=(11, 4))
    mean = reference_pool(hidden, mask)
    torch.testing.assert_close(norms, torch.stack([mean.norm(dim=1), mean[:, :4].norm(dim=1)], 1))
    torch.testing.assert_close(pooled * norms[:, :1], mean)


@pytest.mark.parametrize("normalize", [False, True])
def test_gradcheck(padded, normalize):
    hidden, mask = padded
    small = hidden[:, :, :3].clone().requires_grad_()
    assert gradcheck(lambda x: masked_mean_pool(x, mask, normalize=normalize), (small,))
    assert gradcheck(lambda x: reference_pool(x, mask, normalize=normalize), (small,))
    flat = small.detach()[0].clone().requires_grad_()
    assert gradcheck(lambda x: packed_mean_pool(x, torch.tensor([0, 2, 2, 7]), normalize=normalize), (flat,))


def test_operators_pass_opcheck(padded):
    hidden, mask = padded
    leaf = hidden.clone().requires_grad_()
    torch.library.opcheck(torch.ops.gecko_kernels.masked_mean, (leaf, mask.bool(), True, [4, 11], False))
    flat, starts, ends = leaf[0].detach().requires_grad_(), torch.tensor([0, 2]), torch.tensor([2, 7])
    result = torch.library.opcheck(torch.ops.gecko_kernels.packed_mean, (flat, starts, ends, True, [4], False))
    assert set(result.values()) == {"SUCCESS"}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda h, m: masked_mean_pool(h, m[:, :3]), r"found \(5, 7, 11\) and \(5, 3\)"),
        (lambda h, m: masked_mean_pool(h, m, skip=-1), "skip"),
        (lambda h, m: masked_mean_pool(h, m, prefix_norms=[2.9]), "prefix_norms: expected whole numbers, found"),
        (lambda h, m: masked_mean_pool(h, m, skip=torch.zeros(2, dtype=torch.int64)), r"\(5,\), found \(2,\)"),
        (lambda h, m: masked_mean_pool(h, m, skip=-torch.ones(5, dtype=torch.int64)), "skip: expected numbers >= 0"),
        (lambda h, m: packed_mean_pool(h[0], torch.tensor([0, 3, 7]), skip=torch.tensor([0, -1])), "found -1"),
        (lambda h, m: masked_mean_pool(h, m, prefix_norms=(12,)), r"1..11, found \(12,\)"),
        (lambda h, m: packed_mean_pool(h, m[0]), r"expected hidden \(T, D\)"),
        (lambda h, m: packed_mean_pool(h[0], torch.tensor([0, 8])), r"<= 7, found \[0, 8\]"),
        (lambda h, m: packed_mean_pool(h[0], torch.tensor([0, 5, 4])), "cu_seqlens"),
    ],
)
def test_bad_arguments_say_what_was_found(padded, call, message):
    with pytest.raises(ValueError, match=message):
        call(*padded)


def test_bad_dtypes_are_refused(padded):
    hidden, mask = padded
    with pytest.raises(TypeError, match=r"torch\.int64"):
        masked_mean_pool(hidden.long(), mask)
    with pytest.raises(TypeError, match="integers"):
        packed_mean_pool(hidden[0], torch.tensor([0.0, 7.0]))
    with pytest.raises(TypeError, match="hidden: expected a tensor, found list"):
        masked_mean_pool(hidden.tolist(), mask)
    with pytest.raises(TypeError, match="mask: expected a tensor, found NoneType"):
        masked_mean_pool(hidden, None)
    with pytest.raises(TypeError, match="cu_seqlens: expected a tensor, found NoneType"):
        packed_mean_pool(hidden[0], None)
    with pytest.raises(TypeError, match="cu_seqlens: expected a tensor, found list"):
        packed_mean_pool(hidden[0], [0, 7])
    with pytest.raises(TypeError, match="normalize: expected True or False, found 'no'"):
        masked_mean_pool(hidden, mask, normalize="no")
    with pytest.raises(TypeError, match="skip: expected a number or a tensor of integers, found float"):
        masked_mean_pool(hidden, mask, skip=1.5)


def test_whole_numbers_of_other_libraries_are_taken(padded):
    numpy = pytest.importorskip("numpy")
    hidden, mask = padded
    assert torch.equal(masked_mean_pool(hidden, mask, skip=numpy.int64(1)), masked_mean_pool(hidden, mask, skip=1))
