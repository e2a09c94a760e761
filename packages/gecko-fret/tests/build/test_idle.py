"""What is said of settings without effect."""

import pytest

from gecko_fret.build.idle import idle_settings
from gecko_fret.config import parse_config

PAPER = {"mine": {"fuse": "rrf"}}


@pytest.mark.parametrize(
    ("values", "lines"),
    [
        ({}, []),
        (PAPER, []),
        ({"generate": {"contrast": 0.5, "plausible": 0.1}}, []),
        ({"generate": {"contrast": 0, "plausible": 0.2}}, []),
        ({"generate": {"contrast": 0, "plausible": 0.1}}, ["generate.plausible has no effect: generate.contrast is 0"]),
        (
            {"generate": {"user_task": "question"}},
            ["generate.user_task has no effect: neither generate.examples nor generate.log names a file"],
        ),
        ({"generate": {"user_task": "question", "log": "queries.txt", "sources": ["llm", "log"]}}, []),
        (
            {"generate": {"user_task": "question", "examples_shown": 3, "examples": "queries.txt"}},
            [],
        ),
        (
            {"score": {"judges": ["similarity", "ql"], "bm25": {"k1": 2.0}, "yes_no": {"prompt": "mine.yaml"}}},
            [
                "score.bm25.k1 has no effect: bm25 is not in score.judges",
                "score.yes_no.prompt has no effect: yes-no is not in score.judges",
            ],
        ),
        ({"score": {"judges": ["similarity", "bm25"], "bm25": {"k1": 2.0}}}, []),
        ({"retrieve": {"bm25": 5}, "score": {"bm25": {"k1": 2.0}}}, []),
        ({"mine": {"rrf_k": 60}}, ["mine.rrf_k has no effect: mine.fuse is calibrated"]),
        ({"mine": {"fuse": "rrf", "rrf_k": 60}}, []),
        (
            {"measure": {"items": 9}, "mine": {"fuse": "rrf", "seed_rank": None}},
            [
                "measure.items has no effect: mine.fuse is rrf",
                "mine.seed_rank has no effect: mine.fuse is rrf",
            ],
        ),
        (
            {"enrich": {"passage_tokens": 9}, "corpus": {"near_threshold": 0.9}, "retrieve": {"search": "exact"}},
            [
                "corpus.near_threshold has no effect: corpus.deduplicate is not near",
                "enrich.passage_tokens has no effect: enrich.prompt names no prompt",
            ],
        ),
        (
            {"retrieve": {"search": "exact", "hnsw_above": 9, "hnsw_repeatable": False}},
            [
                "retrieve.hnsw_above has no effect: retrieve.search is not auto",
                "retrieve.hnsw_repeatable has no effect: retrieve.search is exact",
            ],
        ),
        (
            {"mine": {"negative": "none", "negatives": 3}},
            ["mine.negatives has no effect: mine.negative is none"],
        ),
    ],
)
def test_changed_settings_that_nothing_reads_are_named(values, lines):
    assert idle_settings(parse_config(values)) == lines
