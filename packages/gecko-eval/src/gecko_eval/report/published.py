"""Published scores that measured ones are held against, and the tasks of the benchmarks behind them.

The rows of Gecko and its rivals are those of Lee et al. 2024 (arXiv 2403.20327).
"""

from __future__ import annotations

#: Columns of the paper's MTEB table and the mteb task types under them.
CATEGORIES: dict[str, str] = {
    "class": "Classification",
    "clus": "Clustering",
    "pair": "PairClassification",
    "rerank": "Reranking",
    "retr": "Retrieval",
    "STS": "STS",
    "summ": "Summarization",
}

_IN_DOMAIN, _ZERO_SHOT, _UNKNOWN = "in-domain", "zero-shot", "not known here"

#: MTEB(eng, v1), 56 tasks: model, dims, training, then one score per category and the average.
MTEB_ENG_V1: list[tuple[str, int, str, tuple[float, ...]]] = [
    ("gecko-1b-768", 768, _IN_DOMAIN, (81.17, 47.48, 87.61, 58.91, 55.70, 85.06, 32.63, 66.31)),
    ("gecko-1b-256", 256, _IN_DOMAIN, (78.99, 45.07, 87.25, 57.78, 52.44, 84.93, 32.36, 64.37)),
    ("gecko, FRet only", 768, _ZERO_SHOT, (70.26, 46.82, 86.27, 57.60, 53.16, 83.14, 32.16, 62.64)),
    ("text-embedding-3-large-256", 256, _UNKNOWN, (71.97, 46.23, 84.22, 57.99, 51.66, 81.04, 29.92, 62.00)),
    ("instructor-xl", 768, _UNKNOWN, (73.12, 44.74, 86.62, 57.29, 49.26, 83.06, 32.32, 61.79)),
    ("gtr-t5-xl", 768, _UNKNOWN, (67.11, 41.51, 86.13, 55.97, 47.96, 77.80, 30.21, 58.42)),
    ("e5-mistral-7b-instruct", 4096, _UNKNOWN, (78.47, 50.26, 88.34, 60.21, 56.89, 84.63, 31.40, 66.63)),
]

#: MIRACL, 18 languages, nDCG@10.
MIRACL: list[tuple[str, float]] = [
    ("BM25", 38.5),
    ("mContriever", 52.7),
    ("text-embedding-3-large", 54.9),
    ("gecko-multilingual-1b", 56.2),
]

#: The tasks behind each category of MTEB(eng, v1), by mteb's names, separated by blanks.
TASKS_ENG_V1: dict[str, str] = {
    "class": (
        "AmazonCounterfactualClassification AmazonPolarityClassification AmazonReviewsClassification "
        "Banking77Classification EmotionClassification ImdbClassification MTOPDomainClassification "
        "MTOPIntentClassification MassiveIntentClassification MassiveScenarioClassification "
        "ToxicConversationsClassification TweetSentimentExtractionClassification"
    ),
    "clus": (
        "ArxivClusteringP2P ArxivClusteringS2S BiorxivClusteringP2P BiorxivClusteringS2S MedrxivClusteringP2P "
        "MedrxivClusteringS2S RedditClustering RedditClusteringP2P StackExchangeClustering "
        "StackExchangeClusteringP2P TwentyNewsgroupsClustering"
    ),
    "pair": "SprintDuplicateQuestions TwitterSemEval2015 TwitterURLCorpus",
    "rerank": "AskUbuntuDupQuestions MindSmallReranking SciDocsRR StackOverflowDupQuestions",
    "retr": (
        "ArguAna CQADupstackRetrieval ClimateFEVER DBPedia FEVER FiQA2018 HotpotQA MSMARCO NFCorpus NQ "
        "QuoraRetrieval SCIDOCS SciFact TRECCOVID Touche2020"
    ),
    "STS": "BIOSSES SICK-R STS12 STS13 STS14 STS15 STS16 STS17 STS22 STSBenchmark",
    "summ": "SummEval",
}

#: The tasks behind each category of MTEB(eng, v2), the leaderboard's present English one (Enevoldsen et al. 2025).
TASKS_ENG_V2: dict[str, str] = {
    "class": (
        "AmazonCounterfactualClassification Banking77Classification ImdbClassification MTOPDomainClassification "
        "MassiveIntentClassification MassiveScenarioClassification ToxicConversationsClassification "
        "TweetSentimentExtractionClassification"
    ),
    "clus": (
        "ArXivHierarchicalClusteringP2P ArXivHierarchicalClusteringS2S BiorxivClusteringP2P.v2 "
        "MedrxivClusteringP2P.v2 MedrxivClusteringS2S.v2 StackExchangeClustering.v2 StackExchangeClusteringP2P.v2 "
        "TwentyNewsgroupsClustering.v2"
    ),
    "pair": "SprintDuplicateQuestions TwitterSemEval2015 TwitterURLCorpus",
    "rerank": "AskUbuntuDupQuestions MindSmallReranking",
    "retr": (
        "ArguAna CQADupstackGamingRetrieval CQADupstackUnixRetrieval ClimateFEVERHardNegatives FEVERHardNegatives "
        "FiQA2018 HotpotQAHardNegatives SCIDOCS TRECCOVID Touche2020Retrieval.v3"
    ),
    "STS": "BIOSSES SICK-R STS12 STS13 STS14 STS15 STS17 STS22.v2 STSBenchmark",
    "summ": "SummEvalSummarization.v2",
}

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
