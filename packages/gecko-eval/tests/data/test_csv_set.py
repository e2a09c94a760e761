import pytest

from gecko_core.errors import DataError
from gecko_eval.data.csv_set import find_queries, load_csv


@pytest.fixture
def folder(tmp_path, write_jsonl):
    write_jsonl(tmp_path / "corpus.jsonl", [{"id": 1, "text": "x", "title": "T"}, {"_id": "b", "text": "y"}])
    (tmp_path / "queries.csv").write_text('query,relevant_id,score\n"a, quoted",1,2\nplain,b,1\n"a, quoted",b,1\n')
    return tmp_path


def test_rows_of_one_query_are_joined(folder):
    data = load_csv(folder / "queries.csv", task="fact checking")
    assert data.queries == ["a, quoted", "plain"]
    assert data.judgements == [{"1": 2, "b": 1}, {"b": 1}]
    assert (data.titles, data.name, data.task) == (["T", ""], folder.name, "fact checking")


def test_the_corpus_may_be_a_csv_elsewhere(folder, tmp_path):
    corpus = tmp_path / "docs.csv"
    corpus.write_text("id,text\n1,x\nb,y\n")
    assert load_csv(folder / "queries.csv", corpus).titles is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("query,id\na,1\n", r"no column 'relevant_id' \(found: query, id\)"),
        ("query,relevant_id\na,9\n", r"queries.csv:2: the relevant_id '9' is not in"),
        ("query,relevant_id\n,1\n", r":2: an empty query or relevant_id"),
        ("query,relevant_id,score\na,1,high\n", r":2: the score 'high'"),
        ("query,relevant_id\na,b,c,d\n", r":2: 4 cells where the header has 2"),
        ("query,relevant_id\n", "no rows in it"),
        ("query,relevant_id,relevance\na,1,0\n", r":2: the column 'relevance' is not read; call it 'score'"),
        ("query,relevant_id,is_relevant\na,1,0\n", r":2: the column 'is_relevant' is not read; call it 'score'"),
        ("query,relevant_id,relevant\na,1,0\n", r":2: the column 'relevant' is not read; call it 'score'"),
        ("query,relevant_id,gain\na,1,0\n", r":2: the column 'gain' is not read; call it 'score'"),
        ("query,relevant_id,Score\na,1,0\n", r"queries\.csv: the column 'Score' is not read; call it 'score'"),
        ("query,relevant_id, score\na,1,0\n", r"queries\.csv: the column ' score' is not read; call it 'score'"),
        ("query,relevant_id,socre\na,1,0\n", r":2: the column 'socre' is not read"),
        ("query,relevant_id,relevance_score\na,1,0\n", r":2: the column 'relevance_score' is not read"),
        ("query,relevant_id,Rating\na,1,0\n", r":2: the column 'Rating' is not read"),
        ("query,relevant_id,score\na,1,\nb,1,2\n", r":2: the score is empty; give one, or leave the row out"),
        ("query,relevant_id,score\na,1,2\nb,1, \n", r":3: the score is empty"),
        ("query,relevant_id,score\na,1,10001\n", r":2: the score 10001 is too large; 10000 is the most"),
        ("query,relevant_id,score\na,1,²\n", r":2: the score '²'"),
        ("query,relevant_id,score\na,1,1\na,1,2\n", r":3: '1' has another score for this query"),
        ("query,relevant_id,score\na,1,0\n", r"no score is above 0"),
        ("query;relevant_id\na;1\n", r"columns are separated by ',' here, not by ';'"),
    ],
)
def test_mistakes_are_named_in_one_line(folder, text, message):
    (folder / "queries.csv").write_text(text)
    with pytest.raises(DataError, match=message) as e:
        load_csv(folder / "queries.csv")
    assert "\n" not in str(e.value)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"score": 2}, {}], r":2: no 'score', unlike the first row; give all rows one or none"),
        ([{}, {"score": 0}], r":2: a 'score', unlike the first row"),
        ([{"score": float("nan")}], r":1: the score is empty"),
        ([{"score": 0.5}], r":1: the score 0\.5 is not a whole number"),
        ([{"score": True}], r":1: the score True is not a whole number"),
        ([{"qurey": "a"}], r":1: no 'query' \(found: relevant_id, qurey\); every row needs it"),
    ],
)
def test_rows_of_json_lines_are_alike(folder, write_jsonl, rows, message):
    path = folder / "asked.jsonl"
    written = [{"query": f"q{n}", "relevant_id": "b"} | row for n, row in enumerate(rows)]
    write_jsonl(path, [{k: v for k, v in row.items() if k != "query" or "qurey" not in row} for row in written])
    with pytest.raises(DataError, match=message):
        load_csv(path)


def test_whole_numbers_may_be_written_as_floats(folder, write_jsonl):
    """As pandas writes them, and Parquet has them, where a column had a gap once."""
    write_jsonl(folder / "asked.jsonl", [{"query": "q", "relevant_id": "b", "score": 2.0}])
    assert load_csv(folder / "asked.jsonl").judgements == [{"b": 2}]


def test_of_two_tables_none_is_chosen(folder):
    (folder / "queries.tsv").write_text("query\trelevant_id\na\tb\n")
    with pytest.raises(DataError, match=r"holds queries\.csv and queries\.tsv, of which one alone would be read"):
        find_queries(folder)
    (folder / "corpus.csv").write_text("id,text\n1,x\nb,y\n")
    with pytest.raises(DataError, match=r"holds corpus\.jsonl and corpus\.csv, of which one"):
        load_csv(folder / "queries.csv")


def test_titles_under_another_name_are_not_passed_over(folder):
    for name in ("Title", " title"):
        (folder / "corpus.tsv").write_text(f"id\t{name}\ttext\n1\tT\tx\nb\tU\ty\n")
        with pytest.raises(DataError, match=f"corpus\\.tsv: the column '{name}' is not read; call it 'title'"):
            load_csv(folder / "queries.csv", folder / "corpus.tsv")


def test_missing_files_are_named(folder):
    (folder / "corpus.jsonl").unlink()
    with pytest.raises(DataError, match=r"beside queries\.csv; name it with --corpus"):
        load_csv(folder / "queries.csv")
    with pytest.raises(DataError, match="no such file"):
        load_csv(folder / "queries.csv", folder / "absent.jsonl")
    with pytest.raises(DataError, match="no such file"):
        load_csv(folder / "absent.csv")


def test_long_documents_and_byte_order_marks(folder):
    (folder / "corpus.jsonl").unlink()
    (folder / "corpus.csv").write_text("\ufeffid,text\n1," + "x" * 200_000 + "\nb,y\n", encoding="utf-8")
    assert len(load_csv(folder / "queries.csv").docs[0]) == 200_000


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"id": [1], "text": "x"}, r"corpus\.jsonl:1: id \[1\] is a list; use text or whole numbers"),
        ({"id": "1", "text": "x", "title": [3]}, r"corpus\.jsonl:1: 'title' is list; it must be text"),
        ({"id": "", "text": "x"}, r"corpus\.jsonl:1: a document needs an id"),
        ({"id": "1", "text": None}, r"corpus\.jsonl:1: 'text' is empty"),
    ],
)
def test_bad_documents_are_named(folder, write_jsonl, row, message):
    write_jsonl(folder / "corpus.jsonl", [row])
    with pytest.raises(DataError, match=message):
        load_csv(folder / "queries.csv")
