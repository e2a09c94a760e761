import pytest

from gecko_fret.corpus import python_docs


@pytest.fixture(scope="session")
def python_docs_corpus():
    return python_docs()
