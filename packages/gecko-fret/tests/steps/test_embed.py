import numpy as np
import pytest

from gecko_core.errors import DataError
from gecko_fret.steps.embed import CorpusEmbeddings, embedding_key


@pytest.fixture
def made(small_corpus, fake_embedder, tmp_path):
    embeddings = CorpusEmbeddings(tmp_path, small_corpus, 15)
    for number in range(len(embeddings)):
        passages = small_corpus[number * 15 : (number + 1) * 15]
        texts, titles = [passage.text for passage in passages], [passage.title for passage in passages]
        embeddings.write(number, fake_embedder().encode_documents(texts, titles))
    return embeddings


def test_blocks_are_the_corpus_in_order(made, small_corpus, fake_embedder):
    blocks = made.blocks()
    assert [len(block) for block in blocks] == [15, 15, 10]
    expected = fake_embedder().encode_documents(small_corpus.texts, small_corpus.titles)
    assert np.array_equal(np.concatenate(blocks), expected)
    assert all(isinstance(block, np.memmap) for block in blocks)


def test_missing_and_damaged_blocks_are_named(made):
    made.path(1).write_bytes(made.path(1).read_bytes()[:40])
    with pytest.raises(DataError, match=r"part-00001\.npy: the part is damaged or lost .* run the same build again"):
        made.blocks()
    made.path(1).unlink()
    assert not made.exists(1)
    with pytest.raises(DataError, match=r"part-00001\.npy"):
        made.blocks()


def test_key_follows_corpus_model_and_prompt(small_corpus, fake_embedder):
    class Other(fake_embedder):
        prompt_style = "gecko"

    keys = {
        embedding_key(small_corpus, fake_embedder(), 15),
        embedding_key(small_corpus.subset(["doc-01"]), fake_embedder(), 15),
        embedding_key(small_corpus, Other(), 15),
        embedding_key(small_corpus, fake_embedder(), 16),
    }
    assert len(keys) == 4
