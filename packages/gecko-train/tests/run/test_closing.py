import io
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from gecko_train.run.closing import METRICS, closing_screen, compare_models, score_section, verdict


def scores(level, queries=200, seed=0):
    values = (np.random.default_rng(seed).random(queries) < level).astype(float).tolist()
    return {"384": dict.fromkeys(METRICS, values), "128": dict.fromkeys(METRICS, values)}


def test_the_verdict_names_a_rise_a_fall_and_no_change():
    lines = compare_models({"start": scores(0.5), "pre-finetuned": scores(0.9), "fine-tuned": scores(0.1)})
    assert [line["model"] for line in lines] == ["start"] * 2 + ["pre-finetuned"] * 2 + ["fine-tuned"] * 2
    assert "ndcg_at_10_difference" not in lines[0]
    difference, low, high = lines[2]["ndcg_at_10_difference"]
    assert 0 < low < difference < high
    said = verdict(lines, 200)
    assert "pre-finetuned, 384 dims: nDCG@10 rose from" in said[0]
    assert "fine-tuned, 128 dims: nDCG@10 FELL from" in said[3]
    assert "200 held-out passages" in said[-1]
    assert "since the start model; since pre-finetuned it FELL from 0.8" in said[2]
    near = verdict(compare_models({"start": scores(0.5), "fine-tuned": scores(0.5, seed=1)}), 200)
    assert "did not clearly change" in near[0]
    same = verdict(compare_models({"start": scores(0.4), "pre-finetuned": scores(0.9), "saved": scores(0.9)}), 200)
    assert same[2].startswith("saved, 384 dims: nDCG@10 is 0.8")
    assert same[2].endswith(", each query as with the pre-finetuned model.")


@pytest.mark.parametrize("queries", range(1, 8))
def test_few_queries_have_no_rise(queries):
    """Of one query the interval was as wide as a point, and left out zero."""
    start, trained = [0.4 + number / 100 for number in range(queries)], [0.5 + number / 90 for number in range(queries)]
    both = {name: {"4": dict.fromkeys(METRICS, values)} for name, values in (("start", start), ("trained", trained))}
    lines = compare_models(both)
    said = verdict(lines, queries)[0]
    few = f"{queries} {'query is' if queries == 1 else 'queries are'} too few to tell."
    assert ("did not clearly change" in said) == said.endswith(few) == (queries < 6)
    assert ("rose" in said) == (queries >= 6)
    difference, low, high = lines[1]["ndcg_at_10_difference"]
    assert -1 <= low <= difference <= high <= 1
    if queries == 1:
        assert (low, high) == (-1, 1)
    results = {"scores": lines, "verdict": [said], "queries": queries, "documents": 9, "stages": [], "files": {}}
    (table,) = score_section(results, Path())
    assert (table.columns[-1]._cells[1].style == "green") == (queries >= 6)
    for line in lines:  # as earlier versions wrote them
        for name in [name for name in line if name.endswith("_significant")]:
            del line[name]
    assert verdict(lines, queries)


def test_the_screen_shows_scores_steps_files_and_how_to_load_the_model(tmp_path):
    lines = compare_models({"start": scores(0.5), "fine-tuned": scores(0.1)})
    results = {
        "scores": lines, "verdict": verdict(lines, 200), "queries": 200, "documents": 500,
        "stages": [{"title": "read the corpus", "seconds": 3.2, "peak_memory_gb": 1.5, "note": "7 passages"}],
        "files": {"model": "model", "training data": "fret"},
    }  # fmt: skip
    screen = io.StringIO()
    closing_screen(Console(file=screen, width=140), results, Path("runs/x"))
    text = screen.getvalue()
    for wanted in (
        "nDCG@10",
        "recall@10",
        "fine-tuned",
        "FELL",
        "read the corpus",
        "7 passages",
        "runs/x/model",
        "Gecko.from_pretrained",
    ):
        assert wanted in text
    assert "[-0." in text
    assert "[red]" not in text
