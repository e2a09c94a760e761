from gecko_fret.corpus import python_docs
from gecko_fret.python_docs import python_doc_records


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


def test_ids_are_unique_and_order_is_fixed(python_docs_corpus):
    ids = [record[0] for record in python_doc_records()]
    assert len(set(ids)) == len(ids)
    assert python_docs(limit=50).ids == python_docs_corpus.ids[:50]
