"""Files of document vectors: written a block at a time, read back, whole or not there."""

import os
import sys

import numpy as np
import pytest

from gecko_core.errors import DataError
from gecko_core.fields import VectorsWriter, read_vectors

pytest.importorskip("pyarrow")
ABOUT = {"weights": {"title": 0.5}, "normalized": False}


def test_what_is_written_is_read(tmp_path):
    vectors = np.random.default_rng(0).standard_normal((5, 3)).astype(np.float32)
    with VectorsWriter.open(tmp_path / "v.parquet", 3, ABOUT) as writer:
        writer.write(["b", "b"], ["b#0", "b#1"], vectors[:2])
        writer.write(["a", "c", "c"], ["a", "c#0", "c#1"], vectors[2:])
        assert writer.rows == 5
    read = read_vectors(tmp_path / "v.parquet")
    assert np.array_equal(read.vectors, vectors)
    assert read.chunk_ids == ["b#0", "b#1", "a", "c#0", "c#1"]
    assert read.about == ABOUT
    owners, names = read.documents
    assert (owners.tolist(), names) == ([0, 0, 1, 2, 2], ["b", "a", "c"])


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
def test_names_that_are_not_utf_8(tmp_path):
    path = tmp_path / os.fsdecode(b"\xe9") / os.fsdecode(b"\xff.parquet")
    with VectorsWriter.open(path, 3, ABOUT) as writer:
        writer.write(["a"], ["a"], np.ones((1, 3)))
    assert read_vectors(path).vectors.tolist() == [[1.0, 1.0, 1.0]]


def test_nothing_is_left_of_a_file_that_was_not_finished(tmp_path):
    def end_early():
        with VectorsWriter.open(tmp_path / "v.parquet", 3, ABOUT) as writer:
            writer.write(["a"], ["a"], np.ones((1, 3)))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        end_early()
    assert list(tmp_path.iterdir()) == []


def test_a_flipped_bit_among_the_vectors_is_one_line(tmp_path, flipped_pages):
    vectors = np.random.default_rng(0).standard_normal((40, 3)).astype(np.float32)
    with VectorsWriter.open(tmp_path / "v.parquet", 3, ABOUT) as writer:
        writer.write(["a"] * 40, [f"a#{i}" for i in range(40)], vectors)
    messages = []
    for damaged in flipped_pages(tmp_path / "v.parquet"):
        try:
            read = read_vectors(damaged)
        except DataError as error:
            messages.append(str(error))
        else:  # a bit that nothing is read from, such as a statistic's
            assert np.array_equal(read.vectors, vectors)
            assert read.chunk_ids == [f"a#{i}" for i in range(40)]
    assert len(messages) > 25
    assert all("not a readable file of document vectors" in message for message in messages)


def test_other_files_are_one_line(tmp_path):
    (tmp_path / "v.parquet").write_bytes(b"no Parquet")
    with pytest.raises(DataError, match="not a readable file of document vectors"):
        read_vectors(tmp_path / "v.parquet")
    with pytest.raises(DataError, match="no such file"):
        read_vectors(tmp_path / "w.parquet")


@pytest.mark.parametrize("embeddings", [[None, [1.0, 2.0]], [[None, None], [1.0, 2.0]], [[1.0, None], [1.0, 2.0]]])
def test_a_vector_that_is_missing_or_has_a_gap(tmp_path, embeddings):
    import pyarrow as pa
    from pyarrow import parquet

    with VectorsWriter.open(tmp_path / "v.parquet", 2, ABOUT) as writer:
        writer.write(["a", "b"], ["a", "b"], np.ones((2, 2)))
    table = parquet.read_table(tmp_path / "v.parquet")
    column = pa.array(embeddings, table.schema.field("embedding").type)
    parquet.write_table(table.set_column(2, table.schema.field("embedding"), column), tmp_path / "v.parquet")
    with pytest.raises(DataError, match=r"v\.parquet: a vector is missing, or a number of one"):
        read_vectors(tmp_path / "v.parquet")
