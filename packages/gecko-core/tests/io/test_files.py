import errno
import json
import os
import subprocess
import sys

import pytest

from gecko_core.errors import ConfigError, DataError, ModelError
from gecko_core.io import (
    files,
    locked,
    read_json,
    remove_leftovers,
    whole_file,
    whole_folder,
    whole_path,
    write_json,
    write_text,
)


def test_a_file_appears_when_it_is_complete(tmp_path):
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    with whole_file(path) as file:
        file.write(b"new")
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


def test_its_folder_is_made(tmp_path):
    with whole_path(tmp_path / "new" / "a.txt") as temporary:
        temporary.write_text("whole")
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["a.txt"]


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    with pytest.raises(TypeError), whole_file(path) as file:
        file.writelines([b"half", None])
    with pytest.raises(DataError, match=r"a\.bin: cannot be written \(No space left on device\)"), whole_file(path):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(DataError, match="cannot be written"):
        write_text(path / "below-a-file", "x")


def test_json_that_cannot_be_written_leaves_the_old_one(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, {"v": 1})
    with pytest.raises(TypeError):
        write_json(path, {"v": object()})
    assert json.loads(path.read_text()) == {"v": 1}


def test_json_comes_back(tmp_path):
    write_json(tmp_path / "a.json", {"v": "ü"})
    assert read_json(tmp_path / "a.json") == {"v": "ü"}
    write_json(tmp_path / "b.json", [1])
    assert read_json(str(tmp_path / "b.json"), list) == [1]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "missing"),
        (b"{", "cannot be read as JSON"),
        (b"\xff", "cannot be read as JSON"),
        (b"[" * 100_000, "cannot be read as JSON"),
        (b"[1]", "must hold a JSON object, holds a list"),
    ],
)
def test_a_file_that_is_not_the_json_it_should_be_is_one_line(tmp_path, content, message):
    path = tmp_path / "a.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ModelError) as caught:
        read_json(path, error=ModelError)
    assert str(caught.value).startswith(f"{path}: {message}")
    assert str(caught.value).endswith("; restore the file")
    assert "\n" not in str(caught.value)


def test_json_in_a_place_that_cannot_be_read(tmp_path):
    with pytest.raises(DataError, match=r"cannot be read as JSON \(Is a directory\); restore the file$"):
        read_json(tmp_path)


def test_a_disk_that_is_full_when_flushed(tmp_path, monkeypatch):
    def full(path):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files, "flush", full)
    with pytest.raises(DataError, match=r"a\.json: cannot be written \(No space left on device\); make room"):
        write_json(tmp_path / "a.json", {})
    assert list(tmp_path.iterdir()) == []


def test_half_a_surrogate_pair_is_written_as_an_escape(tmp_path):
    write_text(tmp_path / "a.txt", "x\ud800")
    assert (tmp_path / "a.txt").read_text() == "x\\ud800"


def test_a_folder_is_replaced_in_one_step_or_not_at_all(tmp_path):
    path = tmp_path / "model"
    path.mkdir()
    (path / "old").write_text("old")

    def full():
        with whole_folder(path) as temporary:
            (temporary / "new").write_text("half")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(DataError, match="cannot be written"):
        full()
    assert [entry.name for entry in path.iterdir()] == ["old"]
    with whole_folder(path) as temporary:
        (temporary / "deep").mkdir()
        (temporary / "deep" / "new").write_text("whole")
        assert [entry.name for entry in path.iterdir()] == ["old"]
    assert [entry.name for entry in path.rglob("*")] == ["deep", "new"]
    assert list(tmp_path.iterdir()) == [path]


def test_leftovers_of_a_killed_process_are_removed(tmp_path):
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / ".a.json.123.tmp").write_text("half")
    (tmp_path / ".step-1.123.tmp").mkdir()
    (tmp_path / ".step-1.123.tmp" / "model").write_text("half")
    (tmp_path / "parts" / "a.json").write_text("whole")
    remove_leftovers(tmp_path)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a.json", "parts"]


def test_a_folder_whose_replacement_was_killed_between_two_renames_comes_back(tmp_path):
    path = tmp_path / "model"
    code = (
        "import os, pathlib, sys; from gecko_core.io import whole_folder\n"
        "rename = pathlib.Path.rename\n"
        "def rename_and_die(old, new):\n rename(old, new); os._exit(9)\n"
        "with whole_folder(sys.argv[1]) as folder:\n"
        " (folder / 'new').touch(); pathlib.Path.rename = rename_and_die\n"
    )

    def killed():
        assert subprocess.run([sys.executable, "-c", code, str(path)], check=False).returncode == 9
        assert not path.exists()

    with whole_folder(path) as temporary:
        (temporary / "old").touch()
    killed()
    remove_leftovers(tmp_path)
    assert sorted(entry.name for entry in tmp_path.rglob("*")) == ["model", "old"]
    killed()
    with pytest.raises(ValueError, match="stop"), whole_folder(path):
        raise ValueError("stop")
    assert [entry.name for entry in path.iterdir()] == ["old"]
    killed()
    with whole_folder(path) as temporary:
        assert [entry.name for entry in path.iterdir()] == ["old"]
        (temporary / "new").touch()
    assert [entry.name for entry in path.iterdir()] == ["new"]
    remove_leftovers(tmp_path)
    assert sorted(entry.name for entry in tmp_path.rglob("*")) == ["model", "new"]


def test_a_folder_is_kept_when_its_replacement_is_interrupted_between_two_renames(tmp_path, monkeypatch):
    path = tmp_path / "model"
    with whole_folder(path) as temporary:
        (temporary / "old").touch()
    rename = type(path).rename

    def interrupted(source, target):
        if source.suffix == ".tmp":
            raise KeyboardInterrupt
        return rename(source, target)

    monkeypatch.setattr(type(path), "rename", interrupted)
    with pytest.raises(KeyboardInterrupt), whole_folder(path) as temporary:
        (temporary / "new").touch()
    assert sorted(entry.name for entry in tmp_path.rglob("*")) == ["model", "old"]


def test_a_folder_that_was_replaced_is_deleted(tmp_path):
    for name in ("model", ".model.123.old", ".model.7.old", ".other.old"):
        (tmp_path / name).mkdir()
        (tmp_path / name / f"of {name}").touch()
    remove_leftovers(tmp_path)
    # .other.old carries no process number: it is somebody else's.
    assert sorted(entry.name for entry in tmp_path.iterdir()) == [".other.old", "model"]
    assert [entry.name for entry in (tmp_path / "model").iterdir()] == ["of model"]


def test_a_lock_keeps_others_out_until_it_is_released(tmp_path):
    code = (
        "import sys; from gecko_core.errors import ConfigError\n"
        "from gecko_core.io import locked\n"
        "try:\n with locked(sys.argv[1], ConfigError('busy')): print('mine')\n"
        "except ConfigError as error: print(error)"
    )

    def other():
        command = [sys.executable, "-c", code, str(tmp_path / "lock")]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    with locked(tmp_path / "lock", ConfigError("busy")):
        assert other() == "busy"
    assert other() == "mine"


def test_a_lock_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(DataError, match="cannot be written"), locked(tmp_path / "file" / "lock", ConfigError("busy")):
        pass
