import math

import pytest
import torch

from gecko_core.errors import ConfigError
from gecko_eval.data.beir import load_beir
from gecko_eval.data.sets import StsSet
from gecko_eval.data.sts import load_sts
from gecko_eval.in_training.loop import LoopEvaluation, best_step, subsample
from gecko_eval.in_training.retrieval import evaluate_retrieval


def test_a_subsample_keeps_what_is_judged_and_repeats(beir_folder):
    data = load_beir(beir_folder)
    small = subsample(data, max_queries=5, max_documents=20, seed=1)
    assert (len(small.queries), len(small.docs)) == (5, 20)
    assert set(small.query_ids) <= set(data.query_ids)
    assert all(doc in set(small.doc_ids) for judged in small.judgements for doc in judged)
    assert small == subsample(data, max_queries=5, max_documents=20, seed=1)
    assert small != subsample(data, max_queries=5, max_documents=20, seed=2)
    index = data.doc_ids.index(small.doc_ids[3])
    assert (small.docs[3], small.titles[3]) == (data.docs[index], data.titles[index])


def test_judged_documents_stay_beyond_the_limit(beir_folder):
    small = subsample(load_beir(beir_folder), max_queries=12, max_documents=3)
    assert len(small.docs) == 36


def test_it_evaluates_every_so_many_steps_and_remembers_the_best(make_word_model, data_root, beir_folder):
    data = load_beir(beir_folder)
    watch = LoopEvaluation([data, load_sts(data_root / "similar")], every=10, dims=(64, 16))
    numbers = {step: watch(make_word_model(str(step)), step) for step in (5, 10, 20)}
    assert numbers[5] == {}
    expected = evaluate_retrieval(make_word_model("10"), data, [64])[64].ndcg_at_10
    assert numbers[10]["eval/toy/ndcg_at_10@64"] == expected
    mean = (expected + numbers[10]["eval/similar/spearman@64"]) / 2
    assert numbers[10]["eval/mean@64"] == pytest.approx(mean)
    assert watch.best == max(numbers[10]["eval/mean@64"], numbers[20]["eval/mean@64"])
    assert [row["step"] for row in watch.history] == [10, 20]
    assert watch(make_word_model(), 3, force=True)


def test_the_best_step_is_the_first_of_the_highest_and_skips_steps_without_a_score():
    assert best_step({10: 0.2, 20: None, 30: 0.5, 40: 0.5, 50: float("nan")}) == 30
    assert best_step({10: None}) is None


def test_a_set_whose_pairs_are_all_alike_leaves_the_others_to_decide(make_word_model, beir_folder):
    """The mean was no number at any step, so that the last one was kept for the best."""
    alike = StsSet("alike", ["one text"] * 3, ["another text"] * 3, [0.0, 0.5, 1.0])
    data = load_beir(beir_folder)
    watch = LoopEvaluation([alike, data], every=10, dims=(64,))
    numbers = watch(make_word_model("10"), 10)
    assert math.isnan(numbers["eval/alike/spearman@64"])
    assert numbers["eval/mean@64"] == numbers["eval/toy/ndcg_at_10@64"] / 2
    assert watch.best_step == 10


def test_training_mode_is_restored(make_word_model, beir_folder):
    model = make_word_model()
    module = torch.nn.Dropout()
    model.__class__ = type("Training", (type(model),), {"training": property(lambda _: module.training)})
    model.eval, model.train = module.eval, module.train
    LoopEvaluation([load_beir(beir_folder)], every=1)(model, 1)
    assert module.training


def test_settings_that_cannot_work_are_refused(beir_folder):
    data = load_beir(beir_folder)
    with pytest.raises(ConfigError, match="at least 1 step"):
        LoopEvaluation([data], every=0)
    with pytest.raises(ConfigError, match="no two of one name"):
        LoopEvaluation([data, data])
