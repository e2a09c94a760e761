import pytest

from gecko_core.errors import ModelError
from gecko_fret.llm.protocol import ScoreRequest, WriteRequest
from gecko_fret.llm.segments import SegmentTokenizer, by_context, in_order, label_tokens


@pytest.fixture
def segments(word_tokenizer):
    return SegmentTokenizer(word_tokenizer, "tiny")


def test_continuations_are_where_the_span_says(segments, word_tokenizer):
    row = segments.score([ScoreRequest("the cat\n", "Query:", " what is", "\nRelevance:")], lead=[7])[0]
    assert word_tokenizer.decode(row.ids[row.start : row.end]) == " what is"
    assert word_tokenizer.decode(row.ids[: row.start]) == "the cat\nQuery:"
    assert row.ids[-1] == 7


def test_whole_prompts_join_prefix_and_body(segments, word_tokenizer):
    rows = segments.write([WriteRequest("the cat\n", "sat", 0), WriteRequest("a dog\n", "ran", 0)])
    assert [word_tokenizer.decode(ids) for ids in rows] == ["the cat\nsat", "a dog\nran"]


def test_labels_share_a_lead_and_differ_in_one_token(segments):
    result = segments.labels([" 0", " 1", " 2"])
    assert len(result.lead) == 1
    assert len(set(result.ids)) == 3
    with pytest.raises(ModelError, match="not one token each"):
        segments.labels(["the cat", "a"])


@pytest.mark.parametrize(
    ("encoded", "expected"),
    [
        ([[1], [2]], ([], [1, 2])),
        ([[9, 1], [9, 2]], ([9], [1, 2])),
        ([[9, 8, 1], [9, 8, 2]], ([9, 8], [1, 2])),
        ([[1], [9, 2]], None),
        ([[1], [1]], None),
        ([[9, 1, 3], [9, 2]], None),
    ],
)
def test_label_tokens(encoded, expected):
    result = label_tokens(encoded)
    assert (result and (result.lead, result.ids)) == expected


def test_requests_of_one_context_are_sent_together_and_come_back_in_order():
    requests = [ScoreRequest(*key, str(n)) for n, key in enumerate(["ab", "cb", "ad", "ab", "cd", "cb"])]
    order = by_context(requests)
    sent = [requests[number] for number in order]
    assert [(r.prefix, r.context) for r in sent] == [tuple(key) for key in ["ab", "ab", "ad", "cb", "cb", "cd"]]
    assert in_order(order, [r.continuation for r in sent]) == ["0", "1", "2", "3", "4", "5"]
    assert by_context([]) == in_order([], []) == []
