import re

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from gecko_core.errors import ConfigError
from gecko_fret.config import ListwiseConfig, parse_config
from gecko_fret.corpus.passages import Passage
from gecko_fret.judges import Listwise, Pair
from gecko_fret.judges.listwise import ListwiseBlock, read_order, windows
from gecko_fret.models import Models
from gecko_fret.prompting import load_prompt


def shown(request):
    """The passages of a request's window."""
    return re.findall(r"^\[\d+\] (.*)$", request.body, flags=re.MULTILINE)


def by_number(request):
    """An LLM that knows the best order: passages are named by how good they are."""
    values = [int(text.split()[-1]) for text in shown(request)]
    order = sorted(range(len(values)), key=lambda place: -values[place])
    return " > ".join(f"[{place + 1}]" for place in order)


def candidates(values, query_id="q"):
    return [
        Pair(query_id, "", "best", Passage(f"{query_id}{place:02d}", None, f"value {value}"), 1 - place / 100)
        for place, value in enumerate(values)
    ]


def test_windows_slide_from_the_end_to_the_head_and_overlap():
    config = ListwiseConfig(window=10, step=5)
    assert windows(20, config) == [(10, 20), (5, 15), (0, 10)]
    assert windows(13, config) == [(3, 13), (0, 8)]
    assert windows(10, config) == windows(10, ListwiseConfig(window=20)) == [(0, 10)]
    assert windows(2, config) == [(0, 2)]
    assert windows(1, config) == windows(0, config) == []


@given(st.integers(0, 60), st.integers(2, 12), st.integers(1, 11))
def test_windows_cover_every_passage(count, window, step):
    if step >= window:
        return
    spans = windows(count, ListwiseConfig(window=window, step=step))
    assert {place for start, end in spans for place in range(start, end)} == set(range(count)) or count < 2
    assert all(0 < end - start <= window for start, end in spans)


@pytest.mark.parametrize(
    ("answer", "order", "missing", "dropped"),
    [
        ("[3] > [1] > [2]", [2, 0, 1], 0, 0),
        ("[2] > [2] > [9] > [0]", [1, 0, 2], 2, 3),
        ("2, 3", [1, 2, 0], 1, 0),
        ("I cannot say.", [0, 1, 2], 3, 0),
        ("", [0, 1, 2], 3, 0),
    ],
)
def test_every_answer_gives_an_order(answer, order, missing, dropped):
    assert read_order(answer, 3) == (order, missing, dropped)


@given(st.text(alphabet="0123456789[]> ", max_size=40), st.integers(1, 12))
def test_an_order_is_a_permutation(answer, count):
    order, missing, dropped = read_order(answer, count)
    assert sorted(order) == list(range(count))
    assert 0 <= missing <= count
    assert dropped >= 0


def test_the_best_passages_rise_to_the_head_from_wherever_they_were(judge, spy_llm):
    values = [3, 1, 4, 15, 9, 2, 6, 5, 35, 8, 97, 93, 23, 84, 62, 64, 33, 83, 27, 95]
    pairs = [*candidates(values), *candidates([1, 2], "r"), *candidates([7], "s")]
    judged, batch = judge("listwise", pairs, llm=spy_llm(write=by_number))
    best = [values[place] for place in sorted(range(20), key=lambda place: -judged[place])]
    assert best[:5] == sorted(values, reverse=True)[:5]
    assert sorted(judged[:20]) == [-float(rank) for rank in range(20, 0, -1)]
    assert judged[20:] == [-2.0, -1.0, -1.0]
    assert batch.counters == {"listwise_repaired": 0, "listwise_missing": 0, "listwise_dropped": 0}


def test_the_retrievers_order_stays_where_the_llm_says_nothing(judge, spy_llm):
    pairs = candidates(range(12))
    mixed = [pairs[place] for place in (3, 0, 11, 5, 1, 2, 4, 6, 7, 8, 9, 10)]
    judged, batch = judge("listwise", mixed, llm=spy_llm(write=lambda request: "no idea"))
    assert judged == [-(4.0), -1.0, -12.0, -6.0, -2.0, -3.0, -5.0, -7.0, -8.0, -9.0, -10.0, -11.0]
    assert batch.counters == {"listwise_repaired": 2, "listwise_missing": 10 + 7, "listwise_dropped": 0}


def test_passages_that_are_not_named_follow_in_the_retrievers_order(judge, spy_llm):
    judged, batch = judge("listwise", candidates(range(5)), llm=spy_llm(write=lambda request: "[4] > [4] > [9]"))
    assert judged == [-2.0, -3.0, -4.0, -1.0, -5.0]
    assert batch.counters == {"listwise_repaired": 1, "listwise_missing": 4, "listwise_dropped": 2}
    named = judge("listwise", candidates(range(5)), {"listwise": {"debias": True}}, llm=spy_llm(write=lambda r: ""))[0]
    assert named == [-1.0, -2.0, -3.0, -4.0, -5.0]


def test_a_shuffled_repeat_takes_off_what_places_are_worth(judge, spy_llm):
    """An LLM that puts whatever is shown last before all others, which are in the right order."""

    def last_first(request):
        values = [int(text.split()[-1]) for text in shown(request)]
        rest = sorted(range(len(values) - 1), key=lambda place: -values[place])
        return " > ".join(f"[{place + 1}]" for place in [len(values) - 1, *rest])

    pairs = [pair for n in range(40) for pair in candidates([9, 8, 7, 6, 5, 4, 3, 2], f"q{n}")]

    def rank_of_last(debias):
        llm = spy_llm(write=last_first)
        judged = judge("listwise", pairs, {"listwise": {"debias": debias}}, llm=llm)[0]
        return -sum(judged[7::8]) / 40, llm

    once, first = rank_of_last(False)
    twice, second = rank_of_last(True)
    assert once == 1.0
    assert twice > 3.5
    assert len(second.requests) == 2 * len(first.requests)
    assert len({request.seed for request in second.requests}) == len(second.requests)
    assert second.requests[: len(first.requests)] == first.requests
    assert rank_of_last(True)[1].requests == second.requests


def test_requests_share_their_head_and_have_seeds_of_their_own(judge, spy_llm):
    first, second = spy_llm(write=by_number), spy_llm(write=by_number)
    pairs = [*candidates(range(12)), *candidates(range(12), "r")]
    for llm in (first, second):
        judge("listwise", pairs, {"listwise": {"passage_tokens": 8, "window": 6, "step": 3}}, llm=llm)
    assert first.requests == second.requests
    assert len({request.prefix for request in first.requests}) == 1
    assert len({request.seed for request in first.requests}) == len(first.requests) == 6
    assert all(sampling.temperature == 0 and sampling.stop == ("\n",) for sampling in first.samplings)


def test_the_prompt_shows_query_and_numbered_passages():
    request = load_prompt("listwise", ListwiseBlock).request("why", ["one {query}", "two"], 5)
    assert request.body == "Query: why\n[1] one {query}\n[2] two\nOrder:"
    assert "Order: [3] > [4] > [1] > [2]\n\n" in request.prefix
    assert request.seed == 5


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"template": "{passages}"}, r"template does not mention \{query\}"),
        ({"demonstrations": [{"query": "a", "passages": ["b", "c"], "order": [1, 1]}]}, "does not name each of 2"),
    ],
)
def test_faulty_prompts_are_one_line_before_anything_is_built(tmp_path, content, message):
    path = tmp_path / "p.yaml"
    path.write_text(yaml.safe_dump({"instruction": "Order."} | content))
    with pytest.raises(ConfigError, match=message) as caught:
        Listwise.check(parse_config({"score": {"listwise": {"prompt": str(path)}}}))
    assert "\n" not in str(caught.value)


def test_windows_decide_its_judgements_and_its_cost():
    wide, narrow = (parse_config({"score": {"listwise": {"window": window, "step": 4}}}) for window in (8, 12))
    assert Listwise.fingerprint(wide, Models()) != Listwise.fingerprint(narrow, Models())
    assert (Listwise.passes(wide.score), Listwise.passes(narrow.score)) == (2, 3)


def test_a_shuffled_repeat_is_in_the_fingerprint_where_it_is_asked_for():
    plain, twice = (parse_config({"score": {"listwise": {"debias": debias}}}) for debias in (False, True))
    assert "debias" not in Listwise.fingerprint(plain, Models())[-1]
    assert Listwise.fingerprint(twice, Models())[-1]["debias"]
    assert Listwise.passes(twice.score) == 2 * Listwise.passes(plain.score)


def test_the_packaged_llm_gives_an_order(judge, pairs, smollm2):
    values, batch = judge("listwise", pairs("why does sourdough bread taste sour"), llm=smollm2)
    assert sorted(values) == [-4.0, -3.0, -2.0, -1.0]
    assert batch.counters["listwise_missing"] <= 4


def test_numbers_of_any_length_are_read():
    assert read_order("2 " + "1" * 5_000 + " 1", 2) == ([1, 0], 0, 1)


def test_an_order_as_json_says_the_same():
    request = load_prompt("listwise", ListwiseBlock).request("best", ["a", "b", "c"], 1)
    form = request.dialogue.form
    answers = [form.as_text(answer) for answer in form.shown]
    assert answers == [answer for _, answer in request.dialogue.shown]
    assert read_order(form.as_text(form.model(order=[3, 1, 3])), 3) == ([2, 0, 1], 1, 1)
