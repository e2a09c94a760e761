from gecko_fret.corpus import Corpus, Passage
from gecko_train.config import SetConfig
from gecko_train.data.sources.base import SourceContext
from gecko_train.data.sources.registry import load_set


def test_title_body_rows_come_from_the_runs_corpus():
    body = "words " * 50
    corpus = Corpus([Passage(str(n), f"a telling title {n}", f"{body} {n}") for n in range(3)])
    rows = list(load_set(SetConfig(source="title-body"), SourceContext(corpus)))
    assert [row.query for row in rows] == [f"a telling title {n}" for n in range(3)]
    assert rows[0].positive.title is None
    assert rows[0].task == "search result"
    assert rows[0].negatives == ()
