import random

import pyarrow as pa
import pytest

from gecko_core.errors import DataError
from gecko_train.data.mapped import read_mapped, write_mapped

SCHEMA = pa.schema(
    [
        ("text", pa.large_string()),
        ("document", pa.struct([("title", pa.string()), ("text", pa.large_string())])),
        ("others", pa.large_list(pa.struct([("text", pa.string())]))),
        ("id", pa.int64()),
        ("scores", pa.large_list(pa.float32())),
    ]
)


def rows(count, start=0):
    return [
        {
            "text": f"text {row}" if row % 4 else None,
            "document": {"title": None if row % 3 else "title", "text": "x" * row} if row % 5 else None,
            "others": [{"text": f"other {row}"}] * (row % 3),
            "id": row,
            "scores": [0.5] * (row % 2) if row % 7 else None,
        }
        for row in range(start, start + count)
    ]


def batches(*counts):
    starts = [sum(counts[:place]) for place in range(len(counts))]
    return [pa.RecordBatch.from_pylist(rows(n, start), schema=SCHEMA) for n, start in zip(counts, starts, strict=True)]


def test_what_is_written_is_read(tmp_path):
    assert write_mapped(tmp_path / "a.arrow", SCHEMA, batches(7, 1, 40)) == 48
    table, mapped = read_mapped(tmp_path / "a.arrow", SCHEMA)
    assert table.to_pylist() == rows(48)
    assert len(mapped) == (tmp_path / "a.arrow").stat().st_size
    # Slices have buffers of more rows than they hold: what is summed up is what the file has.
    write_mapped(tmp_path / "b.arrow", SCHEMA, [batch.slice(3) for batch in batches(20)])
    assert read_mapped(tmp_path / "b.arrow", SCHEMA)[0].to_pylist() == rows(17, 3)


def test_files_without_checksums_are_read(tmp_path):
    with pa.ipc.new_file(str(tmp_path / "a.arrow"), SCHEMA) as writer:
        for batch in batches(5, 6):
            writer.write_batch(batch)
    assert read_mapped(tmp_path / "a.arrow", SCHEMA)[0].to_pylist() == rows(11)


def test_any_flipped_bit_is_told_or_changes_nothing(tmp_path):
    """Of those that ended the process (SIGSEGV, SIGBUS), or were read as other texts, there was one in six."""
    write_mapped(tmp_path / "a.arrow", SCHEMA, batches(6, 7))
    good = (tmp_path / "a.arrow").read_bytes()
    told = []
    for place in random.Random(0).sample(range(8 * len(good)), 1500):
        bad = bytearray(good)
        bad[place // 8] ^= 1 << place % 8
        (tmp_path / "bad.arrow").write_bytes(bad)
        try:
            table, _ = read_mapped(tmp_path / "bad.arrow", SCHEMA)
        except DataError as error:
            told.append(str(error))
        else:  # the list of batches may be lost as a whole, and a set without rows is refused, too
            assert table.to_pylist() in (rows(13), [])
    assert len(told) > 300
    assert all(line.startswith(str(tmp_path / "bad.arrow")) and "\n" not in line for line in told)


@pytest.mark.parametrize("part", [0, 0.3, 0.99])
def test_a_file_that_was_cut_off(tmp_path, part):
    write_mapped(tmp_path / "a.arrow", SCHEMA, batches(40))
    whole = (tmp_path / "a.arrow").read_bytes()
    (tmp_path / "a.arrow").write_bytes(whole[: int(len(whole) * part)])
    with pytest.raises(DataError, match=r"a\.arrow: not a training set file .*; write it again with RowSet\.write"):
        read_mapped(tmp_path / "a.arrow", SCHEMA)


def test_a_changed_text_names_its_rows(tmp_path):
    write_mapped(tmp_path / "a.arrow", SCHEMA, batches(5, 6))
    content = (tmp_path / "a.arrow").read_bytes()
    assert content.count(b"text 7") == 1
    (tmp_path / "a.arrow").write_bytes(content.replace(b"text 7", b"text 8"))
    with pytest.raises(DataError, match=r"a\.arrow: rows 6 to 11: damaged \(checksums differ\)"):
        read_mapped(tmp_path / "a.arrow", SCHEMA)


def test_other_columns(tmp_path):
    write_mapped(tmp_path / "a.arrow", SCHEMA, batches(5))
    with pytest.raises(DataError, match=r"a\.arrow: columns \['text', .*\], expected \['id'\]"):
        read_mapped(tmp_path / "a.arrow", pa.schema([("id", pa.int64())]))


def test_a_folder_is_no_set(tmp_path):
    with pytest.raises(DataError, match=r"is a folder; name the file in it that RowSet\.write wrote"):
        read_mapped(tmp_path, SCHEMA)
