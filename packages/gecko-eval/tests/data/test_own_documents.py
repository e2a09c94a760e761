import numpy as np
import pytest

from gecko_eval.data.beir import load_beir
from gecko_eval.data.own_documents import own_documents
from gecko_eval.in_training import evaluate_retrieval

QUERIES = {"q1": "How do I learn Spanish quickly?", "q2": "Why is the sky blue?"}
OTHERS = {"d1": ("", "The fastest way to learn Spanish"), "d2": ("", "What makes the sky blue?")}
JUDGED = {"q1": {"d1": 1}, "q2": {"d2": 1}}


def with_own(**texts):
    return OTHERS | {name: ("", text) for name, text in texts.items()}


def test_queries_without_a_document_of_their_id_change_nothing():
    assert own_documents(QUERIES, OTHERS, JUDGED) == (False, ())


@pytest.mark.parametrize(
    "documents",
    [
        with_own(q1="How do I learn Spanish  QUICKLY?", q2="Why is the sky blue?"),
        with_own(q1="How do I learn Spanish quickly?"),
        OTHERS | {"q1": ("How do I learn", "Spanish quickly?")},
    ],
)
def test_a_querys_own_document_is_left_out_and_said_so(documents):
    leave_out, notes = own_documents(QUERIES, documents, JUDGED)
    assert leave_out
    assert len(notes) == 1
    assert "under the same id; a query's own document is left out" in notes[0]


def test_ids_that_happen_to_be_the_same_leave_nothing_out():
    assert own_documents(QUERIES, with_own(q1="Another text", q2="And another"), JUDGED) == (False, ())
    leave_out, (note,) = own_documents(QUERIES, with_own(q1=QUERIES["q1"], q2="Another text"), JUDGED)
    assert not leave_out
    assert (
        "1 of 2 queries are documents of the corpus under the same id, and 1 have the same id as another text" in note
    )


def test_a_document_that_is_judged_relevant_to_itself_stays():
    judged = JUDGED | {"q1": {"q1": 1}}
    assert own_documents(QUERIES, with_own(q1=QUERIES["q1"]), judged) == (False, ())


def test_a_twin_under_another_id_is_told():
    leave_out, (note,) = own_documents(QUERIES, with_own(x=QUERIES["q2"]), JUDGED)
    assert not leave_out
    assert "1 of 2 queries stand in the corpus word for word" in note
    assert "'q2' as 'x'" in note
    assert own_documents(QUERIES, with_own(x=QUERIES["q2"]), JUDGED | {"q2": {"x": 0}}) == (False, ())


def test_the_own_hit_does_not_count_as_a_miss(beir_folder, write_jsonl, word_model):
    """As in Quora: without the rule, every query finds itself first and nDCG is far below 1."""
    folder = beir_folder.parent / "quora"
    texts = {"q1": "amber basin cedar delta", "q2": "ember fjord grove harbour"}
    documents = texts | {"d1": "amber basin cedar", "d2": "ember fjord grove"}
    write_jsonl(folder / "corpus.jsonl", [{"_id": name, "text": text} for name, text in documents.items()])
    write_jsonl(folder / "queries.jsonl", [{"_id": name, "text": text} for name, text in texts.items()])
    (folder / "qrels").mkdir()
    (folder / "qrels" / "test.tsv").write_text("q1\td1\t1\nq2\td2\t1\n")
    data = load_beir(folder)
    plain = load_beir(folder, ignore_identical_ids=False)
    assert (data.ignore_identical_ids, plain.ignore_identical_ids) == (True, False)
    assert data.fingerprint() != plain.fingerprint()
    scores = [next(iter(evaluate_retrieval(word_model, one).values())).ndcg_at_10 for one in (data, plain)]
    assert scores[0] == 1.0
    assert scores[1] == pytest.approx(1 / np.log2(3))
