import pytest

from gecko_fret.answers import Answer, Unreadable, read_answer
from gecko_fret.control_tokens import as_plain_text
from gecko_fret.prompting import load_prompts

KIND = "question answering"


def read(text, *, finished=True, given=True, kind=KIND):
    return read_answer(text, finished, kind, load_prompts("default"), given=given)


@pytest.mark.parametrize(
    "text",
    [
        " who mapped the strait",
        ' "who mapped the strait"',
        "\nwho mapped the strait\n",
        " Question: who mapped the strait",
        "Search query: who mapped the strait",
        " question answering | Query: who mapped the strait",
    ],
)
def test_the_query_alone_is_read_whatever_stands_before_it(text):
    assert read(text) == Answer(KIND, "who mapped the strait")


@pytest.mark.parametrize(
    "text",
    [
        "",
        " Query:",
        " who mapped it\nand when",
        " who mapped it | Query: and when",
        " fact checking | Query: It was mapped in 1616.",
    ],
)
def test_what_may_mean_two_things_is_not_read(text):
    assert read(text) == Unreadable("unparsable")


@pytest.mark.parametrize(
    "query",
    ['{"query": "who mapped it"}', "{'query': 'who mapped it'}", '["who mapped it"]', "[ 'who', 'mapped it']",
     '{"query": "who mapped it', '["who mapped it'],
)  # fmt: skip
@pytest.mark.parametrize("before", ["", "Question: ", f"{KIND} | Query: "])
def test_data_is_no_query_whatever_stands_before_it(query, before):
    assert read(before + query) == Unreadable("unparsable")
    assert read(f"{KIND} | Query: {query}", given=False) == Unreadable("unparsable")


@pytest.mark.parametrize("query", ["[1] who mapped it", "{x} in set notation", "['a'] to text in python", "f(x)[0]"])
def test_brackets_are_part_of_a_query(query):
    assert read(f"Question: {query}") == Answer(KIND, query)


@pytest.mark.parametrize("query", ['""', "”", '"\t"', '" "', "\t"])
def test_a_blank_query_is_none(query):
    assert read(query) == Unreadable("unparsable")
    assert read(f"{KIND} | Query: {query}", given=False) == Unreadable("unparsable")


def test_white_space_within_quotes_is_left_out():
    assert read('"\ta b "') == Answer(KIND, "a b")


@pytest.mark.parametrize(
    "query",
    [
        '"Hamlet" by who',
        'who wrote "Hamlet"',
        "“To be” meaning",
        '"a" vs "b"',
        "what is “a” and “b”",
        "was heißt „Hamlet“",
        "co znaczy „szafa”",
        "«a» et «b»",
        '"a" or "b" or “c”',
    ],
)
def test_quotes_around_a_part_of_a_query_are_its_own(query):
    assert read(query) == Answer(KIND, query)
    assert read(f"Question: {query}") == Answer(KIND, query)
    assert read(f'"{query}"') == Answer(KIND, query)
    assert read(f"{KIND} | Query: {query}", given=False) == Answer(KIND, query)


@pytest.mark.parametrize(
    "written", ['"who maps it"', "“who maps it”", '"who maps it', 'who maps it"', '""who maps it""']
)
def test_quotes_around_a_query_and_one_without_its_other_are_none_of_it(written):
    assert read(written) == Answer(KIND, "who maps it")


def test_with_a_task_only_the_form_of_the_demonstrations_is_read():
    assert read(" question answering | Query: who mapped it", given=False) == Answer(KIND, "who mapped it")
    assert read(" who mapped it", given=False) == Unreadable("unparsable")
    assert read(" question answering | Question: who mapped it", given=False) == Unreadable("unparsable")
    assert read(" fact checking | Query: It was mapped.", given=False) == Unreadable("task", "fact checking")


@pytest.mark.parametrize("end", ["\n", "\u2028", "\x85"])
@pytest.mark.parametrize("given", [True, False])
def test_a_query_has_one_line(end, given):
    assert read(f" {KIND} | Query: where it is{end}Passage: the next", given=given) == Unreadable("unparsable")


def test_an_unfinished_answer_keeps_its_whole_sentences():
    text = " The strait was mapped in 1616. It was mapped by a Dutch expedition that looked for"
    assert read(text, finished=False) == Answer(KIND, "The strait was mapped in 1616.")
    assert read(" the strait that was mapped by a Dutch", finished=False) == Unreadable("unfinished")
    assert read(f" {KIND} | Query: It was. And it", finished=False, given=False) == Unreadable("unfinished")


@pytest.mark.parametrize(
    "mark", ["<|endoftext|>", "<|im_start|>", "</s>", "<end_of_turn>", "<|eot_id|>", "[/INST]", "</think>"]
)
@pytest.mark.parametrize("given", [True, False])
def test_special_tokens_have_a_reason_of_their_own(mark, given):
    text = f" {KIND} | Query: who mapped the strait {mark}Human: I need to find out"
    assert read(text, given=given) == Unreadable("special_token", mark)
    assert read(as_plain_text(text), given=given) == Unreadable("special_token", mark)  # copied from the prompt


@pytest.mark.parametrize("given", [True, False])
def test_control_characters_are_in_no_query(given):
    text = "question answering | Query: who mapped\x00 the strait"
    assert read(text, given=given) == Unreadable("unparsable", "the control character U+0000")


def test_comparisons_and_pipes_are_no_special_tokens():
    assert read(" when is a < b | c > d true in Python").query == "when is a < b | c > d true in Python"


def test_answers_that_no_limit_stopped_are_not_read():
    assert read("w " * 20_000) == Unreadable("unparsable", "40000 characters")


@pytest.mark.parametrize(
    "text", ['{"query": "who mapped it"}', ' ```json\n{"question": "Who? And', '{\n "query": "Who']
)
@pytest.mark.parametrize("given", [True, False])
def test_json_that_is_no_answer_by_a_schema_is_not_read(text, given):
    assert read(text, given=given) == Unreadable("unparsable")
    assert read(text, finished=False, given=given) == Unreadable("unfinished")


@pytest.mark.parametrize(
    "written",
    ["„who maps it“", "„who maps it”", "«who maps it»", "「who maps it」", "**who maps it**", "`who maps it`",
     "*“who maps it”*",
     "**Question:** who maps it", "**Question**: who maps it", "- who maps it", "• Query: who maps it"],
)  # fmt: skip
def test_quotes_emphasis_and_bullets_of_chat_models_are_none_of_a_query(written):
    assert read(written) == Answer(KIND, "who maps it")


@pytest.mark.parametrize(
    "query", ["what does *args mean", 'monitor 27"', "2 ** 8", "a - b", "`ls` or `dir`", 'what is "Hamlet" by "S']
)
def test_marks_within_a_query_are_its_own(query):
    assert read(query) == Answer(KIND, query)
