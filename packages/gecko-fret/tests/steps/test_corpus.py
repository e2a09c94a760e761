import pyarrow.parquet as pq
import pytest

from gecko_core.errors import DataError
from gecko_fret.build.pipeline import build_fret
from gecko_fret.config import parse_config
from gecko_fret.corpus import Corpus, Dropped
from gecko_fret.steps import CORPUS


@pytest.fixture
def folder(small_corpus, make_models, tmp_path):
    corpus = Corpus(small_corpus, dropped=[Dropped("x", "duplicate", "doc-01", "the same again")])
    config = {"llm": {"model": "fake"}, "generate": {"seeds": 6, "max_copied": 1.0}, "corpus": {"part_size": 15}}
    config["mine"] = {"fuse": "rrf"}
    build_fret(parse_config(config), tmp_path / "fret", corpus=corpus, models=make_models())
    return tmp_path / "fret"


def test_the_folder_keeps_the_corpus_in_parts(folder, small_corpus):
    assert [len(pq.read_table(path, partitioning=None)) for path in CORPUS.part_files(folder)] == [15, 15, 10]
    read = CORPUS.read(folder)
    assert list(read) == list(small_corpus)
    assert read.hash == small_corpus.hash


def test_what_the_reader_dropped_is_listed_once(folder):
    (reject,) = list(CORPUS.rejects(folder))
    assert (reject.stage, reject.reason, reject.id, reject.detail) == ("corpus", "duplicate", "x", "doc-01")


def test_a_folder_without_a_corpus_is_one_line(tmp_path):
    with pytest.raises(DataError, match="no corpus part; run the build again"):
        CORPUS.read(tmp_path)
