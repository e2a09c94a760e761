import os
import subprocess
import sys

import pytest

from gecko_core.io import bring_back, is_leftover, remove_leftovers, whole_folder, write_text


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
        "import os, pathlib, sys; from gecko_core.io import files, whole_folder\n"
        "files._exchange = lambda one, other: False\n"
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


def test_a_folder_that_was_replaced_is_deleted(tmp_path):
    for name in ("model", ".model.123.old", ".model.7.old", ".other.old"):
        (tmp_path / name).mkdir()
        (tmp_path / name / f"of {name}").touch()
    remove_leftovers(tmp_path)
    # .other.old carries no process number: it is somebody else's.
    assert sorted(entry.name for entry in tmp_path.iterdir()) == [".other.old", "model"]
    assert [entry.name for entry in (tmp_path / "model").iterdir()] == ["of model"]


def test_a_reader_brings_a_folder_back_that_was_about_to_be_replaced(tmp_path):
    old = tmp_path / ".model.123-abcdef.old"
    old.mkdir()
    (old / "weights").touch()
    bring_back(tmp_path / "model")
    assert [entry.name for entry in (tmp_path / "model").iterdir()] == ["weights"]


def test_the_next_writer_clears_away_what_a_killed_one_left(tmp_path):
    code = (
        "import os, sys; from pathlib import Path; from gecko_core.io import whole_folder, whole_path\n"
        "with whole_path(Path(sys.argv[1]) / 'a') as one, whole_folder(Path(sys.argv[1]) / 'b') as other:\n"
        " one.touch(); (other / 'half').touch(); os._exit(9)\n"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
    left = [entry.name for entry in tmp_path.iterdir()]
    assert len(left) == 2
    assert all(map(is_leftover, left))
    (tmp_path / f".a.{os.getpid() - 1}-000000.tmp").touch()  # of another machine
    write_text(tmp_path / "a", "x")
    with whole_folder(tmp_path / "b"):
        pass
    assert sorted(entry.name for entry in tmp_path.iterdir()) == [f".a.{os.getpid() - 1}-000000.tmp", "a", "b"]


def test_a_users_own_hidden_files_are_not_leftovers(tmp_path):
    for name in (".notes.tmp", ".a.b.tmp", "a.12.tmp", ".a.12.bak"):
        (tmp_path / name).touch()
        assert not is_leftover(name)
    remove_leftovers(tmp_path)
    assert len(list(tmp_path.iterdir())) == 4
