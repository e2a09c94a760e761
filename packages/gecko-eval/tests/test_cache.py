import hashlib
import sqlite3

import numpy as np
import pytest

from gecko_core.errors import DataError, ModelError
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
    with pytest.raises(DataError, match=r"cannot keep embeddings there .*name another folder with --cache"):
        EmbeddingCache(tmp_path / "file", "m")


def test_a_full_disk_asks_for_room_and_no_kept_vector(tmp_path):
    cache = EmbeddingCache(tmp_path, "model")
    (pages,) = cache._db.execute("PRAGMA page_count").fetchone()
    cache._db.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(DataError, match=r"database or disk is full\); make room, or give --no-cache$"):
        cache.embed([str(number) for number in range(50)], lambda texts: np.ones((len(texts), 384), np.float32))


def test_a_damaged_file_is_named_with_the_cure(tmp_path):
    (tmp_path / "m.sqlite").write_bytes(b"this is no database " * 100)
    with pytest.raises(DataError, match=r"m\.sqlite: cannot keep embeddings there \(file is not a database\); delete"):
        EmbeddingCache(tmp_path, "m")


@pytest.mark.parametrize("value", ["x'010203'", "NULL", "'text'", "5"])
def test_vectors_that_are_none_on_disk_are_encoded_again(tmp_path, value):
    cache = EmbeddingCache(tmp_path, "m")
    wanted = cache.embed(["x"], Counter())
    with cache._db:
        cache._db.execute(f"UPDATE checked SET vector = {value}")
    assert np.array_equal(cache.embed(["x"], Counter()), wanted)
    cache.close()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_embeddings_that_are_not_finite_are_refused_and_not_kept(tmp_path, bad):
    cache = EmbeddingCache(tmp_path, "m")
    with pytest.raises(ModelError, match="NaN or infinity for 1 of 2 texts"):
        cache.embed(["x", "y"], lambda texts: np.array([[1.0, bad], [1.0, 0.0]]))
    encode = Counter()
    cache.embed(["x", "y"], encode)
    assert len(encode.calls) == 1
    cache.close()


def test_vectors_of_another_length_are_noticed(tmp_path):
    first = EmbeddingCache(tmp_path, "m")
    first.embed(["a"], lambda texts: np.ones((len(texts), 4), dtype=np.float32))
    with pytest.raises(DataError, match="differ in length from the model's; delete the file"):
        first.embed(["b"], lambda texts: np.ones((len(texts), 3), dtype=np.float32))
    with first._db:
        key = hashlib.sha256(b"c").digest()[:16]
        first._db.execute("INSERT INTO checked VALUES (?, ?, ?)", (key, b"1234", first._checksum(key, b"1234")))
    with pytest.raises(DataError, match="differ in length; delete the file"):
        first.embed(["a", "c"], lambda texts: np.ones((len(texts), 4), dtype=np.float32))


def test_a_vector_that_is_not_what_was_written_is_encoded_again(tmp_path):
    """A flipped bit, or the vector of another text: the file is sound for SQLite."""
    cache, encode = EmbeddingCache(tmp_path, "m"), Counter()
    wanted = cache.embed(["a", "b", "c"], encode)
    keys = [hashlib.sha256(text.encode()).digest()[:16] for text in "abc"]
    with cache._db:
        (blob,) = cache._db.execute("SELECT vector FROM checked WHERE key = ?", (keys[0],)).fetchone()
        cache._db.execute("UPDATE checked SET vector = ? WHERE key = ?", (bytes([blob[0] ^ 1]) + blob[1:], keys[0]))
        other = cache._db.execute("SELECT vector, checksum FROM checked WHERE key = ?", (keys[2],)).fetchone()
        cache._db.execute("UPDATE checked SET vector = ?, checksum = ? WHERE key = ?", (*other, keys[1]))
    encode.calls.clear()
    assert np.array_equal(cache.embed(["a", "b", "c"], encode), wanted)
    assert sorted(text for call in encode.calls for text in call) == ["a", "b"]
    cache.close()


def test_a_cache_that_another_program_holds_is_named(tmp_path):
    cache = EmbeddingCache(tmp_path, "m")
    cache._db.execute("PRAGMA busy_timeout=10")
    other = sqlite3.connect(cache.path)
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(DataError, match="another program holds it"):
        cache.embed(["a"], lambda texts: np.ones((len(texts), 4), dtype=np.float32))
    other.close()


def test_a_file_of_another_model_is_encoded_again(tmp_path):
    """Copied or renamed; both models give vectors of one width."""
    first, encode = EmbeddingCache(tmp_path, "first"), Counter()
    first.embed(["a", "b"], encode)
    first.close()
    first.path.rename(tmp_path / "second.sqlite")
    second, again = EmbeddingCache(tmp_path, "second"), Counter()
    second.embed(["a", "b"], again)
    assert (second.hits, second.misses, len(again.calls)) == (0, 2, 1)
    second.close()
