"""What small models of several families make of masks, gaps and padding, and what is said of those that cannot run."""

import copy

import pytest
import torch

from gecko_core.errors import ModelError
from gecko_fret.llm import traits
from gecko_fret.llm.decoder import Decoder
from gecko_fret.llm.transformers import TransformersLLM


def decoder_of(model):
    return Decoder(model, "tiny", lambda prefix: [])


@pytest.mark.parametrize(
    ("family", "attention", "settings", "counts", "obeys"),
    [
        ("llama", "sdpa", {}, False, True),
        ("llama", "eager", {}, False, False),
        ("mistral", "sdpa", {"sliding_window": 8}, True, True),
        ("mpt", "eager", {"d_model": 32, "n_layers": 2, "n_heads": 4, "max_seq_len": 256}, True, False),
    ],
)
def test_gaps_and_masks(random_model, family, attention, settings, counts, obeys):
    """ALiBi and windows count the padding between a prefix and a text; eager attention adds masks as numbers."""
    decoder = decoder_of(random_model(family, attention, **settings))
    assert traits.counts_keys(decoder) == counts
    assert traits.obeys_masks(decoder) == obeys


def test_states_that_padding_changes_are_refused(random_model, word_tokenizer):
    """Rows of several lengths would change each other's text."""
    model = random_model("rwkv", "eager", attention_hidden_size=32)
    with pytest.raises(ModelError, match=r"LLM 'tiny': its layers carry a state .* use the vllm or openai backend"):
        TransformersLLM(model, word_tokenizer, name="tiny", fingerprint="t", batch_tokens=64, batch_rows=4)


def test_the_packaged_llm_shares_its_prefix_in_both_dtypes(smollm2):
    """Rounding is no distance: rows would read their prefix themselves for nothing."""
    decoder = smollm2._decoder
    assert not decoder.recurrent
    assert not decoder.minds_gaps("", 400)
    rounded = decoder_of(copy.deepcopy(decoder._model).to(torch.bfloat16))
    assert not rounded.minds_gaps("", 400)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_logits_that_are_scaled_after_the_output_layer_are_refused(random_model, monkeypatch, dtype):
    model = random_model("llama").to(dtype)
    model.lm_head.weight.data *= 100  # logits as large as those of trained models
    decoder, forward = decoder_of(model), model.forward

    def scaled(factor):
        def changed(*args, **options):
            output = forward(*args, **options)
            output.logits = output.logits * factor
            return output

        monkeypatch.setattr(model, "forward", changed)

    scaled(1.0 if dtype == torch.float32 else 1.01)  # releases of PyTorch round products in bf16 differently
    assert traits.head_is_whole(decoder, model)
    scaled(1.2)
    with pytest.raises(ModelError, match="LLM 'tiny': its logits are not its output layer's; use the vllm or openai"):
        decoder_of(model)
