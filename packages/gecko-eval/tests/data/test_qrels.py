import gzip

import pytest

from gecko_core.errors import DataError
from gecko_eval.data.qrels import find_qrels, read_qrels

QUERIES, DOCUMENTS = {"q1", "q2"}, {"d1", "d2"}


@pytest.mark.parametrize(
    "text",
    [
        "query-id\tcorpus-id\tscore\nq1\td1\t2\nq2\td2\t0\n",
        "q1\td1\t2\nq2\td2\t0\n",
        "q1\t0\td1\t2\nq2\t0\td2\t0\n",
        "q1 0 d1 2\n\nq2 0 d2 0\n",
        "q1 d1 2\nq2 d2 0\n",
    ],
    ids=["BEIR", "no header", "TREC with tabs", "TREC with blanks", "three columns with blanks"],
)
def test_every_layout_reads_the_same(tmp_path, text):
    (tmp_path / "test.tsv").write_text(text)
    (tmp_path / "test.tsv.gz").write_bytes(gzip.compress(text.encode()))
    for name in ("test.tsv", "test.tsv.gz"):
        assert read_qrels(tmp_path / name, QUERIES, DOCUMENTS) == {"q1": {"d1": 2}, "q2": {"d2": 0}}


@pytest.mark.parametrize("grade", ["0.5", "high", "10001", "2147483647", "99999999999", "1_0", "٣", "9" * 5000])
def test_grades_are_whole_numbers(tmp_path, grade):
    (tmp_path / "test.tsv").write_text(f"q1\td1\t{grade}\n")
    with pytest.raises(DataError, match=r"test\.tsv:1: the score"):
        read_qrels(tmp_path / "test.tsv", QUERIES, DOCUMENTS)


@pytest.mark.parametrize(
    "header",
    ["corpus-id\tquery-id\tscore", "doc_id query_id relevance", "did\tqid\tscore", "article_id q score", "#doc q rel"],
)
def test_columns_in_another_order_are_refused(tmp_path, header):
    """Where queries and documents are numbered alike, every judgement was read the wrong way round."""
    (tmp_path / "test.tsv").write_text(f"{header}\nq1\td1\t1\n")
    with pytest.raises(DataError, match=r"test\.tsv:1: .* comes first; the columns are query-id, corpus-id and score"):
        read_qrels(tmp_path / "test.tsv", QUERIES, DOCUMENTS)


def test_four_columns_are_those_of_trec_alone(tmp_path):
    """The third of them was taken for the document, whatever the header said."""
    (tmp_path / "test.tsv").write_text("query-id\tcorpus-id\tannotator\tscore\nq1\td1\td2\t1\n")
    with pytest.raises(DataError, match=r"test\.tsv:1: four columns are those of TREC, .* leave 'annotator' out"):
        read_qrels(tmp_path / "test.tsv", QUERIES, DOCUMENTS)
    (tmp_path / "test.tsv").write_text("q1\td1\td2\t1\n")  # without a header, too
    with pytest.raises(DataError, match=r"test\.tsv:1: four columns are those of TREC, .* here it is 'd1'"):
        read_qrels(tmp_path / "test.tsv", QUERIES, DOCUMENTS)
    (tmp_path / "test.tsv").write_text("query-id iteration corpus-id score\nq1 7 d1 2\n")
    assert read_qrels(tmp_path / "test.tsv", QUERIES, DOCUMENTS) == {"q1": {"d1": 2}}
    for header in ("", "qid iteration docid relevance\n", "topic\tQ0\tdoc\tlabel\n"):
        (tmp_path / "test.tsv").write_text(f"{header}q1 0 d1 2\n")
        assert read_qrels(tmp_path / "test.tsv", QUERIES, DOCUMENTS) == {"q1": {"d1": 2}}


def test_zeros_before_a_grade_and_white_space_in_ids(tmp_path):
    (tmp_path / "test.tsv").write_text(f"q1 d\u00a01 {'0' * 5000}2\nq1 d2 -001\n", encoding="utf-8")
    assert read_qrels(tmp_path / "test.tsv", QUERIES, {"d\u00a01", "d2"}) == {"q1": {"d\u00a01": 2, "d2": -1}}


def test_of_two_files_of_a_split_none_is_chosen(tmp_path):
    (tmp_path / "qrels").mkdir()
    (tmp_path / "qrels" / "test.tsv").touch()
    for other in (tmp_path / "qrels.tsv", tmp_path / "qrels" / "test.tsv.gz"):
        other.touch()
        with pytest.raises(DataError, match=rf"holds test\.tsv and {other.name}, of which one alone would be read"):
            find_qrels(tmp_path, "test")
        other.unlink()
    (tmp_path / "qrels" / "test.tsv").unlink()
    (tmp_path / "qrels" / "test.tsv").mkdir()
    with pytest.raises(DataError, match=r"test\.tsv: is no file; put the data in its place"):
        find_qrels(tmp_path, "test")


def test_the_file_of_a_split_is_found_or_the_others_are_named(tmp_path):
    (tmp_path / "qrels").mkdir()
    (tmp_path / "qrels" / "dev.tsv.gz").touch()
    assert find_qrels(tmp_path, "dev") == tmp_path / "qrels" / "dev.tsv.gz"
    with pytest.raises(DataError, match=r"no qrels/test\.tsv \(found dev\.tsv\.gz\)"):
        find_qrels(tmp_path, "test")
