from itertools import islice

from gecko_fret.corpus.docstrings import documentation_passages
from gecko_fret.corpus.load import python_docs


def test_known_texts_are_there(python_docs_corpus):
    by_id = {passage.id: passage for passage in python_docs_corpus}
    dedent = by_id["doc:textwrap.dedent:0"]
    assert dedent.title == "Remove any common leading whitespace from every line in `text`."
    assert "lined up" in dedent.text or "line up" in dedent.text
    assert any(identifier.startswith("topic:") for identifier in by_id)
    assert any(identifier.startswith("members:builtins.str") for identifier in by_id)


def test_no_tests_and_no_third_party_packages(python_docs_corpus):
    names = [identifier.split(":")[1] for identifier in python_docs_corpus.ids]
    assert not [n for n in names if n.startswith(("test.", "idlelib.", "lib2to3.", "site-packages", "turtledemo."))]


def test_order_is_fixed(python_docs_corpus):
    assert python_docs(limit=50).ids == python_docs_corpus.ids[:50]
    first = [passage.id for passage in islice(documentation_passages(), 200)]
    assert [identifier for identifier in first if identifier in python_docs_corpus] == [
        identifier for identifier in python_docs_corpus.ids if identifier in set(first)
    ]
