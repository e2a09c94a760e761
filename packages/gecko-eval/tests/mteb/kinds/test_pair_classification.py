import numpy as np
import pytest
from mteb.abstasks.pair_classification import AbsTaskPairClassification

from gecko_eval.metrics import average_precision
from gecko_eval.mteb.kinds.pair_classification import PairClassification

LABELS = [1, 0, 1, 0, 1, 0]
#: The Manhattan distances order the pairs best, and the cosines worst.
PREDICTED = {
    "cosine_scores": [0.1, 0.9, 0.2, 0.8, 0.3, 0.7],
    "similarity_scores": [0.9, 0.8, 0.2, 0.1, 0.3, 0.7],
    "manhattan_distances": [1.0, 9.0, 2.0, 8.0, 3.0, 7.0],
    "euclidean_distances": [1.0, 2.0, 2.5, 8.0, 9.0, 3.0],
    "dot_scores": [0.5, 0.4, 0.3, 0.6, 0.2, 0.1],
}


@pytest.mark.parametrize("main_score", ["max_ap", "cosine_ap", "similarity_ap"])
def test_items_are_those_of_the_score(main_score):
    """Of ``max_ap`` they were the cosines, and an interval was that of another quantity than the score beside it."""
    task = PairClassification().make_task("pairs", {"test": {}})
    task.metadata.main_score = main_score
    told = AbsTaskPairClassification._compute_metrics(task, PREDICTED, LABELS)
    statistic, values, labels = PairClassification().items(task, PREDICTED, {task.label_column_name: LABELS})
    assert statistic == "ap"
    assert average_precision(values, labels) == pytest.approx(told[main_score])
    assert np.array_equal(labels, LABELS)


def test_another_score_has_no_items():
    task = PairClassification().make_task("pairs", {"test": {}})
    task.metadata.main_score = "max_f1"
    assert PairClassification().items(task, PREDICTED, {task.label_column_name: LABELS}) is None
