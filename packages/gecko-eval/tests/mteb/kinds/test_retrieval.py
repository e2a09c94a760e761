from gecko_eval.data.sets import RetrievalSet
from gecko_eval.mteb.kinds import retrieval_task
from gecko_eval.mteb.local import local_set


def test_retrieval_data_reaches_mteb_whole(beir_folder):
    task = local_set(beir_folder).load()
    split = task.dataset["default"]["test"]
    assert (len(split["corpus"]), len(split["queries"])) == (60, 12)
    assert split["corpus"][1]["title"] == "note 1"
    assert split["relevant_docs"]["q1"] == {"d5": 2, "d6": 1, "d7": 0}
    assert task.metadata.main_score == "ndcg_at_10"


def test_a_table_of_tabs_beside_a_corpus_is_a_set(tmp_path):
    (tmp_path / "queries.tsv").write_text("query\trelevant_id\nwhat?\ta\n")
    (tmp_path / "corpus.tsv").write_text("id\ttext\na\tthis\nb\tthat\n")
    split = local_set(tmp_path).load().dataset["default"]["test"]
    assert split["relevant_docs"] == {"q0": {"a": 1}}


def test_grades_below_zero_are_scored_as_not_relevant():
    """pytrec_eval reads outside its tables at grades below -1: the process ended with a segmentation fault."""
    documents = [f"d{number}" for number in range(130)]
    judged = {f"q{number}": {name: (number + at) % 6 - 2 for at, name in enumerate(documents)} for number in range(100)}
    data = RetrievalSet("s", [*judged], [*judged], documents, documents, None, judged)
    handed = retrieval_task(data).dataset["default"]["test"]["relevant_docs"]
    assert handed == {query: {name: max(grade, 0) for name, grade in of.items()} for query, of in judged.items()}
    assert min(min(of.values()) for of in data.judgements) == -2  # what was given stays as it is


def test_queries_without_a_relevant_document_are_told(tmp_path):
    (tmp_path / "queries.tsv").write_text("query\trelevant_id\nwhat?\ta\n")
    (tmp_path / "corpus.tsv").write_text("id\ttext\na\tthis\nb\tthat\n")
    assert not any("above 0" in note for note in local_set(tmp_path).load().notes)
    data = RetrievalSet(
        "s", ["q", "r", "s"], ["x", "y", "z"], ["a"], ["this"], None, {"q": {"a": 1}, "r": {"a": 0}, "s": {"a": -1}}
    )
    assert retrieval_task(data).notes == (
        "2 of 3 queries have no judgement above 0: they score 0 whatever is found, and the mean is lower by it",
    )
