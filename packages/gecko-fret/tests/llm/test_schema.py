import json

import pytest

from gecko_fret.judges.listwise import WrittenOrder
from gecko_fret.llm.protocol import JsonForm
from gecko_fret.llm.schema import read_form, response_format
from gecko_fret.prompting import WrittenQuery, WrittenTask


@pytest.mark.parametrize("model", [WrittenQuery, WrittenTask, WrittenOrder])
def test_schemas_are_as_strict_as_servers_want_them(model):
    form = response_format(model)
    schema = form["json_schema"]["schema"]
    assert form["json_schema"]["strict"]
    assert schema["additionalProperties"] is False
    assert schema["required"] == list(schema["properties"]) == list(model.model_fields)
    assert "title" not in json.dumps(schema)


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ('{"query": "where is caf\\u00e9"}', "where is café"),
        (' \n{\n "query": "a"}\n', "a"),
        ('{"query": "a", "task": "b"}', None),
        ('{"query": 7}', None),
        ('{"query": "a', None),
        ('{"query": "\\ud800"}', None),
        ('```json\n{"query": "a"}\n```', None),
        ("where is the cat", None),
        ("[" * 100_000, None),
        ("", None),
    ],
)
def test_an_answer_of_another_form_is_none(text, read):
    assert read_form(text, JsonForm(WrittenQuery, (), lambda answer: answer.query)) == read
