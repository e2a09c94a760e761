import errno
import os

import pytest

from gecko_core.errors import DataError
from gecko_core.io import files_below


@pytest.fixture
def folder(tmp_path):
    for name in ("b.txt", "a/x.md", "a/b/c/y.TXT", ".hidden/z.txt", "a/b/n.json", "ü/ö.txt"):
        (tmp_path / "root" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "root" / name).write_text(name)
    return tmp_path / "root"


def names(folder, found):
    return [path.relative_to(folder).as_posix() for path in found]


def test_all_files_in_the_order_of_their_paths(folder):
    assert files_below(folder) == sorted(path for path in folder.rglob("*") if path.is_file())
    assert files_below(str(folder)) == files_below(folder)


def test_suffixes_in_any_case(folder):
    assert names(folder, files_below(folder, {".txt"})) == [".hidden/z.txt", "a/b/c/y.TXT", "b.txt", "ü/ö.txt"]


def test_hidden_ones_are_left_out_and_listed(folder):
    for name in ("a/._x.md", "a/.notes/deep/w.txt", "a/.x.json"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    (folder / ".hidden" / "back").symlink_to(folder)  # not looked into
    hidden = []
    assert names(folder, files_below(folder, {".txt", ".md"}, hidden=hidden)) == [
        "a/b/c/y.TXT", "a/x.md", "b.txt", "ü/ö.txt",
    ]  # fmt: skip
    assert sorted(names(folder, hidden)) == [".hidden", "a/._x.md", "a/.notes"]


def test_a_hidden_folder_may_be_named_itself(folder):
    hidden = []
    assert names(folder, files_below(folder / ".hidden", hidden=hidden)) == [".hidden/z.txt"]
    assert not hidden


def test_links_are_followed(folder, tmp_path):
    (tmp_path / "elsewhere" / "deep").mkdir(parents=True)
    (tmp_path / "elsewhere" / "deep" / "w.txt").write_text("w")
    (folder / "linked").symlink_to(tmp_path / "elsewhere")
    (folder / "twin").symlink_to(tmp_path / "elsewhere")  # no circle
    (folder / "file.txt").symlink_to(tmp_path / "elsewhere" / "deep" / "w.txt")
    found = names(folder, files_below(folder, {".txt"}))
    assert {"linked/deep/w.txt", "twin/deep/w.txt", "file.txt"} < set(found)


@pytest.mark.parametrize("target", [".", "a", ".."])
def test_links_in_a_circle_are_refused(folder, target):
    (folder / "a" / "b" / "back").symlink_to(folder / target)
    with pytest.raises(DataError, match=r"back.*: leads back to a folder that it is in; remove the link"):
        files_below(folder)


def test_links_that_lead_to_each_other_are_refused(folder, tmp_path):
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "back").symlink_to(folder)
    (folder / "there").symlink_to(tmp_path / "other")
    with pytest.raises(DataError, match="there/back: leads back"):
        files_below(folder)


def test_a_link_to_nothing_is_refused_unless_it_is_hidden_or_not_wanted(folder):
    (folder / ".#b.txt").symlink_to("somebody@host:1")
    (folder / "c.html").symlink_to("nowhere")
    before = files_below(folder, {".txt"})
    assert folder / ".#b.txt" not in before
    (folder / "lost.txt").symlink_to("nowhere")
    with pytest.raises(DataError, match=r"lost.txt: a link to nothing; fetch what it stands for"):
        files_below(folder, {".txt"})


def test_a_link_to_itself_is_refused(folder):
    (folder / "self.txt").symlink_to("self.txt")
    with pytest.raises(DataError, match=r"self.txt: "):
        files_below(folder)


def test_pipes_are_no_files(folder):
    before = files_below(folder)
    os.mkfifo(folder / "pipe.txt")
    assert files_below(folder) == before


@pytest.mark.parametrize("refused", ["", "a/b"])
def test_a_folder_that_may_not_be_read_is_named(folder, monkeypatch, refused):
    scandir = os.scandir

    def as_another_user(path):
        if path == folder / refused:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", as_another_user)
    with pytest.raises(
        DataError, match=r"the folder cannot be read \(Permission denied\); see its permissions"
    ) as told:
        files_below(folder)
    assert str(folder / refused) in str(told.value)


def test_deep_folders(tmp_path):
    deep = tmp_path
    for _ in range(400):
        deep = deep / "d"
        deep.mkdir()
    (deep / "x.txt").write_text("x")
    assert files_below(tmp_path, {".txt"}) == [deep / "x.txt"]
