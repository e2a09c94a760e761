"""Checks that each package and each of its rooms exports what its ``__all__`` says."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType

PACKAGES = Path(__file__).parents[1] / "packages"


def room_names() -> Iterator[str]:
    """The packages and their rooms: gecko_core, gecko_core.io and so on."""
    for package in sorted(PACKAGES.glob("*/src/gecko_*")):
        yield package.name
        yield from (f"{package.name}.{init.parent.name}" for init in sorted(package.glob("*/__init__.py")))


def problems(room: str) -> Iterator[str]:
    """What is wrong with the exports of a room."""
    module = import_module(room)
    for name in getattr(module, "__all__", ()):
        if not hasattr(module, name) or name not in dir(module):
            yield f"lacks {name}, which its __all__ names"
        elif isinstance(getattr(module, name), ModuleType):
            yield f"exports the module {name}; give the export or the file another name"


def main() -> int:
    """Print what is wrong; 1 if there is anything."""
    lines = [f"{room} {problem}" for room in room_names() for problem in problems(room)]
    print("\n".join(lines), end="\n" if lines else "")
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main())
