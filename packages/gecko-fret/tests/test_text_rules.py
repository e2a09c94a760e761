from gecko_fret.text_rules import LATEST, RULES


def test_the_first_version_is_that_of_old_folders():
    old = RULES[1]
    assert old.key("How do I, in C++?") == "how do i in c" == old.key("how do I in C")
    assert old.words("दिन") == ["द", "न"]
    assert old.sentences("यह है। वह है।") == ["यह है। वह है।"]


def test_the_latest_knows_all_scripts():
    assert LATEST is RULES[max(RULES)]
    assert all(rules.version == version for version, rules in RULES.items())
    assert LATEST.key("C++") != LATEST.key("C")
    assert LATEST.key("A  b") == LATEST.key("a B")
    assert LATEST.words("दिन") == ["दिन"]
    assert LATEST.sentences("यह है। वह है।") == ["यह है।", "वह है।"]


def test_the_third_mends_words_and_sentences():
    second, third = RULES[2], RULES[3]
    assert third.key is second.key
    assert second.words("हिन्\u200dदी") == ["हिन्", "दी"]
    assert third.words("हिन्\u200dदी") == ["हिन्दी"]
    assert second.sentences("Am 3. Oktober.") == ["Am 3.", "Oktober."]
    assert third.sentences("Am 3. Oktober.") == ["Am 3. Oktober."]
    assert [rules.asked("Am 3. Oktober.") for rules in RULES.values()] == [["Am 3.", "Oktober."]] * 2 + [
        ["Am 3. Oktober."]
    ]
