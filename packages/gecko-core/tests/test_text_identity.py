from gecko_core.text_identity import text_id, text_key, words_key


def test_equal_texts():
    assert text_key("  Straße\tB ") == text_key("STRASSE b")
    assert text_key("C++") != text_key("c")
    assert words_key("C++") == words_key("c")


def test_ids_are_positive_int64_and_join_their_parts():
    assert 0 <= text_id("a") < 2**63
    assert text_id("Title", "text") == text_id("title text") == text_id(None, "title", "", "TEXT")
    assert text_id("a") != text_id("b")
