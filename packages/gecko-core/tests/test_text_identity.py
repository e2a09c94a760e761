import pytest

from gecko_core.text_identity import text_id, text_key, words_key


def test_equal_texts():
    assert text_key("  Straße\tB ") == text_key("STRASSE b")
    assert text_key("caf\u00e9\u00a0x") == text_key("CAFE\u0301 x")
    assert words_key("C++") == words_key("c")  # the rule of version 0.1


@pytest.mark.parametrize(
    "texts",
    [
        ("दिन", "दान", "दीन"), ("কি", "কা"), ("เสือ", "เสื้อ", "เสื่อ"), ("عَلَم", "عِلْم"), ("x >= 0", "x <= 0", "x != 0"),
        ("C", "C++", "C#"), ("5 °C", "-5 °C"), ("👍", "👎"), ("m2", "m²", "m³"), ("½", "1/2", "12"), ("ab", "a b"),
    ],
)  # fmt: skip
def test_texts_that_mean_different_things_are_different(texts):
    assert len({text_key(text) for text in texts}) == len({text_id(text) for text in texts}) == len(texts)


def test_ids_are_positive_int64_and_join_their_parts():
    assert 0 <= text_id("a") < 2**63
    assert text_id("Title", "text") == text_id("title text") == text_id(None, "title", "", "TEXT")
    assert text_id("a") != text_id("b")
