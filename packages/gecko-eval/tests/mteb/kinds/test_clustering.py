import json
from types import SimpleNamespace

import numpy as np

from gecko_eval.mteb.kinds import kind_named


def scored(main_score, draws):
    task = SimpleNamespace(metadata=SimpleNamespace(main_score=main_score))
    scores = {"test": [{"hf_subset": "default", "v_measures": draws}]}
    return kind_named("Clustering").scored_items(task, scores)


def test_the_items_are_the_draws_of_all_levels():
    np.testing.assert_array_equal(scored("v_measure", [0.25, 0.5])["test/default"], [0.25, 0.5])
    levels = {"Level 0": [0.25, 0.5], "Level 1": [0.75]}
    np.testing.assert_array_equal(scored("v_measure", levels)["test/default"], [0.25, 0.5, 0.75])


def test_a_single_draw_or_another_score_gives_no_items():
    assert scored("v_measure", [0.25]) == {}
    assert scored("nmi", [0.25, 0.5]) == {}


def test_kinds_with_predictions_have_no_items_in_the_scores():
    assert kind_named("STS").scored_items(SimpleNamespace(), {}) is None


def test_labels_below_zero_are_labels(tmp_path):
    """To mteb -1 is a text without a label: it scored the others alone."""
    labels = [-1, 5, -1, 7, 5, 7]
    rows = [{"text": f"text {place}", "label": label} for place, label in enumerate(labels)]
    (tmp_path / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    task = kind_named("Clustering").load(tmp_path, "mine", None)
    assert list(task.dataset["test"]["labels"]) == [0, 1, 0, 2, 1, 2]
    (tmp_path / "test.jsonl").write_text("".join(json.dumps(row | {"label": abs(row["label"])}) + "\n" for row in rows))
    assert list(kind_named("Clustering").load(tmp_path, "mine", None).dataset["test"]["labels"]) == [1, 5, 1, 7, 5, 7]
