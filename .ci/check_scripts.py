"""Whether scripts that no test runs still fit the packages: names that they import, attributes and arguments.

    python .ci/check_scripts.py

Benchmarks and experiments take minutes, so that most of them run when somebody wants their result. A rename in a
package would break them unseen. mypy finds that without running them; their annotations are not checked here.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
FOLDERS = (*sorted(ROOT.glob("packages/*/benchmarks")), ROOT / "experiments")
#: What ends a script when it runs: a name, an attribute, an argument or an import that there is not.
FATAL = {"attr-defined", "call-arg", "name-defined", "import-not-found", "no-redef", "syntax"}


def main() -> int:
    sources = [str(path) for path in sorted(ROOT.glob("packages/*/src"))]
    faults = []
    for folder in FOLDERS:
        environment = os.environ | {"MYPYPATH": os.pathsep.join([*sources, str(folder)])}
        found = subprocess.run(
            [
                sys.executable, "-m", "mypy", "--config-file", os.devnull, "--python-version", "3.11",
                "--explicit-package-bases", "--follow-imports", "silent", "--ignore-missing-imports",
                "--check-untyped-defs", "--no-error-summary", "--hide-error-context", "--no-pretty",
                *map(str, sorted(folder.glob("*.py"))),
            ],
            cwd=ROOT, env=environment, capture_output=True, text=True,
        )  # fmt: skip
        if found.returncode > 1:
            print(found.stdout + found.stderr, file=sys.stderr)
            return found.returncode
        lines = found.stdout.splitlines()
        faults += [
            line for line in lines if ": error: " in line and line.endswith(tuple(f"[{code}]" for code in FATAL))
        ]
    print(*faults, sep="\n", end="\n" if faults else "")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
