import numpy as np
import pytest

from gecko_core.errors import DataError
from gecko_eval.cache import EmbeddingCache


class Counter:
    def __init__(self):
        self.calls = []

    def __call__(self, texts):
        self.calls.append(list(texts))
        return np.array([[len(t), sum(map(ord, t))] for t in texts], dtype=np.float32)


@pytest.mark.parametrize("persistent", [True, False])
def test_every_distinct_text_is_encoded_once_and_order_is_kept(tmp_path, persistent):
    cache, encode = EmbeddingCache(tmp_path if persistent else None, "model", chunk_size=3), Counter()
    texts = ["bb", "a", "bb", "cccc", "a", "ddd", "eeeee"]
    first = cache.embed(texts, encode)
    np.testing.assert_array_equal(first, Counter()(texts))
    assert sorted(t for call in encode.calls for t in call) == ["a", "bb", "cccc", "ddd", "eeeee"]
    np.testing.assert_array_equal(cache.embed(texts, encode), first)
    assert sum(map(len, encode.calls)) == 5
    cache.close()


def test_vectors_outlive_the_process_and_models_do_not_mix(tmp_path):
    encode = Counter()
    one = EmbeddingCache(tmp_path, "one")
    one.embed(["x", "y"], encode)
    one.close()
    again, other = EmbeddingCache(tmp_path, "one"), EmbeddingCache(tmp_path, "two")
    again.embed(["x", "y"], encode)
    assert len(encode.calls) == 1
    other.embed(["x"], encode)
    assert encode.calls[1:] == [["x"]]
    again.close()
    other.close()


def test_what_was_encoded_before_an_interruption_is_kept(tmp_path):
    cache = EmbeddingCache(tmp_path, "m", chunk_size=1)

    def interrupted(texts):
        if texts == ["a"]:
            raise KeyboardInterrupt
        return np.ones((len(texts), 2), dtype=np.float32)

    with pytest.raises(KeyboardInterrupt):
        cache.embed(["a", "ccc", "bb"], interrupted)
    encode = Counter()
    cache.embed(["ccc", "bb", "a"], encode)
    assert encode.calls == [["a"]]
    cache.close()


def test_a_folder_that_cannot_be_used_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"file: cannot keep embeddings there .*--no-cache"):
        EmbeddingCache(tmp_path / "file", "m")
