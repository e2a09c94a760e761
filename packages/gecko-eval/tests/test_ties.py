import numpy as np
import pytest
import torch

from gecko_core.search import TopK
from gecko_eval.metrics import ranking_metrics
from gecko_eval.ties import tie_order


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
    pytrec_eval = pytest.importorskip("pytrec_eval")
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
