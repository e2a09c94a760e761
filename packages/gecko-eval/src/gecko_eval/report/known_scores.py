"""Public scores of all-MiniLM-L6-v2 and BM25: the truth that a set-up is checked against."""

from __future__ import annotations

#: Where MINILM comes from: the files mteb's leaderboard is made of, one per task.
MINILM_SOURCE = (
    "github.com/embeddings-benchmark/results at f4cc6c8, results/sentence-transformers__all-MiniLM-L6-v2/"
    "8b3219a92973c328a8e22fadcfa821b5dc75636a/<task>.json, main_score of split test (subset en where there are several)"
)

#: task -> main score. Within 0.3 points is agreement: library versions move the last digits.
MINILM: dict[str, float] = {
    "SciFact": 64.508,
    "STSBenchmark": 82.032,
    "STS12": 72.369,
    "STS13": 80.603,
    "STS14": 75.589,
    "STS15": 85.390,
    "STS16": 78.989,
    "Banking77Classification": 80.042,
    "EmotionClassification": 40.830,
    "AmazonCounterfactualClassification": 63.642,
}
MINILM_TOLERANCE = 0.3

#: nDCG@10 of BM25 on SciFact (Thakur et al. 2021, BEIR, Table 2: multi-field Lucene through Anserini).
BM25_SCIFACT = 66.5
BM25_SOURCE = "Thakur et al. 2021 (BEIR), Table 2"
BM25_TOLERANCE = 1.0
