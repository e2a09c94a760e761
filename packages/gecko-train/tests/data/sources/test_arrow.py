import dataclasses

from gecko_core.text_identity import text_id
from gecko_train.config import SetConfig
from gecko_train.data.rows import RowSet
from gecko_train.data.sources.base import SourceContext
from gecko_train.data.sources.registry import load_set


def test_a_written_set_stays_on_disk_and_can_be_cut(tmp_path, row_set):
    RowSet.write(tmp_path / "kept.arrow", list(row_set("a", 30)))
    loaded = load_set(SetConfig(source="arrow", path=str(tmp_path / "kept.arrow"), limit=12), SourceContext())
    assert (loaded.name, len(loaded)) == ("kept", 12)
    assert [row.query for row in loaded] == [row.query for row in row_set("a", 30)][:12]


def test_queries_that_are_set_apart_are_left_out(tmp_path, row_set):
    rows = list(row_set("a", 30))
    RowSet.write(tmp_path / "kept.arrow", rows)
    apart = frozenset(text_id(rows[place].query) for place in (0, 7, 8, 29))
    loaded = load_set(SetConfig(source="arrow", path=str(tmp_path / "kept.arrow")), SourceContext(held_out=apart))
    left = [row for place, row in enumerate(rows) if place not in (0, 7, 8, 29)]
    assert [row.query for row in loaded] == [row.query for row in left]
    assert [row.query for row in loaded.rows([25, 0, 6])] == [left[place].query for place in (25, 0, 6)]
    assert loaded.query_ids.tolist() == [text_id(row.query) for row in left]


def test_they_are_left_out_whatever_id_they_were_written_with(tmp_path, row_set):
    """Rows were compared by the id that they have, which need not be their text's."""
    rows = [dataclasses.replace(row, query_id=100 + place) for place, row in enumerate(row_set("a", 5))]
    RowSet.write(tmp_path / "kept.arrow", rows)
    apart = frozenset({text_id(rows[1].query)})
    loaded = load_set(SetConfig(source="arrow", path=str(tmp_path / "kept.arrow")), SourceContext(held_out=apart))
    assert loaded.query_ids.tolist() == [100, 102, 103, 104]
