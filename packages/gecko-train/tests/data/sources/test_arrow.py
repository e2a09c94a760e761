from gecko_train.config import SetConfig
from gecko_train.data.rows import RowSet
from gecko_train.data.sources.base import SourceContext
from gecko_train.data.sources.registry import load_set


def test_a_written_set_stays_on_disk_and_can_be_cut(tmp_path, row_set):
    RowSet.write(tmp_path / "kept.arrow", list(row_set("a", 30)))
    loaded = load_set(SetConfig(source="arrow", path=str(tmp_path / "kept.arrow"), limit=12), SourceContext())
    assert (loaded.name, len(loaded)) == ("kept", 12)
    assert [row.query for row in loaded] == [row.query for row in row_set("a", 30)][:12]
