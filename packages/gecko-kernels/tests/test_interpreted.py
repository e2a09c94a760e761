"""Runs the kernel tests under Triton's interpreter, in a process of its own.

The interpreter is chosen when a kernel is decorated, that is when its module is imported: too late for a process whose
other tests may have imported it.
"""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest


@pytest.mark.skipif(find_spec("triton") is None, reason="triton is not installed")
@pytest.mark.skipif(os.environ.get("TRITON_INTERPRET") == "1", reason="this is that process")
@pytest.mark.parametrize(
    "name",
    [
        pytest.param("test_block_kl.py", marks=pytest.mark.long),
        pytest.param("test_contrastive.py", marks=pytest.mark.long),
        "test_norms.py",
        "test_pooling.py",
        pytest.param("test_tune.py", marks=pytest.mark.long),
    ],
)
def test_kernels_under_the_interpreter(name):
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            "-m",
            "not gpu",
            str(Path(__file__).parent / "triton" / name),
        ],
        env={**os.environ, "TRITON_INTERPRET": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert " passed" in done.stdout
    assert "skipped" not in done.stdout
