import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from gecko_core.errors import ConfigError, ModelError
from gecko_train.mntp.head import LanguageHead, token_losses


@pytest.mark.parametrize(("rows", "vocabulary", "chunk"), [(1, 1, 1), (5, 17, 4), (13, 64, 64), (7, 100, 33)])
@pytest.mark.parametrize("scale", [1.0, 300.0])
@pytest.mark.parametrize("cap", [None, 30.0])
def test_losses_and_gradients_are_those_of_plain_cross_entropy(rows, vocabulary, chunk, scale, cap):
    torch.manual_seed(0)
    hidden = (torch.randn(rows, 9) * scale).requires_grad_()
    weight = torch.randn(vocabulary, 9).requires_grad_()
    targets, upstream = torch.randint(vocabulary, (rows,)), torch.rand(rows)

    exact_hidden, exact_weight = (tensor.detach().double().requires_grad_() for tensor in (hidden, weight))
    logits = exact_hidden @ exact_weight.T
    logits = logits if cap is None else cap * torch.tanh(logits / cap)
    expected = cross_entropy(logits, targets, reduction="none")
    (expected * upstream.double()).sum().backward()

    losses = token_losses(hidden, LanguageHead(weight, cap), targets, chunk)
    (losses * upstream).sum().backward()
    torch.testing.assert_close(losses.double(), expected, rtol=1e-5, atol=1e-4 * scale)
    torch.testing.assert_close(hidden.grad.double(), exact_hidden.grad, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(weight.grad.double(), exact_weight.grad, rtol=1e-4, atol=1e-4 * scale)


def test_a_frozen_head_gets_no_gradient():
    hidden, weight = torch.randn(3, 4).requires_grad_(), torch.randn(10, 4)
    token_losses(hidden, LanguageHead(weight), torch.tensor([0, 5, 9]), 4).sum().backward()
    assert weight.grad is None
    assert torch.isfinite(hidden.grad).all()


def test_a_tied_head_is_the_token_embeddings(bidirectional, language_model):
    head = LanguageHead.of(bidirectional, str(language_model()))
    assert head.weight is bidirectional.backbone.get_input_embeddings().weight
    assert head.cap is None


def test_a_head_of_its_own_is_read_from_the_language_model(language_model):
    from transformers import LlamaForCausalLM

    from gecko_core import Gecko

    folder = language_model(tied=False)
    model = Gecko.from_backbone(folder, dims=(32,), device="cpu", dtype=torch.float32)
    whole = LlamaForCausalLM.from_pretrained(folder)
    np.testing.assert_array_equal(
        LanguageHead.of(model, str(folder)).weight, whole.get_output_embeddings().weight.detach()
    )


def test_an_embedder_without_the_language_models_head_is_refused(language_model, tmp_path):
    from gecko_core import Gecko

    model = Gecko.from_backbone(language_model(tied=False), dims=(32,), device="cpu", dtype=torch.float32)
    model.save_pretrained(tmp_path / "embedder")
    with pytest.raises(ModelError, match=r"has no lm_head.weight"):
        LanguageHead.of(model, str(tmp_path / "embedder"))


def test_an_encoder_is_refused(tiny_model):
    with pytest.raises(ConfigError, match="bert is no language model"):
        LanguageHead.of(tiny_model, "x")
