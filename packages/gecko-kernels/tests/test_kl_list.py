"""The KL-list term: against PyTorch's own KL, and what is left out."""

from __future__ import annotations

import pytest
import torch
from torch.autograd import gradcheck
from torch.nn.functional import cosine_similarity, kl_div

from gecko_kernels import kl_list_loss


@pytest.fixture
def lists():
    generator = torch.Generator().manual_seed(0)
    shapes = ((6, 12), (6, 5, 12), (6, 5))
    return [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]


def test_is_the_kl_of_the_two_softmaxes(lists):
    queries, candidates, scores = lists
    expected = 0.0
    for dim, weight in ((12, 1.0), (4, 0.5)):
        student = cosine_similarity(queries[:, None, :dim], candidates[..., :dim], dim=-1) / 0.1
        teacher = (scores / 2).log_softmax(1)
        expected = expected + weight * kl_div(student.log_softmax(1), teacher, log_target=True, reduction="batchmean")
    found = kl_list_loss(
        queries, candidates, scores, temperature=0.1, teacher_temperature=2, dims=(12, 4), dim_weights=(1, 0.5)
    )
    torch.testing.assert_close(found, expected)


def test_unscored_candidates_and_rows_do_not_count(lists):
    queries, candidates, scores = lists
    scores[1, 3:] = torch.nan
    scores[2, 1:] = -torch.inf
    found = kl_list_loss(queries, candidates, scores, temperature=0.1)
    rows = [
        kl_list_loss(queries[i : i + 1], candidates[i : i + 1], scores[i : i + 1], temperature=0.1) for i in range(6)
    ]
    short = kl_list_loss(queries[1:2], candidates[1:2, :3], scores[1:2, :3], temperature=0.1)
    torch.testing.assert_close(rows[1], short)
    assert rows[2] == 0
    torch.testing.assert_close(found, sum(rows) / 5)


@pytest.mark.parametrize("shift", [0.0, -2e9, 1e12])
def test_what_has_no_score_is_left_out_on_any_scale(lists, shift):
    """A filler for it would be the largest score of a list whose scores are all below it."""
    queries, candidates, scores = lists
    scores = (scores * 1e4).round()
    scores[:, 1] = torch.nan
    found = kl_list_loss(queries, candidates, scores + shift, temperature=0.1)
    rest = [0, *range(2, scores.shape[1])]
    wanted = kl_list_loss(queries, candidates[:, rest], scores[:, rest], temperature=0.1)
    torch.testing.assert_close(found, wanted)


@pytest.mark.parametrize("teacher_temperature", [1e-6, 0.3, 1.0, 7.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("scores_dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_scores_at_the_ends_of_their_dtype(lists, dtype, scores_dtype, teacher_temperature):
    """The lowest number stands for "out of the question": no probability, and still one of the candidates."""
    queries, candidates = (x.to(dtype).requires_grad_() for x in lists[:2])
    scores = lists[2].to(scores_dtype)
    scores[:, 4] = torch.finfo(scores_dtype).min
    scores[1, 2] = torch.finfo(scores_dtype).max
    options = {"temperature": 0.1, "teacher_temperature": teacher_temperature}
    found = kl_list_loss(queries, candidates, scores, **options)
    student = (cosine_similarity(lists[0][:, None], lists[1], dim=-1) / 0.1).log_softmax(1)
    exact = scores.double() - scores.double().amax(1, keepdim=True)
    teacher = (exact / teacher_temperature).softmax(1)
    expected = (torch.special.xlogy(teacher, teacher) - teacher * student).sum(1).mean()
    torch.testing.assert_close(found.double(), expected, rtol=1e-4 if dtype == torch.float32 else 1e-9, atol=1e-6)
    found.backward()
    assert queries.grad.isfinite().all()
    assert candidates.grad.isfinite().all()


def test_gradcheck(lists):
    queries, candidates, scores = lists
    scores[0, 0] = torch.nan
    temperature = torch.tensor(0.3, dtype=torch.float64)
    leaves = [tensor.requires_grad_() for tensor in (queries, candidates, temperature)]
    assert gradcheck(lambda q, c, t: kl_list_loss(q, c, scores, temperature=t, dims=(12, 5)), leaves)


def test_zero_vectors_and_sharp_temperatures_are_finite(lists):
    queries, candidates, scores = (tensor.float() for tensor in lists)
    queries[0], candidates[1, 2] = 0, 0
    queries.requires_grad_()
    loss = kl_list_loss(queries, candidates, scores * 1e4, temperature=1e-4)
    loss.backward()
    assert loss.isfinite()
    assert queries.grad.isfinite().all()
    assert not queries.grad[0].any()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"candidates": torch.ones(2, 3)}, r"\(B, N, D\), found \(2, 3\) and \(2, 3\)"),
        ({"teacher_scores": torch.ones(2, 5)}, r"expected shape \(2, 4\), found \(2, 5\)"),
        ({"teacher_temperature": 0}, "positive number, found 0"),
        ({"teacher_temperature": float("inf")}, "positive number, found inf"),
        ({"temperature": float("inf")}, "positive number, found inf"),
        ({"temperature": -1}, "positive number, found -1"),
        ({"temperature": 1e-46}, "positive number, found 1e-46"),  # 0 in float32
        ({"temperature": 1e39}, r"positive number, found 1e\+39"),
        ({"temperature": torch.tensor(-0.1)}, "positive number, found -0.1"),
        ({"temperature": torch.tensor(0.0)}, "positive number, found 0"),
        ({"dims": (4,)}, "1..3"),
        ({"dims": (3, 1.9)}, "whole numbers, found"),
        ({"dims": (3, 1), "dim_weights": (1.0, float("nan"))}, "finite numbers >= 0"),
        ({"dims": (3, 1), "dim_weights": (1.0, -1.0)}, "finite numbers >= 0"),
    ],
)
def test_bad_arguments_say_expected_and_found(change, message):
    given = {"candidates": torch.ones(2, 4, 3), "teacher_scores": torch.ones(2, 4), "temperature": 0.1, **change}
    with pytest.raises(ValueError, match=message):
        kl_list_loss(torch.ones(2, 3), **given)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.bool, torch.complex64])
def test_numbers_that_are_not_floating_are_refused(dtype):
    queries, candidates = torch.ones(2, 3).to(dtype), torch.ones(2, 4, 3).to(dtype)
    with pytest.raises(TypeError, match=f"queries: expected float16, bfloat16, float32 or float64, found {dtype}"):
        kl_list_loss(queries, candidates, torch.ones(2, 4), temperature=0.1)


def test_none_is_no_tensor():
    with pytest.raises(TypeError, match="candidates: expected a tensor, found NoneType"):
        kl_list_loss(torch.ones(2, 3), None, torch.ones(2, 4), temperature=0.1)
