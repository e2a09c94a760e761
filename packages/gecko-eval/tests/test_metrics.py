import numpy as np
import pytest
import pytrec_eval
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mteb._evaluators.retrieval_metrics import calculate_retrieval_scores

from gecko_core.search import TopK
from gecko_eval.metrics import METRICS, average_precision, ranking_metrics, spearman, tie_order


def random_run(seed: int, queries: int = 25, docs: int = 150, ties: bool = True):
    """Scores with many exact ties, graded judgements, a query without relevant documents."""
    rng = np.random.default_rng(seed)
    run, qrels = {}, {}
    for q in range(queries):
        scores = rng.integers(0, 40, docs) / 8 if ties else rng.random(docs)
        run[f"q{q}"] = {f"d{i}": float(s) for i, s in enumerate(scores)}
        judged = rng.choice(docs, size=rng.integers(1, 30), replace=False)
        qrels[f"q{q}"] = {f"d{i}": int(rng.integers(0, 4)) for i in judged}
    qrels["q0"] = dict.fromkeys(qrels["q0"], 0)
    return run, qrels


def ranked(run):
    return [sorted(docs, key=lambda d: (docs[d], d), reverse=True)[:100] for docs in run.values()]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("ties", [True, False])
def test_per_query_values_equal_trec_eval(seed, ties):
    run, qrels = random_run(seed, ties=ties)
    ours = ranking_metrics(ranked(run), [qrels[q] for q in run])
    theirs = pytrec_eval.RelevanceEvaluator(
        qrels, {"ndcg_cut.10", "recall.10,100", "recip_rank", "success.1"}
    ).evaluate(run)
    for ours_name, trec_name in [
        ("ndcg_at_10", "ndcg_cut_10"),
        ("recall_at_10", "recall_10"),
        ("recall_at_100", "recall_100"),
        ("accuracy_at_1", "success_1"),
    ]:
        np.testing.assert_allclose(ours[ours_name], [theirs[q][trec_name] for q in run], atol=1e-9, err_msg=ours_name)
    reciprocal = np.array([theirs[q]["recip_rank"] for q in run])
    np.testing.assert_allclose(ours["mrr_at_10"], np.where(reciprocal >= 0.1, reciprocal, 0.0), atol=1e-9)


def test_means_equal_mteb():
    run, qrels = random_run(11)
    top = {q: {d: run[q][d] for d in docs} for q, docs in zip(run, ranked(run), strict=True)}
    result = calculate_retrieval_scores(top, qrels, [1, 10, 100])
    ours = ranking_metrics(ranked(run), [qrels[q] for q in run])
    assert ours["ndcg_at_10"].mean() == pytest.approx(result.ndcg["NDCG@10"], abs=1e-5)  # mteb rounds to 5 places
    assert ours["recall_at_100"].mean() == pytest.approx(result.recall["Recall@100"], abs=1e-5)
    assert ours["mrr_at_10"].mean() == pytest.approx(np.mean(result.mrr["MRR@10"]), abs=1e-5)


def test_a_query_without_relevant_documents_scores_zero():
    scores = ranking_metrics([["a", "b"]], [{"a": 0}])
    assert {m: scores[m].tolist() for m in METRICS} == {m: [0.0] for m in METRICS}


def test_short_rankings_and_known_values():
    scores = ranking_metrics([["x", "a"]], [{"a": 1, "b": 1}])
    assert scores["mrr_at_10"][0] == 0.5
    assert scores["recall_at_10"][0] == 0.5
    assert scores["accuracy_at_1"][0] == 0.0
    assert scores["ndcg_at_10"][0] == pytest.approx((1 / np.log2(3)) / (1 + 1 / np.log2(3)))


def test_lengths_must_agree():
    with pytest.raises(ValueError, match="ranking 1 has a document more than once"):
        ranking_metrics([["a", "b"], ["a", "a", "b"]], [{"a": 1}, {"a": 1}])
    with pytest.raises(ValueError, match="1 rankings but 2"):
        ranking_metrics([["a"]], [{}, {}])


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(-5, 5), st.integers(-5, 5)), min_size=3, max_size=40))
def test_spearman_is_the_correlation_of_average_ranks(pairs):
    a, b = np.array(pairs, dtype=float).T
    if len(set(a)) == 1 or len(set(b)) == 1:
        assert np.isnan(spearman(a, b))
    else:
        ranks = [[(values < value).sum() + ((values == value).sum() + 1) / 2 for value in values] for values in (a, b)]
        assert spearman(a, b) == pytest.approx(np.corrcoef(*ranks)[0, 1], abs=1e-12)


def test_spearman_wants_two_equal_rows():
    with pytest.raises(ValueError, match="two 1-d arrays"):
        spearman(np.arange(3), np.arange(4))


@pytest.mark.parametrize("seed", range(5))
def test_average_precision_takes_equal_scores_together(seed):
    rng = np.random.default_rng(seed)
    scores, labels = rng.integers(0, 12, 80) / 4, rng.integers(0, 2, 80)
    steps = [(labels[scores >= at].mean(), labels[scores == at].sum() / labels.sum()) for at in np.unique(scores)]
    expected = sum(precision * gained for precision, gained in steps)
    assert average_precision(scores, labels) == pytest.approx(expected, abs=1e-12)
    assert np.isnan(average_precision(scores, np.zeros(80)))


def integer_vectors(*shape):
    # Small integers: scores are exact in float32 and tie all the time.
    return torch.tensor(np.random.default_rng(len(shape) + shape[0]).integers(-1, 2, shape), dtype=torch.float32)


@pytest.mark.parametrize("block", [7, 200])
def test_of_equal_scores_the_larger_id_comes_first(block):
    queries, documents = integer_vectors(9, 6), integer_vectors(200, 6)
    doc_ids = [f"d{i}" for i in np.random.default_rng(0).permutation(200)]
    top = TopK(queries, 5, ties=tie_order(doc_ids))
    for first in range(0, 200, block):
        top.add(documents[first : first + block])
    scores = (queries @ documents.T).tolist()
    expected = [sorted(range(200), key=lambda i, row=row: (row[i], doc_ids[i]), reverse=True)[:5] for row in scores]
    assert top.result().rows.tolist() == expected


def test_tied_rankings_score_as_in_trec_eval():
    queries, documents = integer_vectors(20, 4), integer_vectors(60, 4)
    doc_ids = [f"d{i}" for i in range(60)]
    found = TopK(queries, 60, ties=tie_order(doc_ids))
    found.add(documents)
    rows, scores = found.result()
    assert (np.diff(scores, axis=1) == 0).any()
    judgements = [{f"d{d}": int(g) for d, g in enumerate(row)} for row in integer_vectors(20, 60).clamp(min=0).tolist()]
    run = {
        f"q{q}": {doc_ids[d]: float(s) for d, s in zip(rows[q], scores[q], strict=True)} for q in range(len(queries))
    }
    oracle = pytrec_eval.RelevanceEvaluator({f"q{q}": j for q, j in enumerate(judgements)}, {"ndcg_cut.10"})
    theirs = oracle.evaluate(run)
    ours = ranking_metrics([[doc_ids[d] for d in row] for row in rows], judgements)["ndcg_at_10"]
    np.testing.assert_allclose(ours, [theirs[f"q{q}"]["ndcg_cut_10"] for q in range(20)], atol=1e-12)
