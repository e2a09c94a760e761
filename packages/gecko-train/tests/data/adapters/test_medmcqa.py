def test_medmcqa_in_both_layouts(read_records):
    release = read_records("medmcqa", [{"question": "q", "options": ["a", "b", "c", "d"], "answer_index": 2}])
    hub = read_records("medmcqa", [{"question": "q", "opa": "a", "opb": "b", "opc": "c", "opd": "d", "cop": 2}])
    assert release == hub
    assert release[0].positive.text == "c"
    assert [negative.text for negative in release[0].negatives] == ["a", "b", "d"]
    assert read_records("medmcqa", [{"question": "q", "opa": "a", "opb": "b", "opc": "c", "opd": "d", "cop": -1}]) == []
