import copy
import json
import shutil

import pytest
import torch

from gecko_core import Gecko
from gecko_core.backbones import fused
from gecko_core.backbones.base import takes_long_rows
from gecko_core.backbones.fused import FAMILIES, fused_states, fuses
from gecko_core.encode.packing import packed
from gecko_core.encode.probe import Choices
from gecko_core.encode.products import onednn_has_products

pytestmark = pytest.mark.skipif(
    not (onednn_has_products(torch.float32) and takes_long_rows()), reason="needs oneDNN's products and transformers 5"
)
LENGTHS = [40, 38, 33, 9, 9, 5, 1, 1]


@pytest.fixture(scope="module")
def load(backbone_folder):
    def make(kind, **options):
        return Gecko.from_backbone(backbone_folder(kind), dims=(32,), device="cpu", **{"dtype": "float32"} | options)

    return make


def rows_of(lengths=LENGTHS):
    generator = torch.Generator().manual_seed(0)
    return [torch.randint(2, 80, (length,), generator=generator).tolist() for length in lengths]


def batch_of(gecko, rows):
    position = gecko.adapter.padding_position(gecko.backbone.config)
    return packed(rows, 80, padding_position=position, few_shapes=True)


def exact(gecko, rows):
    """Each text by itself, through transformers' own modules, in fp64."""
    backbone = copy.deepcopy(gecko.backbone).double()
    with torch.no_grad():
        states = [backbone(torch.tensor([row]), torch.ones(1, len(row), dtype=torch.int64))[0][0] for row in rows]
    return torch.cat(states)


@pytest.mark.parametrize("way", ["usual", "PyTorch's products", "fused attention"])
@pytest.mark.parametrize("kind", sorted(FAMILIES))
def test_states_against_float64(kind, way, load, monkeypatch):
    gecko, rows = load(kind), rows_of()
    ways = Choices(True, way != "PyTorch's products", {"float32": 0 if way == "fused attention" else 1024})
    monkeypatch.setattr(fused, "choices", lambda: ways)
    monkeypatch.setattr("gecko_core.encode.probe.choices", lambda: ways)
    with torch.inference_mode():
        assert fuses(gecko.backbone)
        found = fused_states(gecko.backbone, batch_of(gecko, rows))[: sum(LENGTHS)]
    torch.testing.assert_close(found.double(), exact(gecko, rows), atol=2e-5, rtol=1e-4)


@pytest.mark.skipif(not onednn_has_products(torch.bfloat16), reason="needs bf16")
@pytest.mark.parametrize("weights", ["float32", "bfloat16"])
@pytest.mark.parametrize("kind", sorted(FAMILIES))
def test_bf16_is_as_close_as_the_modules(kind, weights, load, monkeypatch):
    """By autocast and in weights: the error to fp64 is no larger than that of transformers' modules, and a half."""
    gecko, rows = load(kind, dtype=weights), rows_of()
    reference = exact(gecko, rows)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=weights == "float32"):
        assert fuses(gecko.backbone)
        found = fused_states(gecko.backbone, batch_of(gecko, rows))[: sum(LENGTHS)]
        inputs = gecko.collate(rows)
        modules = gecko.backbone(**inputs).last_hidden_state[inputs["attention_mask"].bool()]
    assert found.dtype == modules.dtype
    assert (found.double() - reference).norm() < 1.5 * (modules.double() - reference).norm()


def test_encode_goes_this_way(load, sentences, monkeypatch):
    gecko = load("mpnet")
    called = []
    original = fused._through
    monkeypatch.setattr(fused, "_through", lambda *inputs: called.append(1) or original(*inputs))
    found = gecko.encode(sentences)
    assert len(called) % 2 == 0  # layers
    assert called
    monkeypatch.setenv("GECKO_COMPUTE", "torch")
    called.clear()
    assert abs(gecko.encode(sentences) - found).max() < 3e-6
    assert not called


@pytest.mark.parametrize("how", ["in place", "behind PyTorch's back", "another parameter", "loaded"])
def test_changed_weights_are_made_ready_anew(how, load, sentences):
    gecko, other = load("bert"), load("bert")
    gecko.encode(sentences)
    with torch.no_grad():
        for changed in (gecko, other):
            weight = changed.backbone.encoder.layer[1].output.dense.weight
            if changed is other or how == "in place":
                weight.mul_(0.5)
            elif how == "behind PyTorch's back":
                weight.data.mul_(0.5)
            elif how == "another parameter":
                changed.backbone.encoder.layer[1].output.dense.weight = torch.nn.Parameter(weight * 0.5)
            else:
                changed.backbone.load_state_dict(
                    {k: v * 0.5 if v is weight else v for k, v in changed.backbone.state_dict(keep_vars=True).items()}
                )
    assert abs(gecko.encode(sentences) - other.encode(sentences)).max() < 1e-6


@pytest.mark.parametrize("part", ["bias", "columns", "rows", "embeddings"])
def test_changes_of_a_part_behind_pytorchs_back(part, load, sentences):
    gecko, other = load("bert"), load("bert")
    gecko.encode(sentences)
    for changed in (gecko, other):
        dense = changed.backbone.encoder.layer[0].output.dense
        if part == "bias":
            dense.bias.data.add_(torch.linspace(-1, 1, 32))
        elif part == "columns":
            dense.weight.data[:, 1:] = 0
        elif part == "rows":
            dense.weight.data[1:] = 0
        else:
            changed.backbone.embeddings.word_embeddings.weight.data.mul_(-1)
    assert abs(gecko.encode(sentences) - other.encode(sentences)).max() < 1e-6


def _forward_of_an_instance(layer):
    forward = layer.output.forward
    layer.output.forward = lambda *inputs: forward(*inputs) * torch.linspace(-1, 1, 32)


def _another_class(layer):
    class Scaled(type(layer)):
        def forward(self, *inputs, **options):
            return super().forward(*inputs, **options) * torch.linspace(-1, 1, 32)

    layer.__class__ = Scaled


def _another_activation(layer):
    layer.intermediate.intermediate_act_fn = torch.nn.ReLU()


def _dropout(layer):
    layer.output.dropout.train()


@pytest.mark.parametrize("change", [_forward_of_an_instance, _another_class, _another_activation, _dropout])
def test_what_is_not_as_published_runs_as_it_is(change, load, sentences, monkeypatch):
    gecko = load("bert")
    before = gecko.encode(sentences)
    change(gecko.backbone.encoder.layer[1])
    with torch.no_grad():
        assert not fuses(gecko.backbone)
    if change is not _dropout:
        found = gecko.encode(sentences)
        assert abs(found - before).max() > 1e-4
        monkeypatch.setenv("GECKO_COMPUTE", "torch")
        assert abs(gecko.encode(sentences) - found).max() < 3e-6


def test_hooks_on_all_modules_see_the_layers(load, sentences):
    gecko, seen = load("bert"), set()
    handle = torch.nn.modules.module.register_module_forward_hook(lambda module, *_: seen.add(type(module).__name__))
    try:
        gecko.encode(sentences)
    finally:
        handle.remove()
    assert "BertLayer" in seen


@pytest.mark.parametrize("pad", [0, 1, 5])
@pytest.mark.parametrize("kind", ["mpnet", "roberta"])
def test_positions_whatever_the_padding_token(kind, pad, backbone_folder, tmp_path):
    """MPNet counts from 1 always, RoBERTa from its padding token."""
    folder = tmp_path / "model"
    shutil.copytree(backbone_folder(kind), folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"pad_token_id": pad}))
    gecko = Gecko.from_backbone(folder, dims=(32,), device="cpu", dtype="float32")
    longest = gecko.max_seq_length
    rows = [[token + 6 for token in row] for row in rows_of([longest, 9, 9, 1])]
    rows = [[min(token, 79) for token in row] for row in rows]
    with torch.inference_mode():
        found = fused_states(gecko.backbone, batch_of(gecko, rows))[: sum(map(len, rows))]
    torch.testing.assert_close(found.double(), exact(gecko, rows), atol=2e-5, rtol=1e-4)
    if kind == "roberta":
        assert longest == config["max_position_embeddings"] - pad - 1


def test_only_where_it_can(load, monkeypatch):
    gecko = load("bert")
    backbone = gecko.backbone
    assert not fuses(backbone)  # gradients
    with torch.no_grad():
        assert fuses(backbone)
        handle = backbone.encoder.layer[0].register_forward_hook(lambda *_: None)
        assert not fuses(backbone)
        handle.remove()
        backbone.train()
        assert not fuses(backbone)
        backbone.eval()
        backbone.config._attn_implementation = "eager"
        assert not fuses(backbone)
        backbone.config._attn_implementation = "sdpa"
        backbone.config.hidden_act = "relu"
        assert not fuses(backbone)
        backbone.config.hidden_act = "gelu"
        assert fuses(backbone)
        monkeypatch.setenv("GECKO_COMPUTE", "torch")
        assert not fuses(backbone)
        monkeypatch.delenv("GECKO_COMPUTE")
        backbone.half()
        assert not fuses(backbone)
        assert not fuses(load("modernbert").backbone)


def test_layers_of_another_kind_are_left_alone(load):
    """Such as LoRA's, or weights that are computed."""
    gecko = load("bert")
    dense = gecko.backbone.encoder.layer[1].attention.self.query

    class Wrapped(torch.nn.Linear):
        def forward(self, x):
            return super().forward(x) * 2

    other = Wrapped(32, 32)
    other.load_state_dict(dense.state_dict())
    with torch.no_grad():
        gecko.backbone.encoder.layer[1].attention.self.query = other
        assert not fuses(gecko.backbone)
        gecko.backbone.encoder.layer[1].attention.self.query = dense
        torch.nn.utils.parametrizations.weight_norm(dense)
        assert not fuses(gecko.backbone)
