import gzip
import json
import re

import pytest

from gecko_core.errors import ConfigError, DataError
from gecko_train.config import SetConfig
from gecko_train.data.adapters.registry import ADAPTERS
from gecko_train.data.rows import Document, RowSet, TrainingRow
from gecko_train.data.sources.base import SourceContext
from gecko_train.data.sources.registry import check_set, load_set


def write_lines(path, records):
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "wt", encoding="utf-8") as file:
        file.writelines(json.dumps(record) + "\n" for record in records)


def load(**config):
    return list(load_set(SetConfig(**config), SourceContext()))


def test_files_of_every_kind_give_the_same_rows(tmp_path, monkeypatch):
    import pyarrow as pa
    import pyarrow.parquet as pq

    records = [{"query": f"q{n}", "positive": f"p{n}", "negative": f"n{n}"} for n in range(4)]
    write_lines(tmp_path / "a.jsonl", records)
    write_lines(tmp_path / "b.jsonl.gz", records)
    (tmp_path / "c.csv").write_text("query,positive,negative\n" + "".join(f"q{n},p{n},n{n}\n" for n in range(4)))
    pq.write_table(pa.Table.from_pylist(records), tmp_path / "d.parquet")
    (tmp_path / "folder").mkdir()
    write_lines(tmp_path / "folder" / "train.jsonl", records)
    wanted = [TrainingRow("mine", f"q{n}", Document(f"p{n}"), (Document(f"n{n}"),)) for n in range(4)]
    for name in ("a.jsonl", "b.jsonl.gz", "c.csv", "d.parquet", "folder"):
        assert load(source="triplets", path=str(tmp_path / name), task="mine") == wanted
    monkeypatch.setenv("GECKO_DATA_DIR", str(tmp_path))
    assert load(source="triplets", path="folder", task="mine", limit=2) == wanted[:2]
    RowSet.write(tmp_path / "e.arrow", wanted)
    assert load(source="arrow", path=str(tmp_path / "e.arrow")) == wanted


def test_records_can_be_picked_by_column(tmp_path):
    records = [{"query": f"q{n}", "positive": f"p{n}", "lang": "en" if n % 2 else "de"} for n in range(4)]
    write_lines(tmp_path / "a.jsonl", records)
    rows = load(source="pairs", path=str(tmp_path / "a.jsonl"), options={"where": {"lang": "en"}})
    assert [row.query for row in rows] == ["q1", "q3"]


def test_true_is_not_one_where_records_are_picked(tmp_path):
    given = [True, 1, 1.0, False, 0]
    write_lines(tmp_path / "a.jsonl", [{"query": f"q{n}", "positive": "p", "ok": v} for n, v in enumerate(given)])

    def picked(value):
        rows = load(source="pairs", path=str(tmp_path / "a.jsonl"), options={"where": {"ok": value}})
        return [row.query for row in rows]

    assert (picked(True), picked(1), picked(False), picked(0)) == (["q0"], ["q1", "q2"], ["q3"], ["q4"])


def test_columns_are_renamed(tmp_path):
    (tmp_path / "s2.jsonl").write_text('{"title": "a title", "abstract": "an abstract", "x": 1}\n')
    options = {"columns": {"query": "title", "positive": "abstract"}}
    [row] = load_set(SetConfig(source="pairs", path=str(tmp_path / "s2.jsonl"), options=options), SourceContext())
    assert (row.query, row.positive.text, row.positive.title) == ("a title", "an abstract", None)


@pytest.mark.parametrize("stream", [False, True])
def test_a_file_without_rows_is_named(tmp_path, stream):
    (tmp_path / "a.csv").write_text("query,positive\n")
    with pytest.raises(DataError, match=r"a\.csv: no rows in it; a set needs at least one"):
        load(source="pairs", path=str(tmp_path / "a.csv"), stream=stream, rows=1 if stream else None)
    write_lines(tmp_path / "b.jsonl", [{"query": "q", "positive": "p", "lang": "de"}])
    with pytest.raises(DataError, match=r"b\.jsonl: no row has lang: en; correct `where`"):
        load(source="pairs", path=str(tmp_path / "b.jsonl"), options={"where": {"lang": "en"}})


@pytest.mark.parametrize("options", [{"columns": {"negative": "hard_negatve"}}, {"where": {"language": "en"}}])
def test_a_named_column_that_no_record_has_is_refused(tmp_path, options):
    write_lines(tmp_path / "a.jsonl", [{"query": "q", "positive": "p", "hard_negative": "n"}] * 2)
    with pytest.raises(DataError, match=r"a\.jsonl:2: no record has the column '(hard_negatve|language)'"):
        load(source="pairs", path=str(tmp_path / "a.jsonl"), options=options)


@pytest.mark.parametrize(
    ("source", "columns", "message"),
    [
        (
            "pairs",
            {"query": "nosuch"},
            "no column 'nosuch', which the set's options name as 'query' (columns: q, p",
        ),
        ("pairs", {"anchor": "nosuch"}, "no column 'nosuch', which the set's options name as 'anchor' (columns: q, p"),
        ("pairs", {"query": "q", "positive": "P"}, "no column 'P', which the set's options name as 'positive'"),
        ("pairs", {"query": "q", "pos": "n"}, "no value in the column 'n', which the set's options name as 'pos'"),
        ("pairs", {"positive": "p"}, "no 'query' (columns: q, p, n); rename the column or choose another source"),
        ("classification", {"text": "q", "label": "class"}, "no column 'class', which the set's options name as"),
        ("pairs", {"query": "e", "positive": "p"}, "'e' is empty; remove the row or fill it"),
    ],
)
def test_a_message_names_the_column_that_was_asked_for(tmp_path, source, columns, message):
    empty = {"e": ""} if "e" in columns.values() else {}
    write_lines(tmp_path / "a.jsonl", [{"q": "q", "p": "p", "n": None, **empty}] * 2)
    with pytest.raises(DataError, match=re.escape(message)) as caught:
        load(source=source, path=str(tmp_path / "a.jsonl"), options={"columns": columns})
    assert str(caught.value).startswith(f"{tmp_path / 'a.jsonl'}:1: ")


@pytest.mark.parametrize(
    ("path", "options", "message"),
    [
        ("a.jsonl", {"wher": {"lang": "en"}}, "options of source 'pairs': unknown key 'wher'; did you mean 'where'"),
        ("hub:owner/name", {"splitt": "dev"}, "options of source 'pairs': unknown key 'splitt'; did you mean 'split'"),
        ("a.jsonl", {"count_from": 1}, "source 'pairs' does not read the option 'count_from'; leave it out"),
        (
            "a.jsonl",
            {"min_score": float("nan")},
            "options of source 'pairs': min_score: input should be a finite number",
        ),
        (
            "a.jsonl",
            {"columns": {"negativ": "n"}},
            r"source 'pairs' reads no column 'negativ' \(options.columns\); did you mean 'negative'",
        ),
        ("a.jsonl", {"columns": {"zzz": "n"}}, r"source 'pairs' reads no column 'zzz' .*; it reads A, a, anchor, "),
        ("a.jsonl", {"columns": ["query"]}, "options of source 'pairs': columns: input should be a valid dictionary"),
    ],
)
def test_wrong_options_are_one_line(tmp_path, monkeypatch, path, options, message):
    monkeypatch.chdir(tmp_path)
    write_lines(tmp_path / "a.jsonl", [{"query": "q", "positive": "p"}])
    with pytest.raises(ConfigError, match=message):
        load(source="pairs", path=path, options=options)


def test_columns_of_every_source_may_be_renamed_to_what_it_reads():
    """A name that an adapter reads and does not say would be refused."""
    names = {
        "pairs": ("query", "positive", "negative_3", "is_duplicate", "answers", "score"),
        "qa": ("question", "snippets", "title", "is_impossible", "hard_negative_ctxs"),
        "fever": ("claim", "evidences", "label", "neg2"),
        "medmcqa": ("question", "opa", "cop", "options", "answer_index"),
        "nli": ("premise", "hypothesis", "label", "lang"),
        "hotpotqa": ("question", "context", "supporting_facts"),
        "classification": ("sentence", "label_text"),
    }
    for source, columns in names.items():
        check_set(SetConfig(source=source, path="hub:some/set", options={"columns": dict.fromkeys(columns, "its own")}))
    for source in set(ADAPTERS) - {"pairs", "triplets", "miracl", "qa", "nq"}:
        with pytest.raises(ConfigError, match="reads no column 'positiv"):
            check_set(SetConfig(source=source, path="x", options={"columns": {"positivee": "its own"}}))


def test_a_folder_of_several_sets_is_refused(tmp_path):
    record = [{"query": "q", "positive": "p"}]
    for name in ("train.jsonl", "train.bak.jsonl", "training.jsonl"):
        write_lines(tmp_path / name, record)
    assert len(load(source="pairs", path=str(tmp_path))) == 1
    write_lines(tmp_path / "train.jsonl.gz", record)
    with pytest.raises(DataError, match=r"holds train\.jsonl, train\.jsonl\.gz; remove all but one"):
        load(source="pairs", path=str(tmp_path))


def test_all_shards_of_one_configuration(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.Table.from_pylist([{"query": "q", "positive": "p"}])
    for number in (0, 2):
        (tmp_path / "pair").mkdir(exist_ok=True)
        pq.write_table(table, tmp_path / "pair" / f"train-0000{number}-of-00003.parquet")
    with pytest.raises(DataError, match=r"holds 2 train-\*\.parquet, and by their names the set has 00003"):
        load(source="pairs", path=str(tmp_path))
    pq.write_table(table, tmp_path / "pair" / "train-00001-of-00003.parquet")
    assert len(load(source="pairs", path=str(tmp_path))) == 3
    (tmp_path / "pair-extra").mkdir()
    pq.write_table(table, tmp_path / "pair-extra" / "train-00000-of-00001.parquet")
    with pytest.raises(DataError, match=r"lie in several folders \(pair, pair-extra\); name one as the path"):
        load(source="pairs", path=str(tmp_path))
    assert len(load(source="pairs", path=str(tmp_path / "pair"))) == 3
    (tmp_path / "copy").mkdir()
    (tmp_path / "copy" / "linked").symlink_to(tmp_path / "pair")
    assert len(load(source="pairs", path=str(tmp_path / "copy"))) == 3


@pytest.mark.parametrize("ending", ["jsonl", "csv"])
@pytest.mark.parametrize(
    ("source", "record", "column", "meant"),
    [
        ("pairs", {"query": "q", "positive": "p"}, "Negative", "negative"),
        ("triplets", {"query": "q", "positive": "p"}, "NEGATIVES", "negatives"),
        ("triplets", {"query": "q", "positive": "p"}, "negative ", "negative"),
        ("pairs", {"query": "q", "positive": "p"}, "Negative_2", "negative_2"),
        ("pairs", {"query": "q", "positive": "p"}, "label ", "label"),
        ("pairs", {"query": "q", "positive": "p"}, "Is_Impossible", "is_impossible"),
        ("miracl", {"query": "q", "positive_passages": "p"}, "Negative_Passages", "negative_passages"),
        ("qa", {"question": "q", "answer": "short"}, "Context", "context"),
        ("qa", {"question": "q", "context": "c"}, "Title", "title"),
        ("fever", {"claim": "c", "document": "d"}, "Evidences", "evidences"),
        ("classification", {"text": "t", "label": "0"}, "Label_Text", "label_text"),
        ("nli", {"premise": "p", "hypothesis": "h", "label": "0"}, "Lang", "lang"),
    ],
)
def test_a_column_that_would_be_passed_over_is_refused(tmp_path, ending, source, record, column, meant):
    path = tmp_path / f"a.{ending}"
    record = record | {column: "0"}
    if ending == "csv":
        path.write_text("\n".join(",".join(cells) for cells in (record, record.values())) + "\n")
    else:
        write_lines(path, [record])
    wanted = f"the column {column!r} is not read; call it {meant!r}, name it in the set's options (columns: {{{meant}: "
    with pytest.raises(DataError, match=re.escape(wanted)):
        load(source=source, path=str(path))


def test_columns_are_looked_at_by_their_names_in_the_options(tmp_path):
    write_lines(tmp_path / "a.jsonl", [{"Query": "q", "Positive": "p", "Negative": "n", "Label": 1}])
    columns = {"query": "Query", "positive": "Positive", "negative": "Negative"}
    [row] = load(source="pairs", path=str(tmp_path / "a.jsonl"), options={"columns": columns})
    assert (row.query, row.positive.text, row.negatives) == ("q", "p", (Document("n"),))
    del columns["negative"]
    with pytest.raises(DataError, match=r"a\.jsonl:1: the column 'Negative' is not read"):
        load(source="pairs", path=str(tmp_path / "a.jsonl"), options={"columns": columns})


def test_a_record_with_other_columns_than_the_one_before_is_looked_at(tmp_path):
    write_lines(
        tmp_path / "a.jsonl", [{"query": "q", "positive": "p"}] * 2 + [{"query": "q", "positive": "p", "Neg": 1}]
    )
    with pytest.raises(DataError, match=r"a\.jsonl:3: the column 'Neg' is not read; call it 'neg'"):
        load(source="pairs", path=str(tmp_path / "a.jsonl"))
