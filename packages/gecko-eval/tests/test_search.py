import numpy as np
import pytest
import torch

from gecko_eval.search import TopK


def brute_force(queries, documents, doc_ids, k):
    scores = queries @ documents.T
    return [sorted(range(len(doc_ids)), key=lambda i: (row[i].item(), doc_ids[i]), reverse=True)[:k] for row in scores]


@pytest.mark.parametrize("block", [1, 7, 64, 1000])
@pytest.mark.parametrize("k", [1, 5, 40])
def test_any_blocking_gives_the_same_ranking_with_ties(block, k):
    rng = np.random.default_rng(0)
    # Small integers: scores are exact in float32 and tie all the time.
    queries = torch.tensor(rng.integers(-1, 2, (9, 6)), dtype=torch.float32)
    documents = torch.tensor(rng.integers(-1, 2, (200, 6)), dtype=torch.float32)
    doc_ids = [f"d{i}" for i in rng.permutation(200)]
    top = TopK(9, doc_ids, k, query_block=4)
    for first in range(0, 200, block):
        top.add(queries, documents[first : first + block], first)
    indices, scores = top.result()
    assert indices.tolist() == brute_force(queries, documents, doc_ids, k)
    np.testing.assert_array_equal(scores, np.take_along_axis((queries @ documents.T).numpy(), indices, 1))


def test_k_beyond_the_corpus_ranks_all_of_it():
    top = TopK(1, ["a", "b"], 10)
    top.add(torch.ones(1, 2), torch.tensor([[1.0, 0.0], [2.0, 0.0]]), 0)
    assert top.result()[0].tolist() == [[1, 0]]
