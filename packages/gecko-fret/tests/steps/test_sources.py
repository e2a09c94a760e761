from collections import Counter

import pytest

from gecko_fret.config import parse_config
from gecko_fret.corpus.passages import Corpus, Passage
from gecko_fret.corpus.splitting import count_words
from gecko_fret.steps import BuildContext
from gecko_fret.steps.sources import make_batches, sentence_text, source_count, source_settings, title_text

LONG = "The strait was mapped in 1616 by a Dutch expedition. It looked for a way to the Spice Islands."


@pytest.fixture
def build(tmp_path, small_corpus, make_models):
    log = tmp_path / "log.txt"
    log.write_text("".join(f"real query number {i}\n" for i in range(9)))

    def build(corpus=small_corpus, **generate):
        settings = {"seeds": 10, "part_size": 4, "sources": ["llm", "titles", "sentences", "log"], "log": str(log)}
        settings |= generate
        if "log" not in settings["sources"]:
            del settings["log"]
        config = parse_config({"llm": {"model": "fake"}, "generate": settings})
        return BuildContext(tmp_path / "out", config, corpus, make_models())

    return build


def texts(context):
    return [text for batch in make_batches(context) for text in batch.others()]


def test_by_default_titles_and_sentences_of_the_seeds_and_the_whole_log(build):
    context = build()
    assert Counter(text.source for text in texts(context)) == {"titles": 10, "sentences": 10, "log": 9}
    assert source_count(context.config, len(context.corpus)) == 29
    by_passage = [{text.seed_id for text in batch.others()} for batch in make_batches(context)]
    assert by_passage[0] == {None}
    assert [len(ids) for ids in by_passage[1:]] == [4, 4, 2]  # those of a part of attempts are filtered with it
    assert [batch.attempts for batch in make_batches(context)] == [None, 0, 1, 2]
    assert len({text.id for text in texts(context)}) == 29


def test_limits_go_below_and_beyond_the_seeds(build):
    context = build(per_source={"titles": 3, "sentences": 25, "log": 4})
    found = texts(context)
    assert Counter(text.source for text in found) == {"titles": 3, "sentences": 25, "log": 4}
    assert len({text.seed_id for text in found if text.source == "sentences"}) == 25
    assert source_count(context.config, len(context.corpus)) == 32
    seeds = {text.seed_id for text in texts(build(sources=["sentences"]))}
    assert seeds < {text.seed_id for text in found if text.source == "sentences"}
    many = texts(build(sources=["titles"], per_source={"titles": 1000}))
    assert len({text.seed_id for text in many}) == len(many) == 40


def test_without_the_llm_no_batch_has_attempts(build):
    assert {batch.attempts for batch in make_batches(build(sources=["titles"]))} == {None}


def test_a_log_has_no_seeds_and_the_users_task(build):
    first = texts(build(sources=["log"], user_task="forum question"))[0]
    assert (first.id, first.seed_id, first.task, first.text) == ("log:1", None, "forum question", "real query number 0")


def test_passages_without_a_title_give_none(build):
    corpus = Corpus([Passage(str(i), f"A title of {i}" if i % 2 else None, LONG) for i in range(8)])
    found = texts(build(corpus, sources=["titles"], seeds=None))
    assert sorted(text.seed_id for text in found) == ["1", "3", "5", "7"]


def test_a_title_that_several_passages_have_is_no_query(build):
    """A document's title above all its parts finds none of them; folders of earlier rules go on with such titles."""
    corpus = Corpus([Passage(str(i), "The manual " if i < 5 else f"Chapter {i}", LONG) for i in range(8)])
    context = build(corpus, sources=["titles"], seeds=None)
    assert sorted(text.seed_id for text in texts(context)) == ["5", "6", "7"]
    context.config.corpus.text_rules = 2
    assert len(texts(context)) == 8


def sentence(text, identifier="p", seed=0, **settings):
    config = parse_config({"generate": settings}).generate
    return sentence_text(Passage(identifier, None, text), config, seed).text


def test_a_sentence_is_drawn_by_seed_and_passage_and_loses_its_ending():
    drawn = {sentence(LONG, identifier=str(i)) for i in range(20)}
    assert drawn == {
        "The strait was mapped in 1616 by a Dutch expedition",
        "It looked for a way to the Spice Islands",
    }
    assert sentence(LONG, "a", 1) == sentence(LONG, "a", 1)
    assert len({sentence(LONG, "a", seed) for seed in range(20)}) == 2
    assert sentence("It calls close(fd), then it returns f(x).") == "It calls close(fd), then it returns f(x)"


def test_long_sentences_give_a_part_and_short_ones_are_left_to_the_filter():
    long = "First comes a part of six words, " + "and so on " * 30 + "."
    assert sentence(long, max_words=12) == "First comes a part of six words"
    assert sentence("Too short. Shorter still it is.") == "Shorter still it is"
    assert sentence("word " * 60) == ("word " * 60).strip()
    assert count_words(sentence("One two three four five six seven. " * 3, min_words=6)) == 7
    assert sentence("...") == ""


def test_titles_are_on_one_line():
    config = parse_config({}).generate
    text = title_text(Passage("p", "A  title\nin two lines", LONG), config, 0)
    assert (text.id, text.seed_id, text.text) == ("p/title", "p", "A title in two lines")


def test_settings_follow_the_logs_content_not_its_name(build, tmp_path):
    before = source_settings(build().config)
    copied = tmp_path / "copy.txt"
    copied.write_text((tmp_path / "log.txt").read_text())
    assert source_settings(build(log=str(copied)).config) == before
    copied.write_text("other queries\n")
    assert source_settings(build(log=str(copied)).config) != before
