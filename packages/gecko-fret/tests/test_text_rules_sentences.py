import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gecko_fret.text_rules_sentences import split_sentences_3


@pytest.mark.parametrize(
    "sentence",
    [
        "Das gilt z. B. Berlin, d. h. Städten, vgl. Abb. 3.",
        "Am 3. Oktober war es, im 19. Jahrhundert.",
        "See Sec. 3.2 and pp. 5 of vol. 2.",
        "It was Jan. 5 when Gen. Lee met Sr. López.",
        "В г. Москве жил А. С. Пушкин.",
        "Ο Κ. Π. Καβάφης.",
        "ए. पी. जे. अब्दुल कलाम।",
        "Los EE. UU. y México.",
        "เขาเดินทางไปต่างประเทศบ่อย ๆ ทุกปี",
        "ซื้อผักและผลไม้จำนวนมาก ฯลฯ",
    ],
)
def test_what_ends_no_sentence(sentence):
    assert split_sentences_3(sentence) == [sentence]


@pytest.mark.parametrize(
    "sentences",
    [
        ["It was in Dec.", "He left.", "He had 20.", "Then 30."],
        ["В 1990 г.", "Москва росла."],
        ["Длина 5 см.", "Ширина 3 м."],
        ["네.", "그렇습니다."],
        ["Es kostet 20.", "Oder 30."],
        ["Äpfel, Birnen usw.", "Dann Brot."],
        ["ประโยคแรกอยู่ที่นี่และยาว", "ประโยคที่สองก็ยาวเช่นกัน"],
    ],
)
def test_what_ends_a_sentence_still_does(sentences):
    assert split_sentences_3(" ".join(sentences)) == sentences


@settings(deadline=None)
@given(st.text(alphabet=st.sampled_from("aBгА3 .!?\n漢。क।ไทๆ“”\u0301"), max_size=80))
def test_no_character_is_lost(text):
    assert "".join("".join(split_sentences_3(text)).split()) == "".join(text.split())


@pytest.mark.parametrize(
    "text", ["А. " * 20_000, "Sec. 3 " * 20_000, "กขคงกขคงกขคงกขคง ๆ " * 5_000, "a" + "\u0301" * 200_000]
)
def test_long_runs_of_the_same_are_read_at_once(text):
    assert len(split_sentences_3(text)) == 1
