import numpy as np
import pytest
import torch

from gecko_core import Gecko
from gecko_core.backbones.base import takes_long_rows
from gecko_core.encode import precision
from gecko_core.encode.int8 import has_int8_products
from gecko_core.errors import ConfigError, ModelError


@pytest.fixture
def fast_bf16(monkeypatch):
    monkeypatch.setattr(precision, "compute_dtype", lambda device: torch.bfloat16)


def test_bf16_keeps_the_vectors_of_a_real_model(minilm, sentences, fast_bf16):
    exact = minilm.encode(sentences)
    minilm.auto_bf16 = True
    try:
        half_precision = minilm.encode(sentences)
    finally:
        minilm.auto_bf16 = False
    assert minilm.bf16_checked[1]
    assert not np.array_equal(exact, half_precision)  # it did compute in bf16
    assert (exact * half_precision).sum(axis=1).min() >= precision.LOWEST_COSINE
    assert minilm.dtype == torch.float32


def test_explicit_fp32_stays_fp32(tiny, fast_bf16, sentences):
    assert not tiny.auto_bf16
    tiny.encode(sentences[:3])
    assert tiny.bf16_checked is None


def test_a_model_that_bf16_would_change_is_left_in_fp32(own, fast_bf16, sentences, monkeypatch):
    exact = own.encode(sentences)
    monkeypatch.setattr(precision, "LOWEST_COSINE", 1.1)
    own.auto_bf16 = True
    assert np.array_equal(own.encode(sentences), exact)
    assert own.bf16_checked[1] is False


def test_the_check_is_made_again_when_weights_change(own, fast_bf16):
    own.auto_bf16 = True
    own.encode(["a gecko"])
    first = own.bf16_checked
    own.encode(["the tokay"])
    assert own.bf16_checked is first
    with torch.no_grad():
        next(own.parameters()).mul_(1.5)
    own.encode(["a gecko"])
    assert own.bf16_checked is not first


@pytest.mark.parametrize("how", ["loaded", "replaced", "behind PyTorch's back"])
def test_the_check_is_made_again_for_other_weights_of_the_same_age(how, own, fast_bf16):
    own.auto_bf16 = True
    own.encode(["a gecko"])
    first = own.bf16_checked
    changed = {name: tensor * 2 for name, tensor in own.state_dict().items()}
    if how == "loaded":
        own.load_state_dict(changed, assign=True)
    elif how == "replaced":
        dense = own.backbone.encoder.layer[0].output.dense
        dense.weight = torch.nn.Parameter(dense.weight.detach() * 2)
    else:
        own.backbone.encoder.layer[0].output.LayerNorm.weight.data.mul_(4)
    own.encode(["a gecko"])
    assert own.bf16_checked is not first


def test_dropout_has_no_part_in_the_check(backbone_folder, fast_bf16):
    kinds = [Gecko.from_backbone(backbone_folder("bert"), dims=(32, 8), device="cpu", dtype="float32") for _ in "ab"]
    for model in kinds:
        model.auto_bf16 = True
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.5
    kinds[1].train()
    kinds[1].backbone.embeddings.eval()
    random = torch.get_rng_state()
    assert kinds[0].identity() == kinds[1].identity()
    assert kinds[0].bf16_checked[1] == kinds[1].bf16_checked[1]
    assert torch.equal(torch.get_rng_state(), random)
    assert kinds[1].training
    assert not kinds[1].backbone.embeddings.training
    assert kinds[1].backbone.encoder.training


needs_int8 = pytest.mark.skipif(
    not (has_int8_products() and takes_long_rows()), reason="needs an x86 CPU with VNNI, and transformers 5"
)


@needs_int8
def test_int8_of_a_real_model(minilm_folder, minilm, sentences):
    model = Gecko.from_pretrained(minilm_folder, dtype="int8")
    exact, found = minilm.encode(sentences), model.encode(sentences)
    assert model.dtype == torch.float32
    cosines = (exact * found).sum(axis=1)
    assert 0.97 < cosines.min() < 0.9999
    assert precision.product_format(model) == "int8"
    assert model.identity() != minilm.identity()
    # Ranges are fixed: a text's vector is the same in any company, but for the last digits.
    alone = np.concatenate([model.encode([text]) for text in sentences[:5]])
    assert abs(alone - found[:5]).max() < 2e-3
    with torch.no_grad():
        rows = model.tokenize(sentences[:5])
        assert torch.equal(model(rows=rows), minilm(rows=rows))  # outside of encode*, fp32


@needs_int8
def test_int8_ranges_are_measured_again_when_weights_change(own):
    own.int8 = True
    own.encode(["a gecko"])
    first = own.int8_checked
    own.encode(["the tokay"])
    assert own.int8_checked is first
    with torch.no_grad():
        own.backbone.embeddings.LayerNorm.weight.mul_(1.5)
    own.encode(["a gecko"])
    assert own.int8_checked[1] != first[1]


@needs_int8
def test_a_model_that_int8_would_change_is_refused(own, monkeypatch):
    own.int8 = True
    monkeypatch.setattr(precision, "LOWEST_INT8_COSINE", 1.1)
    with pytest.raises(
        ModelError, match=r"int8 moves this model's vectors to a cosine of .* \(at least 1.1 .*use float32"
    ):
        own.encode(["a gecko"])


@pytest.mark.parametrize("why", ["processor", "family", "padding", "switch"])
def test_int8_where_there_is_none(why, backbone_folder, own, tmp_path, monkeypatch):
    folder = own.save_pretrained(tmp_path / "model")
    if why == "processor":
        monkeypatch.setattr("gecko_core.backbones.fused.has_int8_products", lambda: False)
    elif why == "family":
        other = Gecko.from_backbone(backbone_folder("t5"), dims=(32,), device="cpu", dtype="float32")
        folder = other.save_pretrained(tmp_path / "t5")
    elif why == "switch":
        monkeypatch.setenv("GECKO_COMPUTE", "torch")
    if why == "padding":
        if not (has_int8_products() and takes_long_rows()):
            pytest.skip("needs an x86 CPU with VNNI, and transformers 5")
        model = Gecko.from_pretrained(folder, dtype="int8")
        model.padding_free = False
        with pytest.raises(ConfigError, match="int8 needs an x86 CPU with VNNI"):
            model.encode(["a gecko"])
    else:
        with pytest.raises(ConfigError, match="int8 needs an x86 CPU with VNNI"):
            Gecko.from_pretrained(folder, dtype="int8")


@needs_int8
def test_int8_of_broken_weights(own):
    own.int8 = True
    with torch.no_grad():
        own.backbone.encoder.layer[0].output.dense.weight.fill_(float("nan"))
    with pytest.raises(ModelError, match="not finite"):
        own.encode(["a gecko"])
