from gecko_fret.config import parse_config
from gecko_fret.corpus.passages import Passage
from gecko_fret.judges import Batch, JudgeSetup, Pair, Similarity
from gecko_fret.models import Models
from gecko_fret.prompting import load_prompts


def test_it_says_what_retrieval_found_and_loads_no_model(small_corpus):
    setup = JudgeSetup(parse_config({"llm": {"model": "no-such-model"}}), Models(), small_corpus)
    pairs = [Pair("q", "search result", "query", Passage("a", None, "text"), value) for value in (0.25, -1.0)]
    assert Similarity(setup).judge(Batch(pairs, setup, load_prompts("default"))) == [0.25, -1.0]
    assert Similarity.passes(setup.config.score) == 0
