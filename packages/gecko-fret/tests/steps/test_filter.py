import pytest

from gecko_core.errors import ConfigError
from gecko_fret.config import GenerateConfig, parse_config
from gecko_fret.corpus.passages import Corpus, Passage
from gecko_fret.prompting import load_prompts
from gecko_fret.steps.filter import FILTER, REASONS, Filter, copied_share, is_near, looks_empty
from gecko_fret.steps.sources import SourceText
from gecko_fret.steps.write import Attempt
from gecko_fret.text_rules import RULES

TEXT = "The strait was mapped in 1616 by a Dutch merchant expedition that looked for a way to the Spice Islands."


def judge(texts, kind="question answering", finished=True, examples=(), grounding=None, **settings):
    corpus = Corpus([Passage("p", None, TEXT), Passage("q", None, "Quite another passage about bread and salt.")])
    rows = [
        Attempt(
            f"p/{i}",
            "p",
            i,
            kind,
            "g",
            text,
            logprob=-1.0 + i / 10,
            tokens=9,
            finished=finished,
            grounding=grounding and grounding[i],
        )
        for i, text in enumerate(texts)
    ]
    return Filter(corpus, load_prompts("default"), GenerateConfig(**settings), examples)(rows)


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
        (" question answering | Query: who mapped it <|endoftext|>Human: and why", "special_token"),
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
    again = " question answering | Query: Who mapped  the strait in 1616"
    assert reasons(" question answering | Query: who mapped the strait in 1616", again) == ["repeated"]


def test_queries_that_differ_in_a_sign_are_no_repeats():
    texts = ["how do I sort it in C", "how do I sort it in C++", "हिन्दी में दिन कैसे", "हिन्दी में दान कैसे"]
    assert reasons(*(f" question answering | Query: {text}" for text in texts)) == []


@pytest.mark.parametrize(
    ("query", "empty"),
    [
        ("हिन्दी में किताबें कैसे पढ़ें?", False),
        ("วิธีอ่านหนังสือภาษาไทยสำหรับผู้เริ่มต้นอ่านหนังสือ", False),
        ("如何学习中文以及如何学习日文", False),
        ("在在在在在在在在在在在在", True),
        ("दिन दिन दिन दिन दिन दिन", True),
        ("१२३ ४५६ --", True),
    ],
)
def test_placeholders_in_any_script(query, empty):
    assert looks_empty(query) is empty


def test_an_old_folder_keeps_its_rules():
    old = Filter(Corpus([Passage("p", None, TEXT)]), load_prompts("default"), GenerateConfig(), rules=RULES[1])
    texts = ["sorting it in C", "sorting it in C++"]
    result = old.others([SourceText(text, None, "log", "search result", text) for text in texts])
    assert [reject.reason for reject in result.rejects] == ["repeated"]


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


def test_a_query_that_is_not_kept_makes_no_other_one_a_repeat():
    """The second passage lost its only query to one that the first did not keep."""
    attempts = [
        Attempt(
            f"{seed}/{place}",
            seed,
            place,
            "question answering",
            "g",
            f" question answering | Query: {text}",
            value,
            9,
            True,
        )
        for place, (seed, text, value) in enumerate(
            [
                ("a", "who mapped the strait", -1.0),
                ("a", "when was it mapped", -0.2),
                ("b", "who mapped the strait", -0.5),
                ("b", "when was it mapped", -0.1),
            ]
        )
    ]
    corpus = Corpus([Passage("a", None, TEXT), Passage("b", None, f"{TEXT} Again.")])
    result = Filter(corpus, load_prompts("default"), GenerateConfig(keep="best"))(attempts)
    assert [row.id for row in result.rows] == ["a/1", "b/2"]
    assert [(row.id, row.reason) for row in result.rejects] == [("a/0", "not_best"), ("b/3", "repeated")]


def test_copied_share_is_the_longest_common_run_of_words():
    assert copied_share("a dutch merchant sailed", TEXT) == 0.75
    assert copied_share("Dutch, merchant!", TEXT) == 1.0
    assert copied_share("nothing shared here", "") == 0.0
    assert copied_share("", TEXT) == 0.0


ONLY = {"write_task": False}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (" what makes sourdough bread taste so sour", "demonstration"),
        (" I cannot write a query for it", "refusal"),
        (" who mapped the strait <|im_start|>user", "special_token"),
        (" which strait, according to the passage", "passage_reference"),
    ],
)
def test_faults_of_queries_that_were_written_alone(text, reason):
    assert reasons(text, **ONLY) == [reason]


def test_queries_that_were_written_alone_may_sound_as_users_do():
    result = judge([" which strait if I don't have a map", " what makes the strait dangerous to sail"], **ONLY)
    assert [row.query for row in result.rows] == [
        "which strait if I don't have a map",
        "what makes the strait dangerous to sail",
    ]
    assert reasons(" question answering | Query: which strait if I don't have a map") == ["refusal"]


def test_copies_of_examples_are_rejected_near_ones_too():
    examples = ["Can I send a money order from USPS as a business?"]
    copies = [" can i send a money order from usps as a business", " Can I send money orders from USPS as a business?"]
    assert reasons(*copies, examples=examples, **ONLY) == ["demonstration"] * 2
    assert reasons(" Can I deposit cash as a business?", examples=examples, **ONLY) == []
    # The prompt's own demonstrations were not shown.
    assert reasons(" does sorting keep the order of equal elements", examples=examples, **ONLY) == []


def test_the_most_grounded_attempt_is_kept_and_ungrounded_ones_are_rejected():
    texts = [f" who mapped strait number {i}" for i in range(3)]
    best = judge(texts, keep="grounded", grounding=[0.4, 0.9, -0.1], **ONLY)
    assert [row.attempt for row in best.rows] == [1]
    assert [row.attempt for row in judge(texts, keep="grounded", grounding=[-1, 0.0, -0.1], **ONLY).rows] == [1]
    assert [row.reason for row in best.rejects] == ["not_best", "not_best"]
    least = judge(texts, min_grounding=0.5, grounding=[0.4, 0.9, -0.1], **ONLY)
    assert [row.attempt for row in least.rows] == [1]
    assert [(row.reason, row.detail) for row in least.rejects] == [("ungrounded", "0.40"), ("ungrounded", "-0.10")]


def test_other_sources_become_queries_or_named_rejects():
    judge = Filter(Corpus([Passage("p", None, TEXT)]), load_prompts("default"), GenerateConfig())
    result = judge.others(
        [
            SourceText("p/title", "p", "titles", "search result", "The strait of 1616"),
            SourceText("p/sentence", "p", "sentences", "sentence similarity", TEXT.rstrip(".")),
            SourceText("q/title", "q", "titles", "search result", "Straits"),
            SourceText("log:1", None, "log", "search result", "straits"),
            SourceText("log:2", None, "log", "search result", "the STRAIT of 1616"),
            SourceText("log:3", None, "log", "search result", "404 500 -- ###"),
        ]
    )
    assert [(row.id, row.source, row.seed_id) for row in result.rows] == [
        ("p/title", "titles", "p"),
        ("p/sentence", "sentences", "p"),
        ("log:1", "log", None),
    ]
    assert [(row.id, row.reason) for row in result.rejects] == [
        ("q/title", "length"),
        ("log:2", "repeated"),
        ("log:3", "placeholder"),
    ]
    assert result.rows[0].kind == result.rows[0].task == "search result"


def test_a_first_pass_needs_seeds(tmp_path):
    (tmp_path / "log.txt").write_text("a query\n")
    generate = {"sources": ["log"], "log": str(tmp_path / "log.txt")}
    with pytest.raises(ConfigError, match=r"retrieve\.first_pass: queries of a log have no seed"):
        FILTER.check(parse_config({"generate": generate, "retrieve": {"first_pass": True}}))
    FILTER.check(parse_config({"generate": generate}))


def test_near_copies_by_their_words_in_order():
    assert is_near(["a", "b", "c", "d"], ["a", "b", "c", "e"])
    assert not is_near(["a", "b", "c", "d"], ["d", "c", "b", "a"])
    assert not is_near([], ["a", "b"])


def test_a_language_that_cannot_be_told_stops_before_anything_is_written():
    pytest.importorskip("py3langid")
    FILTER.check(parse_config({"generate": {"language": "en"}}))
    with pytest.raises(ConfigError, match=r"generate\.language: 'xx' is no language that can be told"):
        FILTER.check(parse_config({"generate": {"language": "xx"}}))
