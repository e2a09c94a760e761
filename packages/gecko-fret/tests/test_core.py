import os
import subprocess
import sys

import pytest


def run(tmp_path, *arguments):
    """A Python that finds the packages of ``tmp_path`` first."""
    return subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
    )


@pytest.mark.parametrize(
    ("files", "found"),
    [
        ({"__init__.py": "__version__ = '0.2.26'\n"}, "is another project's"),
        ({"__init__.py": "__version__ = '0.1.0'\n", "lazy.py": "lazy_exports = None\n"}, "is version 0.1.0"),
    ],
)
def test_a_strangers_gecko_core_is_noticed_in_one_line(tmp_path, files, found):
    (tmp_path / "gecko_core").mkdir()
    for name, text in files.items():
        (tmp_path / "gecko_core" / name).write_text(text)
    done = run(tmp_path, "-c", "import gecko_fret")
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith("ImportError: gecko_fret needs gecko-core 1 of the same project")
    assert found in last
    assert str(tmp_path) in last
    command = run(tmp_path, "-m", "gecko_fret", "--help")
    assert (command.returncode, command.stdout) == (2, "")
    assert command.stderr.startswith("error: gecko_fret needs gecko-core 1")
    assert command.stderr.count("\n") == 1
