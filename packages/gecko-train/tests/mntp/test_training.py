import importlib.util
import io
import shutil

import numpy as np
import pytest
import torch
from rich.console import Console
from torch.nn.functional import cross_entropy

from gecko_core import Gecko
from gecko_core.errors import ConfigError
from gecko_train.config import LoraConfig, MntpConfig, TrainerConfig
from gecko_train.mntp.head import LanguageHead
from gecko_train.mntp.masking import Masked
from gecko_train.mntp.sequences import Sequences
from gecko_train.mntp.training import _Mntp, mask_id, train_mntp

needs_peft = pytest.mark.skipif(importlib.util.find_spec("peft") is None, reason="needs the extra `lora`")


@pytest.fixture
def fresh(language_model):
    return lambda: Gecko.from_backbone(language_model(), dims=(32,), device="cpu", dtype=torch.float32)


def sequences(model, length=16):
    """Texts in which every token follows from its neighbours: an alphabet that goes round."""
    words = [f"{chr(97 + (start + step) % 16)}" for start in range(8) for step in range(48)]
    ids = np.array(model.tokenizer.convert_tokens_to_ids(words))
    return Sequences(ids, model.tokenizer.all_special_ids, length)


def config(steps, lora=None, **options):
    trainer = {"batch_size": 8, "max_steps": steps, "learning_rate": 5e-3, "precision": "fp32", "max_seq_length": 16}
    return MntpConfig(trainer=TrainerConfig(**trainer | {"checkpoint_every": 2, "lora": lora} | options))


def run(model, folder, settings, seed=0):
    head = LanguageHead.of(model, "")
    quiet = Console(file=io.StringIO())
    return train_mntp(model, head, sequences(model), settings, folder, seed=seed, start="x", console=quiet)


def weights(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def test_a_model_learns_what_its_neighbours_say(fresh, tmp_path):
    summary = run(fresh(), tmp_path, config(150))
    assert summary.first_loss > 2.5  # nats; 24 words
    assert summary.last_loss < 1.0
    assert (summary.steps, summary.rows, summary.tokens) == (150, 1200, 150 * 8 * 16)
    assert (tmp_path / "curves.png").exists()


def test_a_token_is_told_from_the_state_before_it(fresh, tmp_path, without_dropout):
    model = fresh()
    trainer = _Mntp(model, LanguageHead.of(model, ""), sequences(model), config(1), tmp_path, 0, "")
    ids = np.arange(4, 20)[None].repeat(2, axis=0)
    masked = Masked(ids, np.array([0, 1, 1]), np.array([1, 5, 15]), np.array([5, 9, 6]))
    with torch.no_grad():
        found = torch.cat([trainer._losses(masked, slice(0, 1)), trainer._losses(masked, slice(1, 2))])
        states = model.backbone(input_ids=torch.from_numpy(ids), attention_mask=torch.ones(2, 1, 16, 16).bool())
        logits = states.last_hidden_state @ model.backbone.get_input_embeddings().weight.T
    expected = cross_entropy(logits[[0, 1, 1], [0, 4, 14]], torch.tensor([5, 9, 6]), reduction="none")
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_micro_batches_change_nothing(fresh, tmp_path):
    one, many = fresh(), fresh()
    run(one, tmp_path / "one", config(3))
    run(many, tmp_path / "many", config(3, micro_batch_tokens=64))
    for name, tensor in weights(one).items():
        torch.testing.assert_close(many.state_dict()[name], tensor, rtol=1e-4, atol=1e-5)


def test_a_killed_run_ends_with_the_same_weights(fresh, tmp_path):
    whole, resumed = fresh(), fresh()
    run(whole, tmp_path / "whole", config(5))
    run(fresh(), tmp_path / "stopped", config(5))
    shutil.rmtree(tmp_path / "stopped" / "checkpoints" / "step-000005")  # what a kill after step 4 leaves
    torch.manual_seed(99)  # what happened before must not matter
    run(resumed, tmp_path / "stopped", config(5))
    for name, tensor in weights(whole).items():
        assert torch.equal(resumed.state_dict()[name], tensor), name


def test_a_checkpoint_of_another_run_is_refused(fresh, tmp_path):
    run(fresh(), tmp_path, config(2))
    with pytest.raises(ConfigError, match="a checkpoint of another run"):
        run(fresh(), tmp_path, config(3))


@needs_peft
def test_adapters_end_in_the_weights(fresh, tmp_path):
    model = fresh()
    before = weights(model)
    run(model, tmp_path / "run", config(4, LoraConfig(rank=4, alpha=8)))
    after = model.state_dict()
    assert after.keys() == before.keys()
    changed = {name for name in after if not torch.equal(after[name], before[name])}
    assert changed
    assert all("proj" in name for name in changed)
    assert all(parameter.requires_grad for parameter in model.parameters())
    model.save_pretrained(tmp_path / "model")
    again = Gecko.from_pretrained(tmp_path / "model", dtype=torch.float32)
    np.testing.assert_allclose(again.encode(["a b c"]), model.encode(["a b c"]), atol=1e-5)


def test_the_mask_token(fresh, tiny_model):
    model = fresh()
    assert mask_id(model, None) == model.tokenizer.convert_tokens_to_ids("_")
    assert mask_id(model, "p") == model.tokenizer.convert_tokens_to_ids("p")
    assert mask_id(tiny_model, None) == tiny_model.tokenizer.mask_token_id
    for token in ("a b", "", "zzz"):
        with pytest.raises(ConfigError, match="is not one token of this model"):
            mask_id(model, token)
