import json

import pytest

from gecko_fret.llm.answers import Unusable, parsed, usage_of
from gecko_fret.llm.pace import Spent


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ({"error": {"message": "model overloaded"}}, "an answer without choices: model overloaded"),
        ({"error": "out of memory"}, "an answer without choices: out of memory"),
        ({"error": {"code": 1}}, "an answer without choices"),
        ({"choices": []}, "an answer without choices"),
        ([], "an answer without choices"),
    ],
)
def test_what_a_server_says_of_an_error_is_in_the_line(answer, message):
    with pytest.raises(Unusable) as caught:
        parsed(json.dumps(answer).encode())
    assert str(caught.value) == message


def test_what_is_not_said_of_the_usage_is_what_was_expected():
    answer = parsed(json.dumps({"choices": [{}], "usage": {"prompt_tokens": 7, "completion_tokens": -1}}).encode())
    assert usage_of(answer, 10, 20) == Spent(7, 20)
