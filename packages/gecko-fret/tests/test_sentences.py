import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gecko_fret.sentences import ends_sentence, split_sentences, split_sentences_1, without_end


@pytest.mark.parametrize(
    "sentences",
    [
        ["यह पहला वाक्य है।", "यह दूसरा है?", "हाँ!"],
        ["প্রথম বাক্য।", "দ্বিতীয় বাক্য।"],
        ["هل هذا سؤال؟", "نعم.", "هذا جواب."],
        ["یہ پہلا جملہ ہے۔", "یہ دوسرا ہے۔"],
        ["첫 문장입니다.", "두 번째 문장입니다."],
        ["Příklad věty.", "Šest slov.", "Łódź leży w Polsce."],
        ["Εδώ είναι.", "Όχι."],
        ["ეს არის წინადადება.", "მეორე."],
        ["Սա առաջինն է։", "Երկրորդը։"],
        ["ይህ የመጀመሪያ ነው።", "ሁለተኛው።"],
        ["នេះជាប្រយោគ។", "មួយទៀត។"],
        ["ဒါက ပထမ။", "ဒုတိယ။"],
        ["ประโยคแรกอยู่ที่นี่และยาว", "ประโยคที่สองก็ยาวเช่นกัน"],
        ["He said “Go.”", "(Then he left.)", "3 came back."],
        ["¿Qué es?", "¡Eso!", "«Nada.»"],
    ],
)
def test_sentences_of_many_scripts(sentences):
    assert split_sentences(" ".join(sentences)) == sentences


def test_marks_of_unspaced_scripts_need_no_space():
    assert split_sentences("第一句。第二句！第三句？") == ["第一句。", "第二句！", "第三句？"]
    assert split_sentences("「はい。」と言った。次。") == ["「はい。」", "と言った。", "次。"]


def test_what_ends_no_sentence():
    text = "See e.g. Smith here. Then J. Doe left at 3.5 km/h... and www.x.org was it so? Yes."
    assert split_sentences(text) == [
        "See e.g. Smith here.", "Then J. Doe left at 3.5 km/h... and www.x.org was it so?", "Yes.",
    ]  # fmt: skip
    assert split_sentences("One line\nand the next. Two.\n\nThree") == ["One line\nand the next.", "Two.", "Three"]
    assert split_sentences("คำ สั้น") == ["คำ สั้น"]


def test_ends():
    assert [without_end(text) for text in ("a b. ", "है।", "何？！", "no", "")] == ["a b", "है", "何", "no", ""]
    assert [ends_sentence(text) for text in ("a.", "है।", "a", "a,")] == [True, True, False, False]


def test_version_1_splits_as_version_0_1_did():
    assert split_sentences_1("First one. Second one! Third one?") == ["First one.", "Second one!", "Third one?"]
    assert split_sentences_1("यह है। वह है।") == ["यह है। वह है।"]
    assert split_sentences_1("He said “Go.” Then he left.") == ["He said “Go.", "Then he left."]


@settings(deadline=None)
@given(st.text(alphabet=st.sampled_from("aB .!?\n漢。क।ไท“”\u0301"), max_size=80))
def test_no_character_is_lost(text):
    assert "".join("".join(split_sentences(text)).split()) == "".join(text.split())


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("A. " * 20_000, 1),
        ("e.g. Xa " * 20_000, 1),
        ("a" + " " * 200_000 + "b", 1),
        ("ก" + "่" * 100_000 + " กขคงกขคงกขคงกขคง", 2),
        ("." + '"' * 100_000 + "x", 1),
    ],
)
def test_long_runs_of_the_same_are_read_at_once(text, count):  # minutes, where each character is looked at again
    assert len(split_sentences(text)) == count
    assert split_sentences_1(text)
    assert without_end("a" + "." * 200_000 + "b").endswith("b")
