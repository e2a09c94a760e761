"""Imports that wait until a name is first used, and imports that leave out what a module would like to have."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from importlib import import_module
from types import ModuleType
from typing import Any

__all__ = ["import_without", "lazy_exports"]


def import_without(name: str, unwanted: str) -> ModuleType:
    """Import a module as if one of its optional packages were not installed.

    bm25s calls JAX when it is imported, and JAX then takes three quarters of a GPU's memory for itself: of the memory
    that the models of this process, and of all others, need. A package that is loaded already stays what it is.

    Args:
        name: the module.
        unwanted: a package that it does without.

    Raises:
        ImportError: the module is not installed.
    """
    if name in sys.modules or unwanted in sys.modules:
        return import_module(name)
    sys.modules[unwanted] = None  # type: ignore[assignment]  # "not to be found", to the import system
    try:
        return import_module(name)
    finally:
        del sys.modules[unwanted]


def lazy_exports(
    package: str, names: Mapping[str, str], exported: Iterable[str] = ()
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Make ``__getattr__`` and ``__dir__`` of a package whose names live in modules that are slow to import.

    ``__getattr__, __dir__ = lazy_exports(__name__, {"Gecko": "gecko_core.model"})``; type checkers learn of the names
    from imports under ``TYPE_CHECKING``.

    Args:
        package: the package's ``__name__``.
        names: exported name to the module that defines it.
        exported: the package's ``__all__``; further names for ``dir()``.

    Returns:
        The two functions (PEP 562).
    """

    def getattribute(name: str) -> Any:
        if name not in names:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(names[name]), name)

    def directory() -> list[str]:
        return sorted({*names, *exported})

    return getattribute, directory
