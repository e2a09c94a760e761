"""How weights are written, and what is refused."""

import numpy as np
import pytest

from gecko_core.errors import ConfigError, DataError
from gecko_core.fields import PUBLISHED, VectorsWriter, parse_weights, shown_weights


def test_published_ones_written_ones_and_those_of_a_file(tmp_path):
    pytest.importorskip("pyarrow")
    assert parse_weights("published") == PUBLISHED
    assert parse_weights("queries=0.7, title=0") == {"title": 0.0, "chunks": 0.0, "queries": 0.7}
    assert parse_weights(shown_weights(PUBLISHED)) == PUBLISHED
    with VectorsWriter.open(tmp_path / "v.parquet", 2, {"weights": {"queries": 0.25}}) as writer:
        writer.write(["a"], ["a"], np.ones((1, 2)))
    assert parse_weights(str(tmp_path / "v.parquet")) == {"title": 0.0, "chunks": 0.0, "queries": 0.25}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("fitted", "write title=0.5,queries=1"),
        ("titel=1", "no field 'titel'; fields are title, chunks, queries"),
        ("title=-1", "weight of title is -1.0; give a number from 0"),
        ("title=inf", "weight of title is inf"),
        ("title=much", "'title=much' is no weight"),
        ("title=1,title=2", "'title' is there twice"),
    ],
)
def test_others_are_one_line(text, told):
    with pytest.raises(ConfigError, match=told):
        parse_weights(text)


def test_a_file_that_is_not_there_or_says_nothing(tmp_path):
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    with pytest.raises(DataError, match="no such file"):
        parse_weights(str(tmp_path / "v.parquet"))
    pq.write_table(pa.table({"x": [1]}), tmp_path / "v.parquet")
    with pytest.raises(DataError, match="does not say how its vectors were made"):
        parse_weights(str(tmp_path / "v.parquet"))
