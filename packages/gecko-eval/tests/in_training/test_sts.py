import numpy as np
import pytest
from scipy.stats import spearmanr

from gecko_eval.data.sets import StsSet
from gecko_eval.data.sts import load_sts
from gecko_eval.in_training.sts import evaluate_sts
from gecko_eval.mteb.encoder import GeckoEmbedder, make_encoders
from gecko_eval.mteb.local import local_set


def test_the_loops_spearman_equals_mtebs(word_model, data_root):
    import mteb

    ours = evaluate_sts(word_model, load_sts(data_root / "similar"), [64, 16])
    for dim, encoder in make_encoders(GeckoEmbedder(word_model, "w"), [64, 16]).items():
        task = local_set(data_root / "similar").load()
        result = mteb.evaluate(encoder, task, cache=None, co2_tracker=False, show_progress_bar=False).task_results[0]
        assert ours[dim] == pytest.approx(result.get_score(), abs=1e-9)


def test_each_distinct_text_is_encoded_once(word_model):
    data = StsSet("s", ["a", "b", "a"], ["b", "a", "c d"], [1.0, 2.0, 3.0])
    found = evaluate_sts(word_model, data)
    assert word_model.texts_encoded == 3
    cosines = [float(np.dot(*word_model.encode([a, b]))) for a, b in zip(data.sentences1, data.sentences2, strict=True)]
    assert found[64] == pytest.approx(spearmanr(np.round(cosines, 6), data.scores).statistic, abs=1e-6)
