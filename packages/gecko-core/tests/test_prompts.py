import pytest

from gecko_core import TASKS, format_document, format_query
from gecko_core.errors import DataError
from gecko_core.prompts import saved_prompts


def test_formats_of_the_paper():
    assert format_query("who", "fact checking") == "task: fact checking | query: who"
    assert format_query("who") == "task: search result | query: who"
    assert format_document("body", "Head") == "title: Head | text: body"
    assert format_document("body") == format_document("body", "") == "title: none | text: body"


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (lambda: format_query("who", None), "task is NoneType, not str"),
        (lambda: format_query(1), "text is int, not str"),
        (lambda: format_document(b"body"), "text is bytes, not str"),
        (lambda: format_document("body", 0), "title is int, not str"),
    ],
)
def test_other_things_than_text_are_refused(wrong, told):
    with pytest.raises(DataError, match=told):
        wrong()


def test_table_of_tasks():
    assert (TASKS["STS"].text, TASKS["STS"].symmetric) == ("semantic similarity", True)
    assert (TASKS["SciFact"].text, TASKS["SciFact"].symmetric) == ("fact checking", False)
    assert (TASKS["QuoraRetrieval"].text, TASKS["QuoraRetrieval"].symmetric) == ("search result", True)
    assert (TASKS["ArguAna"].text, TASKS["ArguAna"].symmetric) == ("semantic similarity", False)
    assert TASKS["CQADupstackTexRetrieval"].text == "question answering"


def test_saved_prompts_are_the_formats_with_nothing_in_them():
    prompts = saved_prompts()
    for name, prefix in prompts.items():
        kind = name.removesuffix("-query").removesuffix("-document")
        if name == "document" or name.endswith("-document"):
            assert prefix + "x" == format_document("x")
        else:
            task = TASKS[kind].text if kind in TASKS else "search result"
            assert prefix + "x" == format_query("x", task)


def test_symmetric_tasks_have_one_prompt_and_asymmetric_ones_two():
    prompts = saved_prompts()
    assert "STS" in prompts
    assert "STS-query" not in prompts
    assert {"NQ-query", "NQ-document", "Retrieval-query", "Retrieval-document", "query", "document"} <= prompts.keys()
    assert "NQ" not in prompts
