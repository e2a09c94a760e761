"""States of frozen layers, kept: forward passes that begin with them against whole ones."""

import os
import random
import shutil
from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch

from gecko_core import Gecko
from gecko_train.loop.frozen import freeze_layers, keep_still, transformer_layers
from gecko_train.loop.frozen_states import FrozenStates

LAYERS = 3


def made(family, tiny_backbone, tmp_path):
    """A fresh Gecko of a family with three small layers, the lowest two frozen, in training mode."""
    from transformers import (
        AutoModel,
        AutoTokenizer,
        BertConfig,
        LlamaConfig,
        ModernBertConfig,
        MPNetConfig,
        T5Config,
        T5EncoderModel,
    )

    tokenizer = AutoTokenizer.from_pretrained(tiny_backbone)
    common = {"vocab_size": len(tokenizer) + 8, "hidden_size": 32, "num_hidden_layers": LAYERS,
              "num_attention_heads": 2, "intermediate_size": 48, "max_position_embeddings": 80}  # fmt: skip
    config = {
        "bert": lambda: BertConfig(**common),
        "mpnet": lambda: MPNetConfig(**common, pad_token_id=1),
        "modernbert": lambda: ModernBertConfig(**common, pad_token_id=0, bos_token_id=2, eos_token_id=3,
                                               cls_token_id=2, sep_token_id=3, global_attn_every_n_layers=2),
        "llama": lambda: LlamaConfig(**common, num_key_value_heads=2, pad_token_id=0),
        "t5": lambda: T5Config(vocab_size=len(tokenizer), d_model=32, d_kv=16, d_ff=48, num_layers=LAYERS, num_heads=2),
    }[family]()  # fmt: skip
    torch.manual_seed(0)
    backbone = T5EncoderModel(config) if family == "t5" else AutoModel.from_config(config)
    backbone.save_pretrained(tmp_path / family)
    tokenizer.save_pretrained(tmp_path / family)
    model = Gecko.from_backbone(tmp_path / family, dims=(32,), device="cpu", dtype=torch.float32)
    freeze_layers(model, LAYERS - 1)
    model.train()
    keep_still(model, LAYERS - 1)
    return model


def texts(count, seed=0):
    draw = random.Random(seed)
    return [[2, *(draw.randrange(5, 40) for _ in range(draw.randrange(1, 30))), 3] for _ in range(count)]


def states_of(model, folder, **options):
    options = {"dtype": torch.float32, "autocast": nullcontext} | options
    return FrozenStates(model, LAYERS - 1, folder, **options)


def passed(model, rows, given=nullcontext()):
    """Embeddings and all gradients of a forward pass; the layer on top has dropout."""
    model.zero_grad(set_to_none=True)
    torch.manual_seed(1)
    with given:
        embeddings = model(rows=rows)
    embeddings.square().sum().backward()
    gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    return embeddings.detach(), gradients


@pytest.mark.parametrize("together", [1, 64])
@pytest.mark.parametrize("padding_free", [True, False])
@pytest.mark.parametrize("family", ["bert", "mpnet", "modernbert", "llama"])
def test_a_pass_from_kept_states_is_the_whole_one(family, padding_free, together, tiny_backbone, tmp_path):
    model = made(family, tiny_backbone, tmp_path)
    model.padding_free = padding_free
    kept = states_of(model, tmp_path, together=together)
    for count in (7, 1, 2):
        rows = sorted(texts(count), key=len, reverse=True)
        whole, gradients = passed(model, rows)
        kept.prepare(rows)
        again, same = passed(model, rows, kept.given(rows))
        torch.testing.assert_close(again, whole, rtol=1e-4, atol=1e-5)
        assert same.keys() == gradients.keys()
        for name, gradient in gradients.items():
            torch.testing.assert_close(same[name], gradient, rtol=1e-3, atol=1e-4)
    assert not any("forward" in module.__dict__ for module in model.modules())


def test_every_text_is_computed_once_and_alone(tiny_backbone, tmp_path, monkeypatch):
    model = made("bert", tiny_backbone, tmp_path)
    kept, rows = states_of(model, tmp_path), texts(6)
    seen = []
    lowest = transformer_layers(model.backbone)[0]
    monkeypatch.setattr(lowest, "forward", lambda hidden, *a, **o: seen.append(hidden.shape) or type(lowest).forward(
        lowest, hidden, *a, **o))  # fmt: skip
    assert sorted(kept.prepare([*rows, rows[0]])) == sorted(map(len, rows))
    assert len(seen) == 6
    assert kept.prepare(rows[::-1]) == []
    passed(model, rows, kept.given(rows))
    assert len(seen) == 6
    # What a text's states are does not depend on what came before it.
    other = states_of(model, tmp_path)
    other.prepare(rows[3:])
    other.prepare(rows[:3])
    assert torch.equal(passed(model, rows, kept.given(rows))[0], passed(model, rows, other.given(rows))[0])


def test_states_are_kept_in_the_dtype_of_the_products(tiny_backbone, tmp_path):
    model, rows = made("bert", tiny_backbone, tmp_path), texts(4)
    kept = states_of(model, tmp_path, dtype=torch.bfloat16)
    kept.prepare(rows)
    whole, _ = passed(model, rows)
    rounded, _ = passed(model, rows, kept.given(rows))
    assert not torch.equal(rounded, whole)
    torch.testing.assert_close(rounded, whole, rtol=0.05, atol=0.05)


@pytest.mark.parametrize("fault", ["little room", "full disk", "half written"])
def test_without_room_they_are_computed_in_every_step(fault, tiny_backbone, tmp_path, monkeypatch):
    model, rows = made("bert", tiny_backbone, tmp_path), texts(5)
    if fault == "little room":
        room = 2 * 4 * 32 * (len(rows[0]) + len(rows[1]))
        monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=room))
    kept = states_of(model, tmp_path)

    def full(*_):
        raise OSError(28, "No space left on device")

    if fault != "little room":
        monkeypatch.setattr(os, "pwrite", full if fault == "full disk" else lambda *_: 1)
    whole, _ = passed(model, rows)
    for _ in range(2):
        computed = kept.prepare(rows)
        assert computed
        torch.testing.assert_close(passed(model, rows, kept.given(rows))[0], whole, rtol=1e-4, atol=1e-5)
    assert (len(computed) < len(rows)) == (fault == "little room")


def test_layers_that_hand_on_more_than_states_run_every_time(tiny_backbone, tmp_path):
    model, rows = made("t5", tiny_backbone, tmp_path), texts(4)
    kept = states_of(model, tmp_path)
    whole, gradients = passed(model, rows)
    for _ in range(2):
        assert kept.prepare(rows) == [len(row) for row in rows]
        again, same = passed(model, rows, kept.given(rows))
        assert torch.equal(again, whole)
        assert same.keys() == gradients.keys()


def test_layers_below_which_something_is_trained_run_every_time(tiny_backbone, tmp_path):
    model, rows = made("bert", tiny_backbone, tmp_path), texts(3)
    transformer_layers(model.backbone)[0].output.dense.bias.requires_grad_(True)
    kept = states_of(model, tmp_path)
    for _ in range(2):
        assert len(kept.prepare(rows)) == 3
    _, gradients = passed(model, rows, kept.given(rows))
    assert any(".layer.0." in name for name in gradients)


def test_nothing_is_left_in_the_folder(tiny_backbone, tmp_path):
    model = made("bert", tiny_backbone, tmp_path)
    kept = states_of(model, tmp_path / "stage")
    kept.prepare(texts(3))
    assert list((tmp_path / "stage").iterdir()) == []
