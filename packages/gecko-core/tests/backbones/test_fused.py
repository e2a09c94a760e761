import copy

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
