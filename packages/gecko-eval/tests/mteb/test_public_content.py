import gzip
import json

import pytest

from gecko_eval.mteb.local import discover, local_set, recognise
from gecko_eval.mteb.public_content import content_hash, find_public, public_contents


def rows_of(folder):
    return content_hash(recognise(folder).rows(folder))


def test_the_layout_of_a_file_does_not_matter(data_root):
    path = data_root / "similar" / "test.jsonl"
    plain, lines = rows_of(path.parent), path.read_text().splitlines()
    rows = [dict(reversed(json.loads(line).items())) for line in lines]
    text = "\n\n".join(json.dumps(row, indent=None, separators=(",", ":")) for row in rows)
    path.unlink()
    (path.parent / "test.jsonl.gz").write_bytes(gzip.compress(text.encode()))
    assert rows_of(path.parent) == plain


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("similar/test.jsonl", '"sentence1": "', '"sentence1": "x'),
        ("topics/test.jsonl", '"label": "sea"', '"label": "sky"'),
        ("topics/train.jsonl", '"text": "', '"text": "x'),
        ("toy/corpus.jsonl", "note 59", "note"),
        ("toy/queries.jsonl", '"text": "', '"text": "x'),
        ("toy/qrels/test.tsv", "q1\td5\t2", "q1\td5\t1"),
    ],
)
def test_any_change_that_can_move_a_score_changes_the_hash(data_root, file, old, new):
    path = data_root / file
    folder = data_root / file.split("/")[0]
    before, text = rows_of(folder), path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    assert rows_of(folder) != before


def test_other_data_is_told_apart_by_its_first_row(data_root, make_public):
    make_public(data_root / "similar", "STSBenchmark")

    def rows():
        yield ["test", "another", "pair", 1.0]
        raise AssertionError("read on")

    assert find_public("STS", rows()) is None


def test_public_content_that_is_damaged_is_public_no_more(data_root, make_public):
    make_public(data_root / "similar", "STSBenchmark")
    with (data_root / "similar" / "test.jsonl").open("a") as file:
        file.write("{broken\n")
    assert local_set(data_root / "similar").mteb_name is None


def test_the_table_names_mtebs_tasks():
    import mteb

    assert {public.task: mteb.get_task(public.task).metadata.type for public in public_contents()} == {
        public.task: public.kind for public in public_contents()
    }
    assert len({public.content for public in public_contents()}) == len(public_contents())


def test_the_public_sets_are_recognised(data_dir):
    names = {local.mteb_name for local in discover(data_dir) if local.mteb_name}
    assert names == {public.task for public in public_contents()}
