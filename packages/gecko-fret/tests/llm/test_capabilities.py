import json

from gecko_fret.llm.capabilities import Capabilities


def test_records_are_read_back_and_others_are_not(completions):
    assert Capabilities.from_dict(json.loads(json.dumps(completions.as_dict()))) == completions
    assert Capabilities.from_dict({"api": "chat", "telepathy": True}) is None
