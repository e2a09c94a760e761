import errno
import os
import subprocess
import sys

import pytest

from gecko_core.errors import ConfigError, DataError
from gecko_core.writing import lock_file, whole_file


def test_a_file_appears_when_it_is_complete(tmp_path):
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    with whole_file(path) as file:
        file.write(b"new")
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    with pytest.raises(TypeError), whole_file(path) as file:
        file.writelines([b"half", None])
    with pytest.raises(DataError, match=r"a\.bin: cannot be written \(No space left on device\)"), whole_file(path):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(DataError, match="cannot be written"), whole_file(tmp_path / "no" / "folder"):
        pass


def test_a_lock_keeps_others_out_until_it_is_closed(tmp_path):
    pytest.importorskip("fcntl")
    code = (
        "import sys; from pathlib import Path; from gecko_core.errors import ConfigError\n"
        "from gecko_core.writing import lock_file\n"
        "try: lock_file(Path(sys.argv[1]), ConfigError('busy')); print('mine')\n"
        "except ConfigError as e: print(e)"
    )

    def other():
        command = [sys.executable, "-c", code, str(tmp_path / "lock")]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    with lock_file(tmp_path / "lock", ConfigError("busy")):
        assert other() == "busy"
    assert other() == "mine"
    with pytest.raises(OSError, match="No such file"):
        lock_file(tmp_path / "no" / "lock", ConfigError("busy"))
