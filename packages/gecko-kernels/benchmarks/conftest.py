"""Loads what the benchmarks share, wherever pytest is started."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest


def load(name: str) -> ModuleType:
    path = Path(__file__).with_name(f"{name}.py")
    spec = importlib.util.spec_from_file_location(f"kernel_{name}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def compositions() -> ModuleType:
    return load("compositions")


@pytest.fixture(scope="session")
def block_compositions() -> ModuleType:
    return load("block_compositions")
