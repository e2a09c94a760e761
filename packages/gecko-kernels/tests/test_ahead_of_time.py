"""Compiles the kernels for three architectures, no GPU needed: tensor cores, and registers and memory that suffice."""

from __future__ import annotations

import os
import re
import subprocess
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from gecko_kernels.triton.tiles import DESCRIBED, Tile, choose_tile

if find_spec("triton") is None or os.environ.get("TRITON_INTERPRET") == "1":
    pytest.skip("needs triton's compiler", allow_module_level=True)

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from gecko_kernels.triton.descriptors import TensorDescriptor

if TensorDescriptor is None:
    pytest.skip("needs the compiler's interface of Triton 3.4", allow_module_level=True)

from gecko_kernels.triton import block_kl as triton_block
from gecko_kernels.triton import block_kl_kernels, contrastive_kernels
from gecko_kernels.triton import contrastive as triton_loss
from gecko_kernels.triton import norms as triton_norms
from gecko_kernels.triton import pooling as triton_pooling

SHARED_MEMORY = {80: 163 * 1024, 90: 227 * 1024, 100: 227 * 1024}  # bytes a block may use (CUDA programming guide)
TENSOR_CORES = {80: "mma.sync", 90: "wgmma.mma_async", 100: "tcgen05.mma"}
NAMES = {torch.bfloat16: "bf16", torch.float16: "fp16", torch.float32: "fp32"}
SPILLED = 128  # bytes of a thread: as many as tiles that were among the fastest measured on an H200
FLOATS = {"hardness", "inverse_a"}
INTEGERS = {
    "rows",
    "columns",
    "hard",
    "offset",
    "first",
    "strip",
    "count",
    "depth",
    "length",
    "width",
    "span",
    "hard_span",
}
IDS = {"query_ids", "positive_ids", "negative_ids", "starts", "ends"}
EMBEDDINGS = {
    "queries", "positives", "documents", "key_queries", "negatives", "keys", "vectors", "negative_gradient", "hidden",
}  # fmt: skip


# Argument -> whether the descriptor's tiles are rows (0) or columns (1) of the kernel's.
DESCRIPTORS = {"query_tiles": 0, "key_tiles": 1, "positive_tiles": 1, "tower_tiles": 1, "document_tiles": 1}


def type_of(name: str, dtype: torch.dtype) -> str:
    if name in FLOATS:
        return "fp32"
    if name in INTEGERS:
        return "i32"
    if name in IDS:
        return "*i64"
    if name == "valid":
        return "*u8"
    if name in EMBEDDINGS:
        return "*" + NAMES[dtype]
    return "*bf16" if name == "coefficients" and dtype == torch.bfloat16 else "*fp32"


def compile_kernel(kernel, constants, dtype, tile, architecture, described=False):  # type: ignore[no-untyped-def]
    names = [parameter.name for parameter in kernel.params]
    absent = ["negative_tiles"] if described else ["negative_tiles", *DESCRIPTORS]
    fixed = {name: value for name, value in {**constants, **dict.fromkeys(absent)}.items() if name in names}
    types = {name: "constexpr" if name in fixed else type_of(name, dtype) for name in names}
    if described:
        heights = tile.rows, tile.columns
        types |= {
            name: f"tensordesc<{NAMES[dtype]}[{heights[DESCRIPTORS[name]]}, {tile.depth}]>"
            for name in names
            if name in DESCRIPTORS
        }
    aligned = {(names.index(name),): [["tt.divisibility", 16]] for name in names if types[name].startswith("*")}
    source = ASTSource(kernel, types, {(names.index(name),): value for name, value in fixed.items()}, aligned)
    options = {"num_warps": tile.warps, "num_stages": tile.stages}
    return triton.compile(source, target=GPUTarget("cuda", architecture, 32), options=options)


def stack_bytes(cubin: bytes, folder: Path) -> int:
    """What the kernel keeps in local memory, by cuobjdump: registers that did not fit."""
    file = folder / "kernel.cubin"
    file.write_bytes(cubin)
    tool = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"
    usage = subprocess.run([tool, "-res-usage", file], capture_output=True, text=True, check=True).stdout
    found = re.search(r"STACK:(\d+).*LOCAL:(\d+)", usage)
    assert found, usage
    return int(found[1]) + int(found[2])


KERNELS = {
    "forward": contrastive_kernels.forward_kernel,
    "coefficient": contrastive_kernels.coefficient_kernel,
    "product": contrastive_kernels.product_kernel,
    "block_forward": block_kl_kernels.block_forward_kernel,
    "block_coefficient": block_kl_kernels.block_coefficient_kernel,
}


def check(name, dims, dtype, architecture, folder, kind=1, symmetric=True, transposed=False, shared=False, ones=()):  # type: ignore[no-untyped-def]
    tile = choose_tile(name, len(dims), dtype, architecture)
    wide = name == "product" and dtype == torch.float16
    constants = {
        "WIDTH": 768, "OUT_WIDTH": 768, "STARTS": (0, *dims[:-1]), "DIMS": dims, "M": len(dims),
        "LO": 0, "HI": dims[0], "TRANSPOSED": transposed,
        "HAS_TOWER": True, "HAS_OWN": not shared, "HAS_SHARED": shared, "KIND": kind, "SYMMETRIC": symmetric,
        "HAS_QUERY_IDS": True, "HAS_POSITIVE_IDS": True, "HAS_NEGATIVE_IDS": True,
        "BLOCK_M": tile.rows, "BLOCK_N": tile.columns, "BLOCK_K": tile.depth // 2 if wide else tile.depth,
        "PRECISION": "tf32" if dtype == torch.float32 or wide else "ieee",
    }  # fmt: skip
    constants.update(dict.fromkeys(ones, 1))  # a launch turns arguments that are 1 into constants
    built = compile_kernel(KERNELS[name], constants, dtype, tile, architecture)
    assert TENSOR_CORES[architecture] in built.asm["ptx"]
    assert built.metadata.shared <= SHARED_MEMORY[architecture]
    assert stack_bytes(built.asm["cubin"], folder) <= SPILLED


@pytest.mark.parametrize("architecture", [90, 100])
@pytest.mark.parametrize("dims", [(768,), (256, 768), (64, 128, 256, 512, 768)])
@pytest.mark.parametrize("name", DESCRIBED[90])
def test_described_tiles_copy_by_hardware_and_fit(name, dims, architecture):
    tile = choose_tile(name, len(dims), torch.bfloat16, architecture, described=True)
    constants = {
        "WIDTH": 768, "STARTS": (0, *dims[:-1]), "DIMS": dims, "M": len(dims),
        "HAS_TOWER": True, "HAS_OWN": False, "HAS_SHARED": False, "KIND": 1,
        "SYMMETRIC": True, "HAS_QUERY_IDS": True, "HAS_POSITIVE_IDS": True, "HAS_NEGATIVE_IDS": False,
        "BLOCK_M": tile.rows, "BLOCK_N": tile.columns, "BLOCK_K": tile.depth, "PRECISION": "ieee",
    }  # fmt: skip
    built = compile_kernel(KERNELS[name], constants, torch.bfloat16, tile, architecture, described=True)
    assert "cp.async.bulk.tensor" in built.asm["ptx"]
    assert TENSOR_CORES[architecture] in built.asm["ptx"]
    assert built.metadata.shared <= SHARED_MEMORY[architecture]


@pytest.mark.parametrize("name", KERNELS)
@pytest.mark.parametrize("architecture", [80, 90, 100])
def test_two_prefixes_in_bfloat16(name, architecture, tmp_path):
    check(name, (256, 768), torch.bfloat16, architecture, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("dims", [(768,), (64, 128, 256, 512, 768)], ids=["one-prefix", "five-prefixes"])
@pytest.mark.parametrize("architecture", [80, 90, 100])
def test_other_prefixes(dims, architecture, tmp_path):
    check("forward", dims, torch.bfloat16, architecture, tmp_path)
    check("coefficient", dims, torch.bfloat16, architecture, tmp_path)
    check("coefficient", dims, torch.bfloat16, architecture, tmp_path, kind=0, symmetric=False)
    check("product", dims, torch.bfloat16, architecture, tmp_path, transposed=True)
    check("block_forward", dims, torch.bfloat16, architecture, tmp_path)
    check("block_coefficient", dims, torch.bfloat16, architecture, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
@pytest.mark.parametrize("architecture", [80, 90, 100])
def test_other_dtypes(dtype, architecture, tmp_path):
    for name in KERNELS:
        check(name, (256, 768), dtype, architecture, tmp_path)


def test_kernels_without_matrix_products_compile(tmp_path):
    tile = choose_tile("forward", 2, torch.bfloat16, 90)
    constants = {
        "WIDTH": 768, "OUT_WIDTH": 768, "STARTS": (0, 256), "DIMS": (256, 768), "M": 2, "HAS_NEGATIVE_IDS": True,
        "BLOCK_M": triton_loss.OWN_ROWS, "BLOCK_K": triton_loss.OWN_DEPTH,
    }  # fmt: skip
    built = compile_kernel(contrastive_kernels.own_negatives_kernel, constants, torch.bfloat16, tile, 90)
    assert stack_bytes(built.asm["cubin"], tmp_path) == 0


def test_teacher_kernel_compiles(tmp_path):
    constants = {"BLOCK": triton_block.TEACHER_COLUMNS}
    for ones in ((), ("columns",)):
        fixed = {**constants, **dict.fromkeys(ones, 1)}
        built = compile_kernel(block_kl_kernels.teacher_kernel, fixed, torch.float32, Tile(0, 0, 0, 4, 3), 90)
        assert stack_bytes(built.asm["cubin"], tmp_path) == 0


@pytest.mark.parametrize("packed", [False, True])
def test_pooling_compiles(packed, tmp_path):
    narrow = {
        "BLOCK_T": triton_pooling.BLOCK_TOKENS, "BLOCK_D": triton_pooling.BLOCK_COLUMNS,
        "BLOCK_V": triton_pooling.MASK_BLOCK, "STAGES": triton_pooling.STAGES,
    }  # fmt: skip
    plain = {"NORMALIZE": False, "DIMS": (0,), "M": 0, **narrow}
    chosen = [(triton_pooling.spread_kernel, narrow), (triton_pooling.mean_kernel, plain)]
    for width in (1024, 4096):
        fused = {"NORMALIZE": True, "DIMS": (width, 256), "M": 2}
        sizes = {**narrow, "BLOCK_T": triton_pooling.STEP // width, "BLOCK_D": width}
        chosen.append((triton_pooling.mean_kernel, {**fused, **sizes}))
    for kernel, constants in chosen:
        built = compile_kernel(kernel, {"PACKED": packed, **constants}, torch.bfloat16, Tile(0, 0, 0, 4, 3), 90)
        assert stack_bytes(built.asm["cubin"], tmp_path) == 0


@pytest.mark.slow
@pytest.mark.parametrize("architecture", [80, 90, 100])
def test_shared_negatives_and_odd_widths(architecture, tmp_path):
    check("forward", (40, 333), torch.bfloat16, architecture, tmp_path, shared=True)
    check("coefficient", (40, 333), torch.bfloat16, architecture, tmp_path, kind=2, symmetric=False)
    check("block_forward", (40, 333), torch.bfloat16, architecture, tmp_path)
    check("block_coefficient", (40, 333), torch.bfloat16, architecture, tmp_path)


@pytest.mark.parametrize("name", KERNELS)
def test_one_row_and_one_column(name, tmp_path):
    ones = ("rows", "columns", "hard", "strip", "count", "depth")
    check(name, (16,), torch.bfloat16, 90, tmp_path, kind=0, symmetric=False, ones=ones)


@pytest.mark.parametrize("kernel", [triton_pooling.mean_kernel, triton_pooling.spread_kernel])
def test_pooling_is_compiled_once_for_all_lengths(kernel):
    """The longest text is another one in every batch; none is to be compiled for in the midst of training."""
    assert [param.name for param in kernel.params if param.do_not_specialize] == ["length"]


@pytest.mark.parametrize("module", [contrastive_kernels, block_kl_kernels, triton_norms, triton_pooling])
def test_constants_equal_themselves(module):
    """A launch compares global constants with their values at compilation: NaN would refuse the second one."""
    constants = [value for value in vars(module).values() if isinstance(value, triton.language.constexpr)]
    assert constants
    assert all(constant.value == constant.value for constant in constants)


def test_norms_compile(tmp_path):
    dims = {"STARTS": (0, 256), "DIMS": (256, 768), "M": 2}
    constants = {"WIDTH": 768, "OUT_WIDTH": 768, **dims, "BLOCK_R": 8, "BLOCK_D": 256}
    for kernel in (triton_norms.norms_kernel, triton_norms.finish_kernel):
        built = compile_kernel(kernel, constants, torch.bfloat16, Tile(0, 0, 0, 4, 3), 90)
        assert stack_bytes(built.asm["cubin"], tmp_path) == 0
