import pytest

from gecko_core.errors import ConfigError
from gecko_fret.config import GenerateConfig
from gecko_fret.prompting import Demonstration, load_prompts
from gecko_fret.steps.asking import Asker, task_is_given

PROMPTS = load_prompts("default")
EXAMPLES = [[Demonstration(kind="search result", passage="one two three four", query="what is one")]]


class ChattingLLM:
    """The fake LLM, for a model with a chat template."""

    def __new__(cls, fake_llm):
        llm = fake_llm()
        llm.chat = lambda dialogue: ("".join(f"[{q}>{a}]" for q, a in dialogue.shown), f"[{dialogue.asked}>")
        return llm


@pytest.fixture
def ask(fake_llm):
    def ask(llm=None, examples=(), **settings):
        return Asker(llm or fake_llm(), PROMPTS, GenerateConfig(**settings), examples)

    return ask


def test_the_task_is_written_or_given(ask):
    written = ask(write_task=True).writing("fact checking", "A cat sat.", 1)
    assert written.body == "Passage: A cat sat.\nTask:"
    given = ask(write_task=False).writing("fact checking", "A cat sat.", 1)
    assert given.body == "Passage: A cat sat.\nTask: fact checking | Query:"
    assert given.prefix == written.prefix
    assert ask().writing("fact checking", "A cat sat.", 1) == written  # a section on its own is the paper's


def test_open_tasks_are_never_given():
    opened = PROMPTS.model_copy(update={"generate": PROMPTS.generate.model_copy(update={"tasks": "open"})})
    assert task_is_given(PROMPTS, GenerateConfig(write_task=False))
    assert not task_is_given(opened, GenerateConfig(write_task=False))


def test_examples_are_shown_as_long_as_seeds_are(ask):
    request = ask(examples=EXAMPLES, write_task=False, passage_tokens=8).writing("search result", "A cat.", 1, 0)
    assert request.prefix == (
        "For each passage, write the query of a user who is looking for it.\n\n"
        "Passage: one two three four\nTask: search result | Query: what is one\n\n"
    )
    cut = ask(examples=[[EXAMPLES[0][0].model_copy(update={"passage": "word " * 20})]], passage_tokens=8)
    assert cut.writing("search result", "A cat.", 1, 0).prefix.count("word") == 8


def test_the_contrast_is_the_same_prompt_without_its_passage(ask):
    request = ask(contrast=0.5, write_task=False).writing("search result", "A cat sat.", 1)
    assert request.without == "Passage: N/A\nTask: search result | Query:"
    assert ask(contrast=0.0).writing("search result", "A cat sat.", 1).without == ""


def test_likelihoods_ask_for_the_query_alone(ask):
    there, without = ask(write_task=True).likelihoods("search result", "A cat sat.", "cat seat")
    assert there.context == "Passage: A cat sat.\nTask: search result | Query:"
    assert without.context == "Passage: N/A\nTask: search result | Query:"
    assert there.continuation == without.continuation == " cat seat"
    assert there.prefix == without.prefix


def test_chat_where_the_model_has_a_template(ask, fake_llm):
    llm = ChattingLLM(fake_llm)
    request = ask(llm, examples=EXAMPLES, chat="auto", write_task=False).writing("search result", "A cat.", 1, 0)
    assert request.prefix == "[Passage: one two three four\nTask: search result | Query:> what is one]"
    assert request.body == "[Passage: A cat.\nTask: search result | Query:>"
    assert ask(llm, chat="always").likelihoods("search result", "A cat.", "cat")[0].continuation == "cat"
    assert ask(llm, chat="never").writing("search result", "A cat.", 1).body.startswith("Passage:")
    assert ask(chat="auto").writing("search result", "A cat.", 1).body.startswith("Passage:")
    with pytest.raises(ConfigError, match=r"generate\.chat: always, but LLM 'fake' has no chat template"):
        ask(chat="always").writing("search result", "A cat.", 1)
