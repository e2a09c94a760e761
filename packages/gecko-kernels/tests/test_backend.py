"""Dispatch by environment variable, and life without triton."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch

from gecko_kernels import masked_mean_pool, same_tower_softmax_loss
from gecko_kernels._backend import choose_backend


def test_auto_is_torch_on_cpu(monkeypatch):
    monkeypatch.delenv("GECKO_KERNELS_BACKEND", raising=False)
    assert choose_backend(torch.ones(1)) == "torch"


def test_unknown_word_is_refused(monkeypatch):
    monkeypatch.setenv("GECKO_KERNELS_BACKEND", "cuda")
    with pytest.raises(ValueError, match="auto, reference, torch, triton, found 'cuda'"):
        same_tower_softmax_loss(torch.ones(2, 2), torch.ones(2, 2), temperature=0.1)


def test_triton_is_refused_where_it_cannot_run(monkeypatch):
    monkeypatch.setenv("GECKO_KERNELS_BACKEND", "triton")
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    with pytest.raises(RuntimeError, match="unset it to run in PyTorch"):
        masked_mean_pool(torch.ones(2, 2, 2), torch.ones(2, 2))
    with pytest.raises(RuntimeError, match=r"torch\.float64"):
        masked_mean_pool(torch.ones(2, 2, 2).double(), torch.ones(2, 2))


def printed_by(program):
    """The lines that a Python program prints in a process without our variables."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("GECKO_", "TRITON_"))}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_package_works_without_triton():
    """A finder that hides triton stands for a machine without it."""
    program = (
        "import sys\n"
        "class Hide:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.split('.')[0] == 'triton': raise ModuleNotFoundError(name)\n"
        "sys.meta_path.insert(0, Hide())\n"
        "import torch, gecko_kernels\n"
        "x = torch.eye(3).requires_grad_()\n"
        "gecko_kernels.same_tower_softmax_loss(x, x, temperature=0.1).backward()\n"
        "gecko_kernels.block_kl_loss(x, x, torch.eye(3), temperature=0.1).backward()\n"
        "gecko_kernels.masked_mean_pool(x[None], torch.ones(1, 3))\n"
        "print(float(x.grad.isfinite().all()))\n"
    )
    assert printed_by(program) == ["1.0"]


@pytest.mark.parametrize(("version", "auto"), [("3.3.1", "torch"), ("3.4.0", "triton"), ("4.0.0+git", "triton")])
def test_a_triton_that_cannot_compile_the_kernels_is_not_chosen(tmp_path, version, auto):
    (tmp_path / "triton").mkdir()
    (tmp_path / "triton" / "__init__.py").write_text(f"__version__ = '{version}'\n")
    program = (
        "import os, sys, types\n"
        f"sys.path.insert(0, {str(tmp_path)!r})\n"
        "import torch\n"
        "from gecko_kernels._backend import choose_backend\n"
        "tensor = types.SimpleNamespace(is_cuda=True, dtype=torch.bfloat16, device='cuda:0')\n"
        "print(choose_backend(tensor))\n"
        "os.environ['GECKO_KERNELS_BACKEND'] = 'triton'\n"
        "try:\n"
        "    print(choose_backend(tensor))\n"
        "except RuntimeError as error:\n"
        "    print(error)\n"
    )
    chosen, asked = printed_by(program)
    assert chosen == auto
    assert (
        "triton" if auto == "triton" else f"needs Triton 3.4 or newer (PyTorch 2.8 brings it), found {version[:3]}"
    ) in asked
