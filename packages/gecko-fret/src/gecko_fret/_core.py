"""The ``gecko_core`` that is installed, which must be this project's: on the public registry the name is another one's.

A stranger's package of this name has no ``gecko_core.lazy``; an older or later one of ours has another version.
"""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path
from typing import NoReturn

__all__ = ["lazy_exports"]


def _refuse(version: str) -> NoReturn:
    spec = find_spec("gecko_core")
    found = f"{spec.origin} is {version}" if spec else "it is not installed"
    line = (
        f"gecko_fret needs gecko-core 1 of the same project, and {found}; install all packages together, from one "
        "clone, git URL or wheel folder (docs/installing.md): the registry's gecko-core is another project's"
    )
    if Path(sys.argv[0]).name in ("-m", "gecko-fret", "gecko-fret.exe"):
        print(f"error: {line}", file=sys.stderr)
        raise SystemExit(2)
    raise ImportError(line)


try:
    from gecko_core import __version__ as _version
    from gecko_core.lazy import lazy_exports
except ImportError:
    _refuse("another project's")
if _version.partition(".")[0] != "1":
    _refuse(f"version {_version}")
