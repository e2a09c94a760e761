import pytest

from gecko_fret.config import GenerateConfig
from gecko_fret.corpus.passages import Corpus, Passage
from gecko_fret.prompting import load_prompts
from gecko_fret.steps.filter import REASONS, Filter, copied_share
from gecko_fret.steps.write import Attempt

TEXT = "The strait was mapped in 1616 by a Dutch merchant expedition that looked for a way to the Spice Islands."


def judge(texts, kind="question answering", finished=True, **settings):
    corpus = Corpus([Passage("p", None, TEXT), Passage("q", None, "Quite another passage about bread and salt.")])
    rows = [
        Attempt(f"p/{i}", "p", i, kind, "g", text, logprob=-1.0 + i / 10, tokens=9, finished=finished)
        for i, text in enumerate(texts)
    ]
    return Filter(corpus, load_prompts("default"), GenerateConfig(**settings))(rows)


def reasons(*texts, **options):
    return [row.reason for row in judge(texts, **options).rejects]


def test_a_good_answer_becomes_a_query():
    result = judge([' question answering | Query: "who mapped the strait in 1616"'])
    assert result.rejects == []
    (row,) = result.rows
    assert (row.task, row.query, row.seed_id) == ("question answering", "who mapped the strait in 1616", "p")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("question answering", "unparsable"),
        (" | Query: who mapped the strait", "unparsable"),
        (" question answering\nQuestion: who mapped the strait", "unparsable"),
        (" question answering | Query: who mapped it then | Query: and why was it", "unparsable"),
        (" question answering | Query:", "unparsable"),
        (" search result | Query: who mapped the strait", "task"),
        (" question answering | Query: strait mapping", "length"),
        (" question answering | Query: " + "why and how " * 20, "length"),
        (" question answering | Query: As an AI language model I cannot say", "refusal"),
        (" question answering | Query: who is named in the passage above", "passage_reference"),
        (" question answering | Query: what, according to the author, was mapped", "passage_reference"),
        (" question answering | Query: why did the Dutch expedition of 1616 look for a new route?", "demonstration"),
        (" question answering | Query: 123 456 789 (12) = 55", "placeholder"),
        (" question answering | Query: the the the the the the strait", "placeholder"),
        (" question answering | Query: mapped in 1616 by a Dutch merchant expedition", "copied"),
    ],
)
def test_every_fault_has_its_name(text, reason):
    assert reasons(text) == [reason]
    assert reason in REASONS


def test_unfinished_completions_are_rejected_with_their_text():
    result = judge([" question answering | Query: who mapped the strait and"], finished=False)
    assert [(r.reason, r.stage) for r in result.rejects] == [("unfinished", "generate")]
    assert result.rejects[0].text.endswith("strait and")


def test_repeats_are_found_across_calls():
    again = " question answering | Query: Who mapped  the strait in 1616?"
    assert reasons(" question answering | Query: who mapped the strait in 1616", again) == ["repeated"]


def test_open_tasks_accept_any_short_description():
    prompts = load_prompts("default")
    opened = prompts.model_copy(update={"generate": prompts.generate.model_copy(update={"tasks": "open"})})
    corpus = Corpus([Passage("p", None, TEXT)])
    text = " find the article that answers it | Query: who mapped the strait in 1616"
    result = Filter(corpus, opened, GenerateConfig())(
        [Attempt("p/0", "p", 0, "fact checking", "g", text, -1.0, 9, True)]
    )
    assert result.rows[0].task == "find the article that answers it"


def test_best_attempt_per_seed_is_kept_on_request():
    texts = [f" question answering | Query: who mapped strait number {i}" for i in range(3)]
    result = judge(texts, keep="best")
    assert [row.attempt for row in result.rows] == [2]
    assert [row.reason for row in result.rejects] == ["not_best", "not_best"]


def test_copied_share_is_the_longest_common_run_of_words():
    assert copied_share("a dutch merchant sailed", TEXT) == 0.75
    assert copied_share("Dutch, merchant!", TEXT) == 1.0
    assert copied_share("nothing shared here", "") == 0.0
    assert copied_share("", TEXT) == 0.0
