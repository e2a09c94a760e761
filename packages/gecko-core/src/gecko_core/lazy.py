"""Names that a package exports but imports only when they are first used."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from importlib import import_module
from typing import Any

__all__ = ["lazy_exports"]


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
