"""Small problems for both operations, and the tolerances with their reasons."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from gecko_kernels._backend import TRITON_COMPILES

# Relative to the largest entry of what is compared. float64: rounding only. float32: sums of products, divided by t.
# bfloat16 and float16: both sides read the same rounded inputs and add in float32; gradients are rounded once to 8 or
# 11 bits on the way out, and the Triton path rounds its coefficients to bfloat16 before the last product.
TRITON = Path(__file__).parent / "triton"
# Run by test_interpreted in a process of their own.
INTERPRETED = ("test_block_kl.py", "test_contrastive.py", "test_norms.py", "test_pooling.py", "test_tune.py")
# PyTorch 2.6 and 2.7 bring a Triton that does not compile the kernels, and needs setuptools to be imported.
collect_ignore_glob = [] if TRITON_COMPILES else ["triton/*", "test_ahead_of_time.py", "test_interpreted.py"]
TOLERANCES = {torch.float64: 1e-11, torch.float32: 5e-5, torch.bfloat16: 1.6e-2, torch.float16: 2e-3}


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "gpu: needs a CUDA device")
    config.addinivalue_line("markers", "slow: minutes rather than seconds; run with -m slow")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """GPU tests need a GPU; kernel tests on CPU belong to the process that ``test_interpreted`` starts."""
    if not torch.cuda.is_available():
        for item in items:
            if "gpu" in item.keywords:
                item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))
    if os.environ.get("TRITON_INTERPRET") == "1":
        return
    interpreted = [item for item in items if item.path.parent == TRITON and item.path.name in INTERPRETED]
    elsewhere = [item for item in interpreted if "gpu" not in item.keywords]
    config.hook.pytest_deselected(items=elsewhere)
    items[:] = [item for item in items if item not in elsewhere]


@pytest.fixture
def tolerances() -> dict[torch.dtype, float]:
    return TOLERANCES


@pytest.fixture
def make_problem() -> Callable[..., tuple[list[Tensor], dict[str, Any]]]:
    """A batch of the loss: [queries, positives(, negatives)] and keyword arguments."""

    def make(
        rows: int = 13,
        width: int = 24,
        hard: int = 1,
        *,
        dtype: torch.dtype = torch.float64,
        temperature: float = 0.05,
        ids: bool = False,
        extra_columns: int = 0,
        seed: int = 0,
        **options: Any,
    ) -> tuple[list[Tensor], dict[str, Any]]:
        generator = torch.Generator().manual_seed(seed)

        def normal(*shape: int) -> Tensor:
            return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)

        columns = rows + extra_columns
        tensors = [normal(rows, width), normal(columns, width)] + ([normal(rows, hard, width)] if hard else [])
        wide = torch.float64 if dtype == torch.float64 else torch.float32
        options = {"temperature": torch.tensor(temperature, dtype=wide), **options}
        if extra_columns:
            options["column_offset"] = extra_columns // 2
            if options.get("same_tower", True):
                options["key_queries"] = normal(columns, width)
        if ids:
            options["query_ids"] = torch.randint(0, max(rows // 2, 2), (columns,), generator=generator)
            options["positive_ids"] = torch.randint(0, rows, (columns,), generator=generator)
            if hard:
                options["negative_ids"] = torch.randint(0, rows, (rows, hard), generator=generator)
        return tensors, options

    return make


@pytest.fixture
def make_block() -> Callable[..., tuple[list[Tensor], dict[str, Any]]]:
    """A block: [queries, documents] and keyword arguments, targets among them, of which a share is not judged."""

    def make(
        rows: int = 13,
        columns: int = 17,
        width: int = 24,
        *,
        dtype: torch.dtype = torch.float64,
        temperature: float = 0.05,
        unjudged: float = 0.3,
        spread: float = 3.0,
        seed: int = 0,
        **options: Any,
    ) -> tuple[list[Tensor], dict[str, Any]]:
        generator = torch.Generator().manual_seed(seed)
        shapes = (rows, width), (columns, width), (rows, columns)
        queries, documents, targets = (torch.randn(s, generator=generator, dtype=torch.float64) for s in shapes)
        targets[torch.rand(rows, columns, generator=generator) < unjudged] = torch.nan
        wide = torch.float64 if dtype == torch.float64 else torch.float32
        return [queries.to(dtype), documents.to(dtype)], {
            "targets": (spread * targets).to(wide), "temperature": torch.tensor(temperature, dtype=wide), **options,
        }  # fmt: skip

    return make


@pytest.fixture
def with_gradients(monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[Tensor, list[Tensor]]]:
    """Run a scalar function of tensors on one backend: its value and the gradients of all inputs that may have one."""

    def run(function: Callable[..., Tensor], backend: str, tensors: list[Tensor], options: dict[str, Any]):  # type: ignore[no-untyped-def]
        monkeypatch.setenv("GECKO_KERNELS_BACKEND", backend)
        leaves = [tensor.detach().clone().requires_grad_() for tensor in tensors]
        named = {
            name: value.detach().clone().requires_grad_()
            if torch.is_tensor(value) and value.is_floating_point() and name != "targets"
            else value
            for name, value in options.items()
        }
        leaves_of_options = [value for value in named.values() if torch.is_tensor(value) and value.requires_grad]
        value = function(*leaves, **named)
        value.backward()
        return value.detach(), [leaf.grad for leaf in (*leaves, *leaves_of_options)]

    return run


@pytest.fixture(params=[1, 256], ids=["one-span", "spans"])
def programs(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program of a forward kernel walks all columns, or one tile of them."""
    from gecko_kernels.triton import spans

    monkeypatch.setattr(spans, "PROGRAMS", request.param)


@pytest.fixture
def assert_near() -> Callable[..., None]:
    """Every entry within a tolerance times the largest expected entry."""

    def check(found: Tensor, expected: Tensor, tolerance: float, floor: float = 1e-6) -> None:
        assert found.shape == expected.shape
        assert found.dtype == expected.dtype
        error = (found.double() - expected.double()).abs().max().item() if found.numel() else 0.0
        scale = max(expected.double().abs().max().item() if expected.numel() else 0.0, floor)
        assert error <= tolerance * scale, f"error {error:.3g} against {scale:.3g}, tolerance {tolerance:.3g}"

    return check
