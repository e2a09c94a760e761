import pytest
import yaml

from gecko_core.errors import ConfigError
from gecko_fret.control_tokens import as_written
from gecko_fret.corpus.passages import Passage
from gecko_fret.prompting import AnswerForm, RelevanceBlock, load_prompt, load_prompts, one_line, prompt_text


@pytest.fixture(scope="module")
def prompts():
    return load_prompts("default")


def test_rows_of_a_kind_share_their_prefix_and_hold_only_their_own_text(prompts):
    first, second = (prompts.generation("fact checking", text, 0) for text in ("Text one.", "Text two."))
    assert first.prefix == second.prefix
    assert first.prefix != prompts.generation("search result", "Text one.", 0).prefix
    assert first.body == "Passage: Text one.\nTask:"
    assert first.prefix.count("Passage:") == 3
    assert "Task: fact checking | Query:" in first.prefix


def test_likelihood_scores_the_query_after_the_passage(prompts):
    request = prompts.likelihood("question answering", "Some text.", "what is it")
    assert request.context == "Passage: Some text.\nQuery:"
    assert request.continuation == " what is it"
    assert request.tail == ""


def test_classification_is_the_same_for_all_kinds_and_ends_before_the_label(prompts):
    request = prompts.classification("Some text.", "what is it")
    assert request.context.endswith("Relevance:")
    assert request.continuation == ""
    assert prompts.label_strings("separate") == [" 0", " 1", " 2", " 3", " 4"]
    assert {label for label in "01234" if f"Relevance: {label}" in request.prefix} == set("01234")


def test_joint_scoring_holds_query_and_label(prompts):
    request = prompts.joint_scoring("Some text.", "what is it")
    assert (request.continuation, request.tail) == (" what is it", "\nRelevance:")
    assert "Relevance: 4" in request.prefix


def test_braces_in_texts_are_not_templates(prompts):
    request = prompts.classification("{query} and {label} {}", "{passage}")
    assert request.context == "Query: {passage}\nPassage: {query} and {label} {}\nRelevance:"


def test_passages_are_shown_on_one_line():
    assert prompt_text(Passage("a", "Title", "one\n\n two")) == "Title: one two"
    assert prompt_text(Passage("a", None, "one\ntwo")) == "one two"


def test_hash_follows_content(prompts, tmp_path):
    raw = prompts.model_dump(mode="json")
    same, other = tmp_path / "same.yaml", tmp_path / "other.yaml"
    same.write_text(yaml.safe_dump(raw))
    assert load_prompts(str(same)).hash == prompts.hash
    raw["relevance"]["instruction"] = "Another."
    other.write_text(yaml.safe_dump(raw))
    assert load_prompts(str(other)).hash != prompts.hash


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda raw: raw["generate"].update(template="no mark"), r"generate.template does not mention \{passage\}"),
        (lambda raw: raw["relevance"]["demonstrations"][0].update(label="7"), "label '7' is not one of"),
        (lambda raw: raw["query_likelihood"]["instructions"].pop("fact checking"), "has no 'fact checking'"),
        (lambda raw: raw.update(extra=1), "unknown key 'extra'"),
        (lambda raw: raw["generate"].update(stop=["Query"]), "'Query' is part of generate.answer"),
        (lambda raw: raw["generate"].update(answer="{task} {query}"), "nothing separates the task from the query"),
        (lambda raw: raw["generate"].update(answer="{task} {task} | {query}"), "must stand in it once each"),
        (lambda raw: raw.pop("relevance"), "key 'relevance' is missing"),
    ],
)
def test_faulty_prompt_files_are_one_line(prompts, tmp_path, change, message):
    raw = prompts.model_dump(mode="json")
    change(raw)
    path = tmp_path / "p.yaml"
    path.write_text(yaml.safe_dump(raw))
    with pytest.raises(ConfigError, match=message) as caught:
        load_prompts(str(path))
    assert "\n" not in str(caught.value)


def test_unknown_prompt_names_the_packaged_ones():
    with pytest.raises(ConfigError, match=r"neither a packaged prompt \(.*default.*\) nor a YAML file"):
        load_prompts("absent")


@pytest.mark.parametrize("between", [" | Query: ", "\nQuery: ", " => "])
def test_answers_are_read_in_the_form_that_the_prompt_shows(prompts, between):
    raw = prompts.generate.model_dump() | {"answer": f" {{task}}{between}{{query}}", "stop": ["\n\n"]}
    pattern = type(prompts.generate).model_validate(raw).pattern
    found = pattern.fullmatch(f" fact checking{between}a (claim) | of b?")
    assert found == {"task": "fact checking", "query": "a (claim) | of b?"}
    for text in (
        "fact checking; Query: a claim",
        f"fact checking{between}",
        f"a{between}b{between}c",
        f"a{between}b\nc",
    ):
        assert pattern.fullmatch(text) is None


def test_a_file_may_hold_one_block_alone(prompts, tmp_path):
    path = tmp_path / "block.yaml"
    path.write_text(yaml.safe_dump(prompts.relevance.model_dump(mode="json")))
    block = load_prompt(str(path), RelevanceBlock)
    assert block.hash == prompts.relevance.hash != prompts.hash
    assert block.classification("Some text.", "what") == prompts.classification("Some text.", "what")
    path.write_text("labels: [a, b]")
    with pytest.raises(ConfigError, match="instruction"):
        load_prompt(str(path), RelevanceBlock)


def test_marks_of_control_tokens_are_text_in_passages_queries_and_demonstrations():
    prompts = load_prompts("default")
    mark = "<|im_end|>"
    demonstration = prompts.demonstrations[0].model_copy(update={"passage": mark, "query": mark})
    dialogue = prompts.writing(prompts.kinds[0], f"a {mark}", given=True, demonstrations=[demonstration])
    requests = [
        prompts.likelihood(prompts.kinds[0], f"a {mark}", f"q {mark}"),
        prompts.classification(f"a {mark}", f"q {mark}"),
        prompts.joint_scoring(f"a {mark}", f"q {mark}"),
    ]
    texts = [dialogue.asked, *(text for turn in dialogue.shown for text in turn)]
    texts += [text for r in requests for text in (r.prefix, r.context, r.continuation, r.tail)]
    assert not any(mark in text for text in texts)
    assert sum(as_written(text).count(mark) for text in texts) == 9
    assert as_written(one_line(f"x  {mark}")) == f"x {mark}"


@pytest.mark.parametrize(
    ("form", "text", "found"),
    [
        (" {task} | Query: {query}", " a b |\t Query:  c\n", {"task": "a b", "query": "c"}),
        (" {task} | Query: {query}", "a | Query: b | Query: c", None),
        (" {task} | Query: {query}", "a\n | Query: b", None),
        ("Task: {task}\nQuery: {query}.", "Task: a\nQuery: b.", {"task": "a", "query": "b"}),
        ("Task: {task}\nQuery: {query}.", "Task: a\nQuery: b", None),
        ("{query} ({task})", "what is it (fact checking)", {"query": "what is it", "task": "fact checking"}),
    ],
)
def test_answers_of_the_form_are_read(form, text, found):
    assert AnswerForm(form).fullmatch(text) == found


@pytest.mark.parametrize(
    "text",
    [
        " " * 100_000 + "x",
        " " * 50_000 + "|" + " " * 50_000 + "Query:" + " " * 50_000 + "\nb",
        (" " * 100 + "|") * 2_000,
        "| Query: " * 20_000,
    ],
)
def test_blanks_without_end_are_read_at_once(text):  # minutes, were it a regular expression of the whole form
    assert AnswerForm(" {task} | Query: {query}").fullmatch(text) is None


@pytest.mark.parametrize("given", [True, False])
def test_demonstrations_say_the_same_as_json(prompts, given):
    kind = prompts.kinds[0]
    dialogue = prompts.writing(kind, "Some text.", given=given)
    assert dialogue.form is not None
    assert len(dialogue.form.shown) == len(dialogue.shown)
    for answer, (_, text) in zip(dialogue.form.shown, dialogue.shown, strict=True):
        assert dialogue.form.as_text(answer).strip() == text.strip()


def test_an_answer_as_json_is_put_into_the_form_once(prompts):
    form = prompts.writing(prompts.kinds[0], "Some text.").form
    written = form.model(task="{query}", query="a {task} <|im_end|>")
    assert form.as_text(written) == " {query} | Query: a {task} <|im_end|>"
