from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gecko_core.encode.texts import checked_max_length, checked_texts, padded
from gecko_core.errors import ConfigError, DataError, ModelError


@pytest.mark.parametrize("wrong", [None, 3, b"bytes", ["nested"], float("nan")])
def test_what_is_not_text_is_named_with_its_row(wrong):
    with pytest.raises(DataError, match=r"row 2: text is \w+, not str"):
        checked_texts(["a", "b", wrong])


def test_a_single_string_is_not_a_list():
    with pytest.raises(DataError, match="wrap the single text"):
        checked_texts("gecko")


def test_a_data_frame_is_refused_and_its_column_read():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"text": ["a", "b"]})
    with pytest.raises(DataError, match="came as a DataFrame"):
        checked_texts(frame)
    assert checked_texts(frame["text"]) == ["a", "b"]


def test_arrows_scalars_are_refused_with_their_cure():
    pa = pytest.importorskip("pyarrow")
    column = pa.array(["a", "b"])
    with pytest.raises(DataError, match=r"row 0: text is StringScalar, not str; give str, as \.to_pylist\(\) does"):
        checked_texts(list(column))
    assert checked_texts(column.to_pylist()) == ["a", "b"]


def test_row_numbers_go_on_in_a_stream():
    with pytest.raises(DataError, match="row 1001"):
        checked_texts(["a", None], first=1000)


def test_lone_surrogates_are_replaced_and_pairs_joined():
    assert checked_texts(["a\ud800b", "\ud83e\udd8e", "", "守宫"]) == ["a\ufffdb", "\U0001f98e", "", "守宫"]


@given(st.lists(st.text(st.characters(), max_size=20), max_size=5))
def test_every_string_becomes_encodable(texts):
    for before, after in zip(texts, checked_texts(texts), strict=True):
        after.encode("utf-8")
        if not any("\ud800" <= c <= "\udfff" for c in before):
            assert after == before


@given(st.lists(st.lists(st.integers(0, 79), min_size=1, max_size=9), min_size=1, max_size=6))
def test_padding_is_on_the_right_and_masked(rows):
    batch = padded(rows, pad_id=1, vocabulary=80)
    assert batch["input_ids"].shape == batch["attention_mask"].shape == (len(rows), max(map(len, rows)))
    for row, ids, mask in zip(rows, batch["input_ids"], batch["attention_mask"], strict=True):
        assert ids[: len(row)].tolist() == row
        assert (ids[len(row) :] == 1).all()
        assert np.array_equal(mask.numpy(), np.arange(len(mask)) < len(row))


@pytest.mark.parametrize("wrong", [80, -1, 2**40])
def test_token_ids_out_of_range(wrong):
    with pytest.raises(ModelError, match=f"token id {wrong} is outside of the backbone's 80 embeddings"):
        padded([[1, 2], [3, wrong]], pad_id=1, vocabulary=80)


def test_an_empty_batch_is_refused():
    with pytest.raises(DataError, match="empty batch"):
        padded([], pad_id=0, vocabulary=80)


def test_max_length():
    assert checked_max_length(None, 64) == 64
    assert checked_max_length(16, 64) == 16
    assert checked_max_length(128, 64) == 64
    assert type(checked_max_length(np.int64(16), 64)) is int
    for wrong in (0, True, 2.0):
        with pytest.raises(ConfigError, match="max_length"):
            checked_max_length(wrong, 64)


def test_token_ids_equal_those_of_the_tokenizer(tiny, sentences):
    expected = tiny.tokenizer(sentences, truncation=True, max_length=24)["input_ids"]
    assert tiny.tokenize(sentences, max_length=24) == expected
    assert max(map(len, expected)) == 24


def test_limits_of_threads_do_not_mix(tiny, sentences):
    limits = (6, 12, 24)
    expected = {limit: tiny.tokenize(sentences, max_length=limit) for limit in limits}
    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(lambda n: tiny.tokenize(sentences, max_length=limits[n % 3]), range(120)))
    assert all(ids == expected[limits[n % 3]] for n, ids in enumerate(found))


def test_slow_and_wordless_tokenizers(tiny, monkeypatch):
    """Without a Rust core the tokenizer itself is asked; a text without tokens becomes one padding token."""
    from gecko_core.encode.texts import token_ids

    class Slow:
        pad_token_id = 7

        def num_special_tokens_to_add(self):
            return 1

        def __call__(self, texts, truncation, max_length, padding):
            return {"input_ids": [[len(word) for word in text.split()][:max_length] for text in texts]}

    assert token_ids(Slow(), ["a bc def", ""], 2) == [[1, 2], [7]]
    assert token_ids(Slow(), [], 2) == []


def test_a_length_that_special_tokens_fill(own):
    """The tokenizer would cut off nothing, and a long text would run past the positions."""
    special = own.tokenizer.num_special_tokens_to_add()
    own.max_seq_length = special
    with pytest.raises(
        ConfigError, match=rf"at most {special} tokens has no room.* max_seq_length to {special + 1} or"
    ):
        own.encode(["a gecko"])
    own.max_seq_length = special + 1
    assert [len(row) for row in own.tokenize(["a gecko on the wall"])] == [special + 1]
