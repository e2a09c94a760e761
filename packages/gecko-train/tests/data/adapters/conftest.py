import pytest

from gecko_core.io import Record
from gecko_train.data.adapters.base import Settings
from gecko_train.data.adapters.registry import ADAPTERS


@pytest.fixture
def read_records():
    """read_records(source, fields of the records, settings...) -> rows."""

    def read(source, records, **settings):
        adapter = ADAPTERS[source]
        resolved = Settings(**{"task": adapter.task, "symmetric": adapter.symmetric, **settings})
        numbered = [Record(number, f"set, row {number}", fields) for number, fields in enumerate(records, 1)]
        return list(adapter.read(numbered, resolved))

    return read
