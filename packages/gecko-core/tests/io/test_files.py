import errno
import json
import os
import pathlib
import shutil
import subprocess
import sys

import pytest

from gecko_core.errors import ConfigError, DataError, ModelError
from gecko_core.io import (
    AppendedLines,
    cache_folder,
    file_hash,
    files,
    is_leftover,
    is_special,
    json_checksum,
    lies_in,
    locked,
    make_folder,
    missing_folders,
    read_json,
    remove_empty,
    remove_folder,
    remove_leftovers,
    unwritable,
    whole_file,
    whole_folder,
    whole_path,
    write_json,
    write_text,
)
from gecko_core.io.leftovers import temporary_name


def test_a_lock_that_is_alone_in_its_folder_goes_with_its_holder(tmp_path):
    busy = ConfigError("busy")
    with pytest.raises(ConfigError, match="refused"), locked(tmp_path / ".lock", busy):
        raise ConfigError("refused")
    assert list(tmp_path.iterdir()) == []
    with locked(tmp_path / ".lock", busy):
        (tmp_path / "work").touch()
    assert sorted(path.name for path in tmp_path.iterdir()) == [".lock", "work"]


def test_where_what_can_be_computed_again_is_kept(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder("gecko-x") == tmp_path / "gecko-x"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert cache_folder("gecko-x") == tmp_path / "home" / ".cache" / "gecko-x"

    def none(*_):
        raise RuntimeError("no home")

    monkeypatch.setattr(files.Path, "home", none)
    with pytest.raises(DataError, match="no home folder to keep gecko-x's files in; set XDG_CACHE_HOME"):
        cache_folder("gecko-x")


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


@pytest.mark.parametrize("below", ["new", "new/er"])
def test_a_file_where_a_folder_should_be_is_one_line(tmp_path, below):
    (tmp_path / "file").write_text("no folder")
    for whole in (whole_path, whole_folder):
        with pytest.raises(DataError, match="cannot be written"), whole(tmp_path / "file" / below):
            raise AssertionError
    assert (tmp_path / "file").read_text() == "no folder"


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


def test_an_object_with_a_checksum_comes_back_without_it_or_not_at_all(tmp_path):
    path = tmp_path / "a.json"
    value = {"b": [1.5, None], "a": {"x": "ü"}}
    write_json(path, value, checksum="sum")
    assert read_json(path, checksum="sum") == value
    assert read_json(path) == {**value, "sum": json_checksum(value)}
    write_json(path, read_json(path), checksum="sum")  # its own checksum is no part of what it is of
    assert read_json(path, checksum="sum") == value
    path.write_text(path.read_text().replace("1.5", "1.6"))
    with pytest.raises(ModelError, match=r"a\.json: damaged \(its checksum is another\); do this$"):
        read_json(path, error=ModelError, cure="do this", checksum="sum")
    write_json(path, value)  # as earlier versions wrote
    assert read_json(path, checksum="sum") == value
    assert json_checksum({"a": 1, "b": 2}) == json_checksum({"b": 2, "a": 1}) != json_checksum({"a": 1, "b": 3})


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names")
def test_a_pipe_has_no_hash(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="is no file"):
        file_hash(tmp_path / "pipe")
    assert is_special(tmp_path / "pipe")
    assert not is_special(tmp_path)
    assert not is_special(tmp_path / "nothing")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names")
def test_a_pipe_in_the_place_of_json_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "results.json")
    with pytest.raises(DataError, match=r"results\.json: is no file; restore the file$"):
        read_json(tmp_path / "results.json")


def test_json_in_a_place_that_cannot_be_read(tmp_path):
    with pytest.raises(DataError, match=r"cannot be read as JSON \(Is a directory\); restore the file$"):
        read_json(tmp_path)


def test_json_that_may_not_be_read_is_not_called_damaged(tmp_path, monkeypatch):
    def as_another_user(path, **options):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(pathlib.Path, "read_text", as_another_user)
    with pytest.raises(DataError, match=r"a\.json: cannot be read \(Permission denied\); see its permissions"):
        read_json(tmp_path / "a.json", cure="fetch the model again")


def test_a_disk_that_is_full_when_flushed(tmp_path, monkeypatch):
    def full(path):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files, "flush", full)
    with pytest.raises(DataError, match=r"a\.json: cannot be written \(No space left on device\); make room"):
        write_json(tmp_path / "a.json", {})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS])
def test_where_nothing_may_be_written_no_room_helps(number):
    error = OSError(number, "not here")
    with pytest.raises(DataError, match=r"a: cannot be written .*; see the permissions of its folder, or name another"):
        raise unwritable("a", error, "make room and start the same command again")


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


def test_a_folder_is_kept_when_its_replacement_is_interrupted_between_two_renames(tmp_path, monkeypatch):
    path = tmp_path / "model"
    with whole_folder(path) as temporary:
        (temporary / "old").touch()
    rename = type(path).rename
    monkeypatch.setattr(files, "_exchange", lambda one, other: False)

    def interrupted(source, target):
        if source.suffix == ".tmp":
            raise KeyboardInterrupt
        return rename(source, target)

    monkeypatch.setattr(type(path), "rename", interrupted)
    with pytest.raises(KeyboardInterrupt), whole_folder(path) as temporary:
        (temporary / "new").touch()
    assert sorted(entry.name for entry in tmp_path.rglob("*")) == ["model", "old"]


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


def test_a_folder_that_is_replaced_is_there_at_every_moment(tmp_path, monkeypatch):
    """On Linux the two change places in one step: the process is killed before it, or after it."""
    if not sys.platform.startswith("linux"):
        pytest.skip("the system has no such step")
    path = tmp_path / "model"
    path.mkdir()
    (path / "old").touch()
    monkeypatch.setattr(type(path), "rename", lambda *names: pytest.fail("there are two steps"))
    with whole_folder(path) as temporary:
        (temporary / "new").touch()
    assert [entry.name for entry in path.iterdir()] == ["new"]
    assert list(tmp_path.iterdir()) == [path]


def linked(tmp_path):
    """A folder with a file of the user's, and a link to each."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "precious.txt").write_text("x")
    (tmp_path / "folder").symlink_to("mine")
    (tmp_path / "file").symlink_to("mine/precious.txt")


def test_nothing_is_written_or_deleted_through_links(tmp_path):
    linked(tmp_path)
    with (
        pytest.raises(DataError, match="folder: is a link, and nothing is written through links"),
        whole_folder(tmp_path / "folder"),
    ):
        pytest.fail("it was opened")
    with pytest.raises(DataError, match="file: is a link"):
        write_text(tmp_path / "file", "y")
    with pytest.raises(DataError, match="file: is a link"):
        AppendedLines(tmp_path / "file")
    with pytest.raises(DataError, match="file: is a link"), locked(tmp_path / "file", ConfigError("busy")):
        pytest.fail("it was locked")
    with pytest.raises(DataError, match="folder: is a link"):
        remove_folder(tmp_path / "folder")
    (tmp_path / ".a.7.tmp").symlink_to("mine")
    (tmp_path / ".b.7.old").symlink_to("mine")
    (tmp_path / "below").symlink_to("mine")
    (tmp_path / "mine" / ".c.7.tmp").touch()
    remove_leftovers(tmp_path / "below" / "..")
    assert (tmp_path / "mine" / "precious.txt").read_text() == "x"
    assert not (tmp_path / ".a.7.tmp").is_symlink()
    assert not (tmp_path / "b").exists()


def test_a_link_under_the_temporary_name_is_not_followed(tmp_path):
    linked(tmp_path)
    for name in ("out.txt", "out"):
        (tmp_path / temporary_name(tmp_path / name, "tmp").name).symlink_to("mine" if name == "out" else "file")
    write_text(tmp_path / "out.txt", "y")
    with whole_folder(tmp_path / "out") as temporary:
        (temporary / "new").touch()
    assert [entry.name for entry in (tmp_path / "mine").iterdir()] == ["precious.txt"]
    assert (tmp_path / "mine" / "precious.txt").read_text() == "x"
    assert (tmp_path / "out.txt").read_text() == "y"


def test_what_is_no_file_is_not_replaced_by_one(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    for name in ("pipe", "folder"):
        with pytest.raises(DataError, match=f"{name}: is a {name}.*; move it, or name another path$"):
            write_text(tmp_path / name, "y")
    assert (tmp_path / "pipe").is_fifo()


def test_folders_that_were_made_and_stayed_empty_are_removed(tmp_path):
    (tmp_path / "there").mkdir()
    new = missing_folders(tmp_path / "there" / "a" / "b")
    assert new == [tmp_path / "there" / "a" / "b", tmp_path / "there" / "a"]
    new[0].mkdir(parents=True)
    (new[1] / "kept.txt").touch()
    remove_empty(new)
    assert not new[0].exists()
    (new[1] / "kept.txt").unlink()
    remove_empty(new)
    assert list((tmp_path / "there").iterdir()) == []


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path, monkeypatch):
    make_folder(tmp_path / "a" / "b")
    make_folder(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").is_dir()
    (tmp_path / "file").touch()
    for name in ("file", "file/below", "x" * 300, "with\0nothing"):
        with pytest.raises(DataError, match=r"cannot be (made|written)"):
            make_folder(tmp_path / name)

    def full(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("pathlib.Path.mkdir", full)
    with pytest.raises(DataError, match=r"new: cannot be written \(No space left on device\); make room"):
        make_folder(tmp_path / "new")


def test_files_have_the_mode_that_the_umask_gives(tmp_path):
    """safetensors, for one, makes files that only their owner can read."""
    before = os.umask(0o027)
    try:
        with whole_path(tmp_path / "a") as temporary:
            temporary.unlink()
            os.close(os.open(temporary, os.O_CREAT | os.O_WRONLY, 0o600))
        with whole_folder(tmp_path / "b") as temporary:
            os.close(os.open(temporary / "c", os.O_CREAT | os.O_WRONLY, 0o600))
        write_text(tmp_path / "d", "x")
    finally:
        os.umask(before)
    modes = {name: (tmp_path / name).stat().st_mode & 0o777 for name in ("a", "b", "b/c", "d")}
    assert modes == {"a": 0o640, "b": 0o750, "b/c": 0o640, "d": 0o640}


def test_numpy_does_not_write_past_python(tmp_path):
    """Into one of C's files it loses the last bytes of an array without an error where the disk is full."""
    np = pytest.importorskip("numpy")
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        with (
            pytest.raises(DataError, match=r"a\.npy: cannot be written \(File too large\)"),
            whole_file(tmp_path / "a.npy") as file,
        ):
            np.save(file, np.ones((1000, 1), np.float32))  # 4128 bytes
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(tmp_path.iterdir()) == []


def test_a_file_system_without_a_free_block_is_full(tmp_path, monkeypatch):
    """Whoever filled it may have lost the last bytes: what was written there is not taken for whole."""
    real = os.statvfs(tmp_path)
    full = os.statvfs_result((*real[:3], 0, 0, *real[5:]))
    monkeypatch.setattr(os, "statvfs", lambda path: full)
    with (
        pytest.raises(DataError, match=r"a: cannot be written \(No space left on device\)"),
        whole_path(tmp_path / "a") as temporary,
    ):
        temporary.write_bytes(b"4096 of 4128")
    with pytest.raises(DataError, match="No space left"), whole_folder(tmp_path / "b") as temporary:
        (temporary / "c").touch()
    assert list(tmp_path.iterdir()) == []


class SafetensorError(Exception):
    """By its name, as the library's own."""


@pytest.mark.parametrize(
    "error",
    [
        SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"),
        Exception("No space left on device (os error 28)"),  # what tokenizers raises
        OSError(errno.ENOSPC, "No space left on device"),
    ],
)
def test_a_full_disk_is_one_line_whichever_library_wrote(tmp_path, error):
    for writer in (whole_folder, whole_path):
        with (
            pytest.raises(DataError, match=r"a: cannot be written \(No space left on device\)"),
            writer(tmp_path / "a"),
        ):
            raise error
    assert list(tmp_path.iterdir()) == []


def test_other_errors_pass_as_they_are(tmp_path):
    for writer in (whole_folder, whole_path):
        with pytest.raises(ModelError, match="mine"), writer(tmp_path / "a"):
            raise ModelError("mine")
        with pytest.raises(ZeroDivisionError), writer(tmp_path / "a"):
            raise ZeroDivisionError


def test_a_folder_goes_in_one_step(tmp_path, monkeypatch):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "b").touch()
    monkeypatch.setattr(shutil, "rmtree", lambda *path, **options: None)  # killed before anything is deleted
    remove_folder(tmp_path / "a")
    assert [is_leftover(entry.name) for entry in tmp_path.iterdir()] == [True]
    monkeypatch.undo()
    remove_folder(tmp_path / "a")  # which is not there
    remove_leftovers(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_lines_are_on_their_way_when_they_are_written(tmp_path):
    lines = AppendedLines(tmp_path / "a")
    lines.write("one")
    assert (tmp_path / "a").read_text() == "one\n"
    lines.close()
    lines = AppendedLines(tmp_path / "a")
    lines.write("two")
    lines.close()
    assert (tmp_path / "a").read_text() == "one\ntwo\n"


def test_lines_that_do_not_fit(tmp_path):
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    lines = AppendedLines(tmp_path / "a")
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        with pytest.raises(DataError, match=r"a: cannot be written \(File too large\)"):
            lines.write("x" * 10_000)
        lines.close()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    with pytest.raises(DataError, match="cannot be written"):
        AppendedLines(tmp_path)


def test_the_hash_is_that_of_the_bytes(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    assert file_hash(tmp_path / "a") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_a_path_lies_in_a_folder_whatever_links_lead_there(tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "link").symlink_to("a")
    assert lies_in(tmp_path / "link" / "b" / "new", tmp_path / "a")
    assert lies_in(tmp_path / "a", tmp_path / "link")
    assert not lies_in(tmp_path / "a2", tmp_path / "a")


@pytest.mark.skipif(sys.version_info >= (3, 13), reason="pathlib takes such paths as they are")
@pytest.mark.parametrize("name", ["round", "round/below"])
def test_links_in_a_circle_are_told(tmp_path, name):
    (tmp_path / "round").symlink_to("again")
    (tmp_path / "again").symlink_to("round")
    for pair in ((tmp_path / name, tmp_path), (tmp_path, tmp_path / name)):
        with pytest.raises(DataError, match="links that go in a circle"):
            lies_in(*pair)
