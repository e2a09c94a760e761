import sys

import numpy as np
import pytest
import torch

from gecko_core.errors import ConfigError, ModelError
from gecko_fret.config import parse_config
from gecko_fret.judges import CrossEncoderJudge
from gecko_fret.llm.loading import model_content
from gecko_fret.models import Models
from gecko_fret.prompting import prompt_text

CrossEncoder = pytest.importorskip("sentence_transformers").CrossEncoder
WORDS = "[PAD] [UNK] [CLS] [SEP] the bread sour train coast flour rye yeast what is tastes makes every hour wild ."


@pytest.fixture(scope="module")
def reranker(tmp_path_factory):
    """Saves a tiny random reranker with the real library."""

    def save(labels=1):
        from transformers import BertConfig, BertForSequenceClassification, BertTokenizer

        folder = tmp_path_factory.mktemp("reranker")
        (folder / "vocab.txt").write_text(WORDS.replace(" ", "\n"))
        size = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
        torch.manual_seed(0)
        config = BertConfig(vocab_size=len(WORDS.split()), num_labels=labels, initializer_range=0.5, **size)
        BertForSequenceClassification(config).save_pretrained(folder / "plain")
        BertTokenizer(str(folder / "vocab.txt")).save_pretrained(folder / "plain")
        CrossEncoder(str(folder / "plain"), num_labels=labels).save_pretrained(str(folder / "saved"))
        return folder / "saved"

    return save


def test_values_are_the_logits_of_the_model(judge, pairs, reranker):
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    folder = reranker()
    asked = [*pairs("what makes the bread sour"), *pairs("the train", query_id="r")]
    values, _ = judge("cross-encoder", asked, {"cross_encoder": {"model": str(folder)}})
    model = AutoModelForSequenceClassification.from_pretrained(folder).double().eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    expected = [
        model(**tokenizer(pair.query, prompt_text(pair.passage), return_tensors="pt")).logits.item() for pair in asked
    ]
    assert np.ptp(expected) > 0.1
    np.testing.assert_allclose(values, expected, atol=1e-4)
    one_by_one, _ = judge("cross-encoder", asked, {"cross_encoder": {"model": str(folder), "batch_size": 1}})
    np.testing.assert_allclose(values, one_by_one, atol=1e-4)


def test_long_passages_are_cut(judge, pairs, reranker):
    settings = {"cross_encoder": {"model": str(reranker()), "max_length": 8}}
    (long, short), _ = judge("cross-encoder", pairs("the", ["bread", "train"]), settings)
    assert np.isfinite([long, short]).all()
    whole, _ = judge(
        "cross-encoder", pairs("the", ["bread"]), {"cross_encoder": settings["cross_encoder"] | {"max_length": 64}}
    )
    assert whole[0] != pytest.approx(long, abs=1e-6)


def test_weights_and_length_decide_and_speed_does_not(reranker):
    folder = str(reranker())

    def fingerprint(**section):
        config = parse_config({"score": {"cross_encoder": {"model": folder} | section}})
        return CrossEncoderJudge.fingerprint(config, Models())

    models = Models()
    with models.asking() as asked:  # tokenizer and configuration count as well
        CrossEncoderJudge.fingerprint(parse_config({"score": {"cross_encoder": {"model": folder}}}), models)
    assert asked.models == [model_content(folder)]
    assert fingerprint() == fingerprint(batch_size=4, device="cpu")
    assert fingerprint() != fingerprint(max_length=64)
    assert fingerprint() != fingerprint(model="someone/another")


@pytest.mark.parametrize("places", [16, 64])
def test_a_model_with_few_places_reads_what_it_can(judge, pairs, reranker, tmp_path, places):
    """It ended in a tensor's size: the default is 512."""
    from transformers import AutoConfig, BertForSequenceClassification, BertTokenizer

    config = AutoConfig.from_pretrained(reranker())
    config.max_position_embeddings = places
    torch.manual_seed(1)
    BertForSequenceClassification(config).save_pretrained(tmp_path)
    BertTokenizer.from_pretrained(reranker()).save_pretrained(tmp_path)
    asked = pairs("the bread what is sour train coast " * 20)
    settings = {"cross_encoder": {"model": str(tmp_path)}}
    values, _ = judge("cross-encoder", asked, settings)
    own, _ = judge("cross-encoder", asked, {"cross_encoder": settings["cross_encoder"] | {"max_length": places}})
    assert values == own
    less, _ = judge("cross-encoder", asked, {"cross_encoder": settings["cross_encoder"] | {"max_length": 8}})
    assert less[0] != pytest.approx(values[0], abs=1e-6)


def test_a_tokenizer_that_is_missing_or_another_models_is_one_line(judge, pairs, reranker, tmp_path):
    """Without its files every word was read as unknown, and scores went by the number of words."""
    from transformers import BertForSequenceClassification, BertTokenizer

    model = BertForSequenceClassification.from_pretrained(reranker())
    model.save_pretrained(tmp_path)
    with pytest.raises(
        ModelError, match=r"score\.cross_encoder: .*vocabulary is missing.*fetch the model again"
    ) as caught:
        judge("cross-encoder", pairs("the"), {"cross_encoder": {"model": str(tmp_path)}})
    assert "\n" not in str(caught.value)
    (tmp_path / "words.txt").write_text((WORDS + " far further").replace(" ", "\n"))
    BertTokenizer(str(tmp_path / "words.txt")).save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="has tokens that its model lacks; it is another model's"):
        judge("cross-encoder", pairs("further"), {"cross_encoder": {"model": str(tmp_path)}})


def test_a_model_without_a_head_is_no_reranker(judge, pairs, reranker, tmp_path):
    """sentence-transformers gives any encoder a head at random, whose scores would be taken for judgements."""
    from transformers import BertModel, BertTokenizer

    folder = reranker()
    BertModel.from_pretrained(folder).save_pretrained(tmp_path)
    BertTokenizer.from_pretrained(folder).save_pretrained(tmp_path)
    message = r"score\.cross_encoder: .*: the weights lack 2 tensors \(classifier\.bias, \.\.\.\)"
    with pytest.raises(ModelError, match=message) as caught:
        judge("cross-encoder", pairs("x"), {"cross_encoder": {"model": str(tmp_path)}})
    assert "\n" not in str(caught.value)


def test_what_it_needs_is_one_line(judge, pairs, reranker, tmp_path, monkeypatch):
    with pytest.raises(ConfigError, match=r"needs score\.cross_encoder\.model"):
        CrossEncoderJudge.check(parse_config({"score": {"judges": ["cross-encoder"]}}))
    (tmp_path / "config.json").write_text("{}")
    for model, message in ((str(tmp_path), "cannot be loaded"), (str(reranker(labels=3)), "has 3 outputs")):
        with pytest.raises(ModelError, match=message) as caught:
            judge("cross-encoder", pairs("x"), {"cross_encoder": {"model": model}})
        assert "\n" not in str(caught.value)
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(ModelError, match=r"pip install 'gecko-fret\[rerank\]'"):
        CrossEncoderJudge.check(parse_config({"score": {"cross_encoder": {"model": "a/b"}}}))
