"""Checks that tests mirror the source: gecko-x/tests/a/test_b.py tests gecko_x/a/b.py (or _b.py, or b/)."""

from __future__ import annotations

import sys
from pathlib import Path

PACKAGES = Path(__file__).parents[1] / "packages"
# Tests of something that is not one file, and what that is.
OF_MORE_THAN_ONE_FILE = {
    "gecko-kernels/tests/test_ahead_of_time.py": "the Triton kernels, compiled for GPUs that are not there",
    "gecko-kernels/tests/test_interpreted.py": "the Triton kernels, interpreted",
    "gecko-fret/tests/test_quickstart.py": "a whole build",
    "gecko-eval/tests/test_known_truth.py": "benchmarks/known_truth.py",
    "gecko-eval/tests/test_prefetch.py": "a command that runs alone",
    "gecko-eval/tests/test_readme.py": "README.md",
    "gecko-train/tests/test_extending.py": "what a new loss term and a new source take",
}


def tested_files(test: Path) -> list[Path]:
    """What a test file may stand for, by its path below ``packages``."""
    package, _, *folders = test.parts[:-1]
    name = test.stem.removeprefix("test_")
    source = Path(package, "src", package.replace("-", "_"), *folders)
    return [source / f"{name}.py", source / f"_{name}.py", source / f"__{name}__.py", source / name]


def main() -> int:
    """Print the test files that mirror nothing and the exceptions that are none; 1 if there are any."""
    tests = [path.relative_to(PACKAGES) for path in sorted(PACKAGES.glob("*/tests/**/test_*.py"))]
    alone = {
        test.as_posix(): tested_files(test)[0]
        for test in tests
        if not any((PACKAGES / file).exists() for file in tested_files(test))
    }
    for test, expected in alone.items():
        if test not in OF_MORE_THAN_ONE_FILE:
            print(f"packages/{test}: no packages/{expected}; move the test to where its source is")
    needless = OF_MORE_THAN_ONE_FILE.keys() - alone.keys()
    for test in sorted(needless):
        print(f"packages/{test}: an exception in .ci/check_tests.py that is not needed; remove it")
    return int(bool(needless or alone.keys() - OF_MORE_THAN_ONE_FILE.keys()))


if __name__ == "__main__":
    sys.exit(main())
