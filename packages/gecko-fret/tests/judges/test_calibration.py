import math
from collections import Counter

import numpy as np
import pytest

BIAS = {"bread": 2.0, "train": -3.0, "flour": 0.5, "yeast": 0.0}
MARKS = {"acids": "bread", "coast": "train", "Rye": "flour", "Wild": "yeast"}


def of(text):
    """The passage that a prompt shows."""
    return next(name for mark, name in MARKS.items() if mark in text)


def biased(request):
    """Says yes the more readily the more it likes the passage, and one logit more where it is about bread."""
    text = request.context + request.tail
    odds = BIAS[of(text)] + (1.0 if "sour" in text.partition("Query:")[2].partition("\n")[0] else 0.0)
    yes = 1 / (1 + math.exp(-odds))
    return (1 - yes, yes)


def test_the_liking_for_a_passage_is_taken_off(judge, pairs, spy_llm):
    asked = [*pairs("what tastes sour"), *pairs("another question", query_id="r")]
    values, _ = judge("yes-no", asked, llm=spy_llm(biased))
    np.testing.assert_allclose(values, [1.0] * 4 + [0.0] * 4, atol=1e-9)
    raw, _ = judge("yes-no", asked, {"calibrate": False}, llm=spy_llm(biased))
    np.testing.assert_allclose(raw, [BIAS[pair.passage.id] + (pair.query_id == "q") for pair in asked], atol=1e-9)


def test_the_empty_query_is_asked_once_per_passage_and_beside_its_pairs(judge, pairs, spy_llm):
    llm = spy_llm(biased)
    judge("yes-no", [*pairs("what tastes sour"), *pairs("another question", query_id="r")], llm=llm)
    assert sum("N/A" in request.tail for request in llm.requests) == 4
    assert sorted(Counter(request.context for request in llm.requests).values()) == [3] * 4
    assert llm.blocks == [True]  # one call: a passage is read once for its queries and the empty one


def test_a_probability_of_zero_is_a_large_number_not_an_infinite_one(judge, pairs, spy_llm):
    never = spy_llm(lambda request: (1.0, 0.0) if "N/A" in request.tail else (0.0, 1.0))
    values, _ = judge("yes-no", pairs("anything"), llm=never)
    assert all(50 < value < 120 for value in values)


def test_joint_labels_are_calibrated_by_one_more_pass_per_passage(judge, pairs, spy_llm):
    def five(request):
        logits = np.arange(5) * BIAS[of(request.context)] + (request.continuation == " sour") * np.array(
            [0, 0, 0, 0, 3]
        )
        return np.exp(logits) / np.exp(logits).sum()

    llm = spy_llm(five)
    values, batch = judge("rc", pairs("sour"), {"mode": "joint"}, llm=llm)
    expected = np.exp([0, 0, 0, 0, 3.0])
    np.testing.assert_allclose(values, [expected / expected.sum()] * 4, rtol=1e-6)
    assert len(llm.requests) == 8
    assert len(batch.joint.pairs) == len(batch.joint.empty) == 4
    assert len(llm.requests) == 8  # the pass that ql reads, too
    assert llm.blocks == [True]


@pytest.mark.parametrize("name", ["rc", "yes-no"])
def test_with_the_papers_fusion_nothing_is_calibrated(judge, pairs, spy_llm, name):
    llm = spy_llm(lambda request: (0.1, 0.2, 0.3, 0.3, 0.1) if name == "rc" else (0.4, 0.6))
    judge(name, pairs("sour"), llm=llm, fuse="rrf")
    assert len(llm.requests) == 4
