import json
import os
import shutil

import pyarrow.parquet as pq
import pytest

from gecko_core.errors import DataError
from gecko_core.io import read_json
from gecko_fret import load_fret
from gecko_fret.build.pipeline import build_fret
from gecko_fret.config import parse_config


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def swap(path):
    other = next(other for other in sorted(path.parent.glob("part-*")) if other != path)
    data = path.read_bytes()
    path.write_bytes(other.read_bytes())
    other.write_bytes(data)


DAMAGES = {
    "lost": lambda path: path.unlink(),
    "cut": lambda path: path.write_bytes(path.read_bytes()[:50]),
    "empty": lambda path: path.write_bytes(b""),
    "flipped": flip,
    "swapped": swap,
    "foreign": lambda path: shutil.copy(path, path.with_name(path.name.replace("00000", "00099"))),
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory, small, small_corpus, make_models):
    """A finished build, to be copied."""
    out = tmp_path_factory.mktemp("whole") / "fret"
    assert build_fret(parse_config(small), out, corpus=small_corpus, models=make_models()).complete
    return out


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("folder", ["corpus", "attempts", "generated", "embeddings", "retrieved", "scored", "fret"])
def test_a_part_that_is_not_what_was_written_is_made_again(run, whole, tmp_path, folder, damage, data_files):
    out = tmp_path / "fret"
    shutil.copytree(whole, out)
    DAMAGES[damage](sorted((out / folder).glob("part-*"))[0])
    if folder in ("corpus", "fret"):  # what readers of a finished folder read
        with pytest.raises(DataError, match=r"part-0\d+\.parquet: the part is .*; run the same build again"):
            load_fret(out)
    summary = run(out)
    assert summary.complete
    assert summary.counts == json.loads((whole / "manifest.json").read_text())["counts"]
    assert data_files(out) == data_files(whole)


def test_rejects_that_are_lost_are_made_again_with_their_part(run, whole, tmp_path, data_files):
    out = tmp_path / "fret"
    shutil.copytree(whole, out)
    for path in sorted((out / "rejects").glob("*-00000.parquet")):
        path.unlink()
    assert run(out).complete
    assert data_files(out) == data_files(whole)


def test_a_part_that_comes_out_different_takes_what_was_made_of_it_along(
    run, whole, fake_llm, tmp_path, caplog, data_files
):
    """An LLM behind a server may answer otherwise this time: rows of the old answers do not fit the new ones."""
    out = tmp_path / "fret"
    shutil.copytree(whole, out)
    (out / "attempts" / "part-00000.parquet").unlink()

    class Other(fake_llm):
        def _complete(self, prefix, body, seed):
            return super()._complete(prefix, body, seed + 1)

    assert run(out, llm=Other()).complete
    assert "attempts/part-00000.parquet was lost and came out different; made again of it: filter" in caplog.text
    queries = {row["id"] for path in (out / "generated").glob("*") for row in pq.read_table(path).to_pylist()}
    assert {row.id for row in load_fret(out)} <= queries
    assert data_files(out) != data_files(whole)


def test_a_folder_of_a_version_without_a_list_is_taken_over(run, whole, fake_llm, tmp_path, data_files):
    out = tmp_path / "fret"
    shutil.copytree(whole, out)
    manifest = read_json(out / "manifest.json", checksum="sha256")
    for stage in manifest["stages"].values():
        del stage["models"]
    del manifest["parts"], manifest["lost"]
    (out / "manifest.json").write_text(json.dumps(manifest))
    assert len(load_fret(out)) == manifest["counts"]["rows"]

    def refuse():
        raise AssertionError("the LLM was asked again")

    assert run(out, llm=fake_llm(on_call=refuse)).complete
    (out / "fret" / "part-00000.parquet").unlink()
    assert run(out).complete
    assert data_files(out) == data_files(whole)


def test_shared_embeddings_that_are_not_what_was_written_are_made_again(run, tmp_path):
    cache = {"retrieve.cache": str(tmp_path / "cache")}
    run(tmp_path / "a", cache)
    first, second, third = sorted((tmp_path / "cache").rglob("*.npy"))
    before = [path.read_bytes() for path in (first, second, third)]
    flip(first)
    second.unlink()
    third.write_bytes(before[0])
    run(tmp_path / "b", cache)
    assert [path.read_bytes() for path in (first, second, third)] == before
    assert [r.candidates for r in load_fret(tmp_path / "b")] == [r.candidates for r in load_fret(tmp_path / "a")]
    assert not run(tmp_path / "c", cache, stop=iter([False] * 9 + [True] * 99).__next__).complete
    shutil.rmtree(tmp_path / "cache")
    assert run(tmp_path / "c", cache).complete


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names")
@pytest.mark.parametrize(
    "name", ["corpus/part-00000.parquet", "retrieved/part-00000.parquet", "fret/part-00000.parquet"]
)
def test_a_pipe_in_the_place_of_a_part_is_not_waited_for_and_made_again(run, whole, tmp_path, data_files, name):
    out = tmp_path / "fret"
    shutil.copytree(whole, out)
    (out / name).unlink()
    os.mkfifo(out / name)
    if not name.startswith("retrieved"):
        with pytest.raises(DataError, match=rf"{name}: the part is damaged"):
            list(load_fret(out))
    assert run(out).complete
    assert data_files(out) == data_files(whole)
