import shutil

import pytest

from gecko_core.errors import DataError
from gecko_core.fields import read_fields
from gecko_core.io import read_json, write_json
from gecko_fret import build_fret, load_fret
from gecko_fret.build.manifest import fault_of
from gecko_fret.build.report import write_report
from gecko_fret.config import parse_config


@pytest.fixture(scope="module")
def built(tmp_path_factory, corpus, make_models):
    """A finished build that asked no LLM, to be copied."""
    settings = {"generate": {"sources": ["titles"]}, "score": {"judges": ["similarity"]}, "measure": {"items": 12}}
    out = tmp_path_factory.mktemp("built") / "run"
    build_fret(parse_config(settings), out, corpus=corpus, models=make_models())
    return out


@pytest.fixture
def folder(tmp_path, built):
    return shutil.copytree(built, tmp_path / "run")


@pytest.mark.parametrize("key", ["config", "corpus", "models", "stages", "counts", "rejects", "tokens", "judges"])
@pytest.mark.parametrize("value", [None, [], "x", 5, {"a": None}])
def test_values_of_another_shape_are_one_line(folder, key, value):
    if key == "judges" and isinstance(value, dict):
        return  # a judge may be called anything
    manifest = read_json(folder / "manifest.json", checksum="sha256")
    assert fault_of(manifest) == ""
    write_json(folder / "manifest.json", manifest | {key: value})
    for use in (load_fret, write_report):
        with pytest.raises(DataError, match=rf"manifest\.json: .*{key}.*; restore the file") as caught:
            use(folder)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("key", "value"),
    [("counts", {"rows": -1}), ("counts", {"rows": 10**400}), ("tokens", {"write": {"prompt_tokens": 0.5}})],
)
def test_counts_are_counts(folder, key, value):
    assert key in fault_of(read_json(folder / "manifest.json", checksum="sha256") | {key: value})


def test_a_stage_has_seconds(folder):
    manifest = read_json(folder / "manifest.json", checksum="sha256")
    manifest["stages"]["mine"]["seconds"] = "long"
    assert "seconds" in fault_of(manifest)


def test_a_manifest_that_was_only_begun_needs_no_description():
    assert fault_of({"stages": {}}) == ""
    assert "config" in fault_of({"stages": {"corpus": {}}})


def test_a_manifest_without_its_list_of_parts_is_refused(folder):
    """Whether parts are what was written would not be known; version 0.1 (format 1) had no list."""
    manifest = read_json(folder / "manifest.json", checksum="sha256")
    del manifest["parts"]
    write_json(folder / "manifest.json", manifest)
    with pytest.raises(DataError, match=r"manifest\.json: no 'parts'; restore the file"):
        load_fret(folder)
    assert fault_of(manifest | {"format": 1}) == ""


def test_one_changed_digit_is_noticed_by_every_reader(folder):
    """The judges' weights decide labels: parts made again by other ones would be mixed with those that are there."""
    path = folder / "manifest.json"
    text = path.read_text()
    rows = read_json(path)["counts"]["rows"]
    changed = text.replace(f'"rows": {rows}', f'"rows": {rows + 1}', 1)
    assert changed != text
    path.write_text(changed)
    for use in (load_fret, write_report, read_fields):
        with pytest.raises(DataError, match=r"manifest\.json: damaged \(its checksum is another\); restore it, or"):
            use(folder)


def test_a_part_and_its_entry_lost_together_are_noticed(folder):
    manifest = read_json(folder / "manifest.json")
    name = next(name for name in manifest["parts"] if name.startswith("fret/"))
    del manifest["parts"][name]
    (folder / name).unlink()
    write_json(folder / "manifest.json", manifest)
    with pytest.raises(DataError, match="its checksum is another"):
        load_fret(folder)
