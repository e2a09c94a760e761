import pytest
import torch

from gecko_core.errors import ModelError
from gecko_fret.llm.fingerprint import files_fingerprint
from gecko_fret.llm.loading import load_tokenizer, plain_folder


def test_folder_is_taken_as_it_is(tmp_path, tiny_model, word_tokenizer):
    tiny_model.save_pretrained(tmp_path)
    word_tokenizer.save_pretrained(tmp_path)
    assert plain_folder(str(tmp_path)) == str(tmp_path)
    assert load_tokenizer(str(tmp_path))("a cat")["input_ids"] == word_tokenizer("a cat")["input_ids"]


def test_missing_tokenizer_is_one_line(tmp_path):
    with pytest.raises(ModelError, match="no tokenizer"):
        load_tokenizer(str(tmp_path))


def test_fingerprint_follows_the_weights(tmp_path, tiny_model):
    assert files_fingerprint(tmp_path) == ""
    tiny_model.save_pretrained(tmp_path)
    first = files_fingerprint(tmp_path)
    assert first == files_fingerprint(tmp_path)
    (tmp_path / "notes.txt").write_text("not weights")
    assert files_fingerprint(tmp_path) == first
    torch.save({}, tmp_path / "more.pt")
    assert files_fingerprint(tmp_path) != first
