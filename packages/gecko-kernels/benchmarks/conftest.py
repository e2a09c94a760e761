"""Loads what the benchmarks share, wherever pytest is started."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="session")
def compositions() -> ModuleType:
    path = Path(__file__).with_name("compositions.py")
    spec = importlib.util.spec_from_file_location("kernel_compositions", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
