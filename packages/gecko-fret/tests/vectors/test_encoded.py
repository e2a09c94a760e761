"""Fields encoded once, resumed where they stopped, and mapped by document."""

import numpy as np
import pytest

from gecko_core.fields import read_fields
from gecko_core.io import Silent
from gecko_fret.vectors import encode_fields

PASSAGES = [
    ("a#0", "Heading", "first text", ["one", "two"], []),
    ("a#1", "Heading", "second text", [], ["three"]),
    ("b", None, "third text", [], []),
]


def test_every_field_of_every_document(word_model, make_run, tmp_path):
    texts = read_fields(make_run(PASSAGES), "all")
    encoded = encode_fields(word_model, texts, tmp_path / "work", "search result", Silent())
    assert {name: rows.tolist() for name, rows in encoded.documents.items()} == {
        "chunks": [0, 0, 1],
        "title": [0],
        "queries": [0, 0, 0],
    }
    chunks = word_model.encode_documents(["first text", "second text", "third text"], ["Heading", "Heading", None])
    assert np.array_equal(encoded.vectors["chunks"], chunks)
    assert np.array_equal(encoded.vectors["queries"], word_model.encode(["one", "two", "three"]))
    assert encoded.rows("queries", 1, 2) == slice(3, 3)
    cut = encoded.at("title", slice(0, 1), 10)
    np.testing.assert_allclose(np.linalg.norm(cut, axis=1), 1, atol=1e-6)
    assert np.array_equal(encoded.at("title", np.array([0]), 96), encoded.vectors["title"])


def test_what_is_there_is_not_encoded_again_unless_texts_changed(word_model, make_run, tmp_path):
    run, work = make_run(PASSAGES), tmp_path / "work"

    def encoded(queries, task="search result"):
        before = word_model.encoded
        encode_fields(word_model, read_fields(run, queries), work, task, Silent())
        return word_model.encoded - before

    assert encoded("all") == 3 + 1 + 3
    assert encoded("all") == 0
    [kept] = work.glob("queries-*.npy")
    kept.unlink()
    assert encoded("all") == 3
    assert encoded("answered") == 2  # chunks and titles are the same
    assert encoded("answered", "question answering") == 2


@pytest.mark.parametrize("damage", ["flipped", "short", "unknown"])
def test_vectors_that_were_damaged_are_made_again(word_model, make_run, tmp_path, damage):
    texts, work = read_fields(make_run(PASSAGES), "all"), tmp_path / "work"
    whole = encode_fields(word_model, texts, work, "search result", Silent()).vectors["title"].copy()
    [kept] = work.glob("title-*.npy")
    if damage == "flipped":
        raw = bytearray(kept.read_bytes())
        raw[-5] ^= 0x7F
        kept.write_bytes(bytes(raw))
    elif damage == "short":
        np.save(kept, np.zeros((5, 96), dtype=np.float32))
    else:
        kept.with_suffix(".sha256").unlink()
    before = word_model.encoded
    assert np.array_equal(encode_fields(word_model, texts, work, "search result", Silent()).vectors["title"], whole)
    assert word_model.encoded == before + 1
    encode_fields(word_model, texts, work, "search result", Silent())
    assert word_model.encoded == before + 1
